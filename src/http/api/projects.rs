//! `/namespaces/{namespace}/projects`.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
};
use crate::{cluster::access::Attributes, safe::Owner, store};

/// The namespace.
pub(super) static NAMESPACE: Parameter = Parameter::path("namespace", Kind::Name, "The namespace.");
/// A project in the path.
pub(super) static PROJECT: Parameter = Parameter::path("project", Kind::Name, "The project.");

/// Something done to one project, or to all of a namespace.
pub(super) fn on_project(namespace: &str, name: Option<&str>, verb: &'static str) -> Vec<Attributes> {
    vec![Attributes { resource: "projects", namespace: Some(namespace.to_owned()), name: name.map(Into::into), verb }]
}

/// The row of a project.
///
/// # Errors
/// There is none.
pub(super) async fn known(ground: &Ground, namespace: &str, name: &str) -> Result<store::Project, Problem> {
    ground.store.project_get(namespace, name).await?.ok_or_else(Problem::denied)
}

/// The project as the safe asks for it.
pub(super) fn owner(project: &store::Project) -> Owner<'_> {
    Owner { project: project.id, namespace: &project.namespace, name: &project.name }
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Project {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<store::Project> for Project {
    fn from(project: store::Project) -> Self {
        let store::Project { id: _, namespace, name } = project;
        Self { namespace, name }
    }
}

/// The projects of a namespace.
pub(super) struct List {
    namespace: String,
    after: Option<String>,
    limit: i64,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, None, "list")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &LIMIT, &CURSOR],
        access: &[("projects", "list")],
        ..Spec::get("/namespaces/{namespace}/projects", "listProjects", "The projects of a namespace, by name.")
    };

    type Content = ();
    type Answer = Page<Project>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), after: cursor::read(&input)?, limit: cursor::limit(&input) })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Project>>, Problem> {
        let Self { namespace, after, limit } = authorized.command();
        let rows = call.ground.store.projects_list(namespace, after.as_deref(), limit + 1).await?;
        Ok(Reply::of(Page::cut(rows, *limit, |last| last.name.clone(), Project::from)))
    }
}

/// A project.
pub(super) struct Get {
    namespace: String,
    name: String,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.name), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT],
        access: &[("projects", "get")],
        ..Spec::get("/namespaces/{namespace}/projects/{project}", "getProject", "A project.")
    };

    type Content = ();
    type Answer = Project;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), name: input.text("project") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Project>, Problem> {
        let Self { namespace, name } = authorized.command();
        Ok(Reply::of(known(call.ground, namespace, name).await?.into()))
    }
}
