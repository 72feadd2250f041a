//! Whose credentials and secrets a command is about, and who gave it.

use super::{Context, failure::Failure};
use crate::{
    domain::actor::Actor,
    safe::Owner,
    store::{Project, Store},
};

/// The project of this name in the namespace of the command line.
///
/// # Errors
/// Nothing was recorded for such a project, or the database is away.
pub async fn project(context: &Context, store: &Store, name: &str) -> Result<Project, Failure> {
    let namespace = context.namespace().await?;
    store.project_get(&namespace, name).await?.ok_or_else(|| {
        Failure::failed(
            format!("there is no project {name} in namespace {namespace} that anything was recorded for"),
            "check the name and --namespace; apply the Project first: the operator records it then",
        )
    })
}

/// The project as the safe asks for it.
pub fn owner(project: &Project) -> Owner<'_> {
    Owner { project: project.id, namespace: &project.namespace, name: &project.name }
}

/// Whoever called, by the name that the machine has for them.
pub fn person() -> Actor {
    let name = std::env::var("USER").ok().filter(|name| !name.is_empty());
    Actor::User(name.unwrap_or_else(|| "unknown".into()))
}
