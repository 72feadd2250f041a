//! `/namespaces/{namespace}/projects/{project}/credentials`: what is known about credentials, and new values for them. No
//! operation reads a value.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Ground,
    cursor::Page,
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::{NAMESPACE, PROJECT, known, on_project},
};
use crate::{cluster::access::Attributes, store};

/// A credential in the path.
static CREDENTIAL: Parameter = Parameter::path("credential", Kind::Name, "The credential's name.");

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its name among the project's.
    pub name: String,
    /// What it is for: `registry`, `webhook`, `git`, `cluster` or `generic`.
    pub kind: String,
    /// The registries that it is for.
    pub hosts: Vec<String>,
    /// How many times it was written.
    pub version: i64,
    /// Where its value came from.
    pub origin: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who wrote it last.
    pub updated_by: String,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// When it stops to be accepted, as far as anybody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl From<store::Credential> for Credential {
    fn from(credential: store::Credential) -> Self {
        // Without `..`: whoever adds a field decides whether it may be shown.
        let store::Credential {
            id: _,
            name,
            kind,
            version,
            hosts,
            origin,
            expires_at,
            created_by,
            updated_by,
            created_at,
            updated_at,
            last_used_at,
        } = credential;
        let kind = kind.to_string();
        Self {
            name,
            kind,
            hosts,
            version,
            origin,
            created_by,
            created_at,
            updated_by,
            updated_at,
            expires_at,
            last_used_at,
        }
    }
}

impl Credential {
    /// Which version of it this is, as `ETag` and `If-Match` say it.
    fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// One credential of a project.
///
/// # Errors
/// There is none.
async fn found(ground: &Ground, project: &store::Project, name: &str) -> Result<Credential, Problem> {
    let all = ground.store.credentials_list(project.id).await?;
    let found = all.into_iter().find(|one| one.name == name);
    found.map(Credential::from).ok_or_else(Problem::denied)
}

/// The credentials of a project.
pub(super) struct List {
    namespace: String,
    project: String,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "get")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT],
        access: &[("projects", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/credentials",
            "listCredentials",
            "The credentials of a project, without their values.",
        )
    };

    type Content = ();
    type Answer = Page<Credential>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), project: input.text("project") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Credential>>, Problem> {
        let Self { namespace, project } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let all = call.ground.store.credentials_list(project.id).await?;
        Ok(Reply::of(Page::whole(all.into_iter().map(Credential::from).collect())))
    }
}

/// A credential.
pub(super) struct Get {
    namespace: String,
    project: String,
    name: String,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &CREDENTIAL],
        access: &[("projects", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/credentials/{credential}",
            "getCredential",
            "A credential, without its value.",
        )
    };

    type Content = ();
    type Answer = Credential;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let (namespace, project, name) = (input.text("namespace"), input.text("project"), input.text("credential"));
        Ok(Self { namespace, project, name })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Credential>, Problem> {
        let Self { namespace, project, name } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let found = found(call.ground, &project, name).await?;
        let etag = found.etag();
        Ok(Reply::tagged(found, etag))
    }
}
