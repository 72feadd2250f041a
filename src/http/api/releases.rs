//! Releases of a project, and what differs between two deploys.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Ground,
    deploys::{DEPLOY, Found},
    diff::{Difference, difference},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::{NAMESPACE, PROJECT, known, on_project},
    views::{Image, images},
};
use crate::cluster::access::Attributes;

static RELEASE: Parameter =
    Parameter::path("release", Kind::Text, "The release's content hash, or a beginning that only it has.");
static WITH: Parameter =
    Parameter::query("with", Kind::Id, "The other deploy; the one before on the stage when left out.");

/// A release: the exact set of images, one for each service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Release {
    /// Its content hash. Tags do not take part in it.
    pub id: String,
    /// In short: `web 1.4.2, db 16`.
    pub summary: String,
    /// Images by service.
    pub images: BTreeMap<String, Image>,
}

/// A release.
pub(super) struct Get {
    namespace: String,
    project: String,
    release: String,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &RELEASE],
        access: &[("projects", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/releases/{release}",
            "getRelease",
            "A release of a project.",
        )
    };

    type Content = ();
    type Answer = Release;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let (namespace, project, release) = (input.text("namespace"), input.text("project"), input.text("release"));
        Ok(Self { namespace, project, release })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Release>, Problem> {
        let Self { namespace, project, release } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let found = call.ground.store.releases_find(project.id, release).await?;
        // A beginning that several have names none of them.
        let [(id, found)] = found.as_slice() else { return Err(Problem::denied()) };
        Ok(Reply::of(Release { id: id.to_string(), summary: found.summary(), images: images(found) }))
    }
}

/// What differs between two deploys of a namespace.
pub(super) struct Diff {
    to: Found,
    from: Option<Found>,
}

impl Command for Diff {
    fn attributes(&self) -> Vec<Attributes> {
        let from = self.from.iter().flat_map(|from| from.on_stage("get"));
        self.to.on_stage("get").into_iter().chain(from).collect()
    }
}

impl Operation for Diff {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &DEPLOY, &WITH],
        access: &[("stages", "get")],
        about: "Images in full; environment variables and configuration by name and path only: values are not shown.",
        ..Spec::get(
            "/namespaces/{namespace}/deploys/{deploy}/diff",
            "diffDeploys",
            "What a deploy has that another one, or the one before it, has not.",
        )
    };

    type Content = ();
    type Answer = Difference;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        let namespace = input.text("namespace");
        let to = Found::look_up(ground, &namespace, input.id("deploy")).await?;
        let from = match input.optional_id("with") {
            Some(id) => Some(Found::look_up(ground, &namespace, id).await?),
            None => None,
        };
        Ok(Self { to, from })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Difference>, Problem> {
        let Self { to, from } = authorized.command();
        let store = &call.ground.store;
        let to = &to.entry()?.stored;
        let from = match from {
            Some(from) => Some(from.entry()?.stored.clone()),
            None => store.deploy_get(to.deploy.id).await?.and_then(|found| found.predecessor),
        };
        let after = store.deploy_snapshot_get(to.deploy.id).await?.unwrap_or_default();
        let before = match &from {
            Some(from) => store.deploy_snapshot_get(from.deploy.id).await?.unwrap_or_default(),
            None => serde_json::Value::Null,
        };
        let releases = (from.as_ref().map(|from| &from.release), &to.release);
        Ok(Reply::of(Difference {
            from: from.as_ref().map(|from| from.deploy.id),
            to: to.deploy.id,
            ..difference(releases, &before, &after)
        }))
    }
}
