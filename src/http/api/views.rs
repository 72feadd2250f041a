//! What callers are shown of deploys, releases and stages. Every field is chosen here: what the store has besides is not shown.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{deploy::State, release::Release},
    store::{HistoryEntry, HookRun, Place, StoredDeploy, StoredTransition, time_in_states},
};

/// An image of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// Registry host and path, without a tag.
    pub repository: String,
    /// The tag that it was found under, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest, which decides.
    pub digest: String,
}

/// A deploy in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployBrief {
    /// Its id.
    pub id: Uuid,
    /// Its number among the deploys of the stage.
    pub sequence: i64,
    /// Where it stands.
    #[schemars(schema_with = "state_schema")]
    pub state: State,
    /// When it came into that state.
    pub since: Timestamp,
    /// Content hash of its release.
    pub release: String,
    /// The release in short: `web 1.4.2, db 16`.
    pub summary: String,
    /// Who asked for it: `user:jane`, `policy`, `webhook:github`, `controller`, `group`.
    pub actor: String,
    /// Why it was made.
    pub cause: String,
    /// Why it ended as it did, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When nothing more will happen to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// A deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// Namespace of its stage.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its stage.
    pub stage: String,
    /// What is in every list.
    #[serde(flatten)]
    pub brief: DeployBrief,
    /// Images by service.
    pub images: BTreeMap<String, Image>,
    /// Its instance.
    pub instance: String,
    /// The deploy that it undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<Uuid>,
    /// The failed deploy that it tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<Uuid>,
    /// The deploy of the stage before that proved its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted_from: Option<Uuid>,
    /// The newer deploy that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Uuid>,
    /// The group action that it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// Whether soak, approvals and windows were passed over.
    pub emergency: bool,
    /// Seconds in `pending`.
    pub waited_seconds: f64,
    /// Seconds in all other states.
    pub worked_seconds: f64,
    /// Its steps in their order, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
}

/// A step of a deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The state that it left; left out for the making of the deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "state_schema")]
    pub from: Option<State>,
    /// The state that it entered.
    #[schemars(schema_with = "state_schema")]
    pub to: State,
    /// When.
    pub at: Timestamp,
    /// Seconds in that state, until now for the last one.
    pub seconds: f64,
    /// Who.
    pub actor: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// A deploy as it is seen closely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployDetail {
    /// The deploy.
    #[serde(flatten)]
    pub deploy: Deploy,
    /// What its hooks did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// What served when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<DeployBrief>,
}

/// A run of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The moment of the deploy: `beforeStart` and the like.
    pub phase: String,
    /// Its name.
    pub name: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Whether it succeeded; left out while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl From<HookRun> for Hook {
    fn from(run: HookRun) -> Self {
        Self {
            phase: run.phase.word().into(),
            name: run.name,
            started_at: run.started_at,
            finished_at: run.finished_at,
            succeeded: run.ok,
            message: run.message,
        }
    }
}

impl DeployDetail {
    /// A deploy with what belongs to it.
    pub fn new(deploy: Deploy, hooks: Vec<HookRun>, predecessor: Option<&StoredDeploy>) -> Self {
        Self {
            deploy,
            hooks: hooks.into_iter().map(Hook::from).collect(),
            predecessor: predecessor.map(DeployBrief::from),
        }
    }
}

/// The words of the states.
pub(super) fn state_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": State::ALL.map(State::word)})
}

/// Images by service.
pub(super) fn images(release: &Release) -> BTreeMap<String, Image> {
    let image = |(service, image): (&String, &crate::domain::release::ReleaseImage)| {
        let view = Image { repository: image.repository.clone(), tag: image.tag.clone(), digest: image.digest.clone() };
        (service.clone(), view)
    };
    release.0.iter().map(image).collect()
}

impl From<&StoredDeploy> for DeployBrief {
    fn from(stored: &StoredDeploy) -> Self {
        let deploy = &stored.deploy;
        Self {
            id: deploy.id,
            sequence: deploy.sequence,
            state: deploy.state,
            since: deploy.since,
            release: deploy.release.to_string(),
            summary: stored.release.summary(),
            actor: deploy.actor.to_string(),
            cause: deploy.cause.clone(),
            reason: deploy.reason.clone(),
            message: deploy.message.clone(),
            created_at: deploy.created_at,
            finished_at: deploy.finished_at,
        }
    }
}

impl Deploy {
    /// What is shown of a deploy; one that goes on is measured until `now`.
    pub fn new(entry: &HistoryEntry, now: Timestamp) -> Self {
        let deploy = &entry.stored.deploy;
        let times = time_in_states(&entry.transitions, deploy.finished_at, now);
        let waited: SignedDuration =
            times.iter().filter(|(state, _)| *state == State::Pending).map(|(_, time)| *time).sum();
        let Place { namespace, project, stage } = entry.place.clone();
        Self {
            namespace,
            project,
            stage,
            brief: (&entry.stored).into(),
            images: images(&entry.stored.release),
            instance: deploy.instance.clone(),
            rollback_of: deploy.rollback_of,
            retry_of: entry.stored.retry_of,
            promoted_from: entry.stored.promoted_from,
            superseded_by: entry.stored.superseded_by,
            group: entry.stored.group,
            emergency: entry.stored.emergency,
            waited_seconds: waited.as_secs_f64(),
            worked_seconds: entry.working_time(now).as_secs_f64(),
            transitions: Vec::new(),
        }
    }

    /// The same with its steps.
    pub fn with_steps(entry: &HistoryEntry, now: Timestamp) -> Self {
        let transitions = Transition::all(&entry.transitions, entry.stored.deploy.finished_at, now);
        Self { transitions, ..Self::new(entry, now) }
    }
}

impl Transition {
    /// The steps of a deploy; one that goes on is measured until `now`.
    pub(super) fn all(steps: &[StoredTransition], finished_at: Option<Timestamp>, now: Timestamp) -> Vec<Self> {
        let times = time_in_states(steps, finished_at, now);
        let view = |(step, (_, time)): (&StoredTransition, (State, SignedDuration))| Self {
            from: step.from,
            to: step.to,
            at: step.at,
            seconds: time.as_secs_f64(),
            actor: step.actor.to_string(),
            reason: step.reason.clone(),
            message: step.message.clone(),
        };
        steps.iter().zip(times).map(view).collect()
    }
}
