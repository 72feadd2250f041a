//! `/namespaces/{namespace}/projects/{project}/secrets`: what is known about the secrets of workloads, and new values for them.
//! No operation reads a value.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Ground,
    cursor::Page,
    guard::{Authorized, Command},
    input::Input,
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::{NAMESPACE, PROJECT, known, on_project},
};
use crate::{cluster::access::Attributes, domain::secret::SecretId, store};

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The one service that it is for; left out when it is for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
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
    /// When it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl From<store::Secret> for Secret {
    fn from(one: store::Secret) -> Self {
        // Without `..`: whoever adds a field decides whether it may be shown.
        let store::Secret {
            id: _,
            secret,
            version,
            origin,
            created_by,
            updated_by,
            created_at,
            updated_at,
            last_used_at,
        } = one;
        let SecretId { name, service } = secret;
        Self { name, service, version, origin, created_by, created_at, updated_by, updated_at, last_used_at }
    }
}

/// The secrets of a project.
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
            "/namespaces/{namespace}/projects/{project}/secrets",
            "listSecrets",
            "The secrets of a project, without their values: those for all services first, by name.",
        )
    };

    type Content = ();
    type Answer = Page<Secret>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), project: input.text("project") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Secret>>, Problem> {
        let Self { namespace, project } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let all = call.ground.store.secrets_list(project.id).await?;
        Ok(Reply::of(Page::whole(all.into_iter().map(Secret::from).collect())))
    }
}
