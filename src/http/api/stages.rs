//! `/namespaces/{namespace}/stages`.

use std::collections::HashMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    views::DeployBrief,
};
use crate::{
    cluster::access::Attributes,
    store::{Target, TargetState},
};

/// A stage in the path.
pub(super) static STAGE: Parameter = Parameter::path("stage", Kind::Name, "The stage.");
/// Only one project.
pub(super) static OF_PROJECT: Parameter = Parameter::query("project", Kind::Name, "Only of this project.");

/// Something done to one stage, or to all of a namespace.
pub(super) fn on_stage(namespace: &str, name: Option<&str>, verb: &'static str) -> Vec<Attributes> {
    vec![Attributes { resource: "stages", namespace: Some(namespace.to_owned()), name: name.map(Into::into), verb }]
}

/// The row of a stage.
///
/// # Errors
/// There is none.
pub(super) async fn known(ground: &Ground, namespace: &str, name: &str) -> Result<Target, Problem> {
    ground.store.stage_get(namespace, name).await?.ok_or_else(Problem::denied)
}

/// A stage in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageBrief {
    /// Its namespace.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its newest deploy, however that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<DeployBrief>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// What is in every list.
    #[serde(flatten)]
    pub brief: StageBrief,
    /// The last deploy that succeeded and whose release is not vetoed: what a failed one goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<DeployBrief>,
    /// Deploys that are not finished, in order.
    pub open: Vec<DeployBrief>,
    /// Instances that are there.
    pub instances: Vec<Instance>,
    /// Releases that do not come here by themselves.
    pub vetoes: Vec<Veto>,
}

/// An instance of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// The deploy that it runs.
    pub deploy: Uuid,
    /// `running`, `stopped` and the like.
    pub status: String,
}

/// A release that does not come to a stage by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Veto {
    /// Its content hash.
    pub release: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Who said so.
    pub actor: String,
    /// When.
    pub at: Timestamp,
}

/// The stages of a namespace.
pub(super) struct List {
    namespace: String,
    project: Option<String>,
    after: Option<String>,
    limit: i64,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, None, "list")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &OF_PROJECT, &LIMIT, &CURSOR],
        access: &[("stages", "list")],
        ..Spec::get("/namespaces/{namespace}/stages", "listStages", "The stages of a namespace, by name.")
    };

    type Content = ();
    type Answer = Page<StageBrief>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self {
            namespace: input.text("namespace"),
            project: input.get("project").map(Into::into),
            after: cursor::read(&input)?,
            limit: cursor::limit(&input),
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<StageBrief>>, Problem> {
        let Self { namespace, project, after, limit } = authorized.command();
        let store = &call.ground.store;
        let targets = store.stages_list(namespace, project.as_deref(), after.as_deref(), limit + 1).await?;
        let ids: Vec<Uuid> = targets.iter().map(|target| target.id).collect();
        let latest = store.deploys_latest(&ids).await?;
        let mut latest: HashMap<Uuid, DeployBrief> =
            latest.iter().map(|stored| (stored.deploy.target, stored.into())).collect();
        let view = |target: Target| {
            let latest = latest.remove(&target.id);
            brief(target, latest)
        };
        Ok(Reply::of(Page::cut(targets, *limit, |last| last.name.clone(), view)))
    }
}

/// A stage.
pub(super) struct Get {
    namespace: String,
    name: String,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.name), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE],
        access: &[("stages", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/stages/{stage}",
            "getStage",
            "A stage, with what runs and what is on its way.",
        )
    };

    type Content = ();
    type Answer = Stage;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), name: input.text("stage") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Stage>, Problem> {
        let Self { namespace, name } = authorized.command();
        let target = known(call.ground, namespace, name).await?;
        let state = call.ground.store.target_state_load(target.id).await?;
        Ok(Reply::of(stage(state.ok_or_else(Problem::denied)?)))
    }
}

fn brief(target: Target, latest: Option<DeployBrief>) -> StageBrief {
    let Target { id: _, project_id: _, project, namespace, name, uid: _ } = target;
    StageBrief { namespace, project, name, latest }
}

fn stage(state: TargetState) -> Stage {
    let TargetState { target, latest, good, open, instances, vetoes, .. } = state;
    let instances = instances.into_iter().map(|one| Instance {
        name: one.name,
        deploy: one.deploy,
        status: one.status.word().to_owned(),
    });
    let vetoes = vetoes.into_iter().map(|one| Veto {
        release: one.release.to_string(),
        reason: one.reason,
        actor: one.actor.to_string(),
        at: one.at,
    });
    Stage {
        brief: brief(target, latest.as_ref().map(DeployBrief::from)),
        good: good.as_ref().map(|good| (&good.stored).into()),
        open: open.iter().map(|open| (&open.stored).into()).collect(),
        instances: instances.collect(),
        vetoes: vetoes.collect(),
    }
}
