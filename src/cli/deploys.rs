//! Deploys as the command line shows them: the fields of `-o json`, which scripts rely on, and short forms for people.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::deploy::State,
    http::api::views::{Deploy, DeployBrief, Image, Transition},
    store::HistoryEntry,
};

/// A deploy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeployView {
    /// Its id.
    pub id: Uuid,
    /// Kubernetes namespace of its stage.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its stage.
    pub stage: String,
    /// Its number among the deploys of the stage.
    pub sequence: i64,
    /// The state's word.
    pub state: State,
    /// When it came into that state.
    pub since: Timestamp,
    /// Content hash of the release.
    pub release: String,
    /// The release in short: `web 1.4.2, db 16`.
    pub summary: String,
    /// Images by service.
    pub images: BTreeMap<String, ImageView>,
    /// Who asked for it.
    pub actor: String,
    /// Why it was made.
    pub cause: String,
    /// Why it ended as it did, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its instance.
    pub instance: String,
    /// The deploy that it undoes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<Uuid>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Seconds in `pending`.
    pub waited_seconds: f64,
    /// Seconds in all other states.
    pub worked_seconds: f64,
    /// Its steps in order.
    pub transitions: Vec<TransitionView>,
}

/// An image of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageView {
    /// The repository.
    pub repository: String,
    /// The tag, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest, which decides.
    pub digest: String,
}

/// A step of a deploy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransitionView {
    /// The state that it entered.
    pub to: State,
    /// When.
    pub at: Timestamp,
    /// Seconds in that state.
    pub seconds: f64,
    /// Who.
    pub actor: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl DeployView {
    /// What is shown of a deploy; one that goes on is measured until `now`.
    pub fn new(entry: &HistoryEntry, now: Timestamp) -> Self {
        Deploy::with_steps(entry, now).into()
    }

    /// What people want to know first: why it ended so, or why it was made.
    pub fn why(&self) -> &str {
        self.message.as_deref().unwrap_or(&self.cause)
    }
}

impl From<Deploy> for DeployView {
    fn from(deploy: Deploy) -> Self {
        let Deploy { namespace, project, stage, brief, images, instance, rollback_of, transitions, .. } = deploy;
        let DeployBrief {
            id,
            sequence,
            state,
            since,
            release,
            summary,
            actor,
            cause,
            reason,
            message,
            created_at,
            finished_at,
        } = brief;
        let images = images.into_iter().map(|(service, image)| {
            let Image { repository, tag, digest } = image;
            (service, ImageView { repository, tag, digest })
        });
        Self {
            id,
            namespace,
            project,
            stage,
            sequence,
            state,
            since,
            release,
            summary,
            images: images.collect(),
            actor,
            cause,
            reason,
            message,
            instance,
            rollback_of,
            created_at,
            finished_at,
            waited_seconds: deploy.waited_seconds,
            worked_seconds: deploy.worked_seconds,
            transitions: transitions.into_iter().map(TransitionView::from).collect(),
        }
    }
}

impl From<Transition> for TransitionView {
    fn from(step: Transition) -> Self {
        let Transition { from: _, to, at, seconds, actor, reason, message } = step;
        Self { to, at, seconds, actor, reason, message }
    }
}

/// As many letters of each id as tell them all apart, but enough to find them again later. Ids begin with their time, so
/// that those of one moment share their beginning.
pub struct ShortIds {
    length: usize,
}

impl ShortIds {
    /// The shortest form for these ids.
    pub fn among(ids: &[Uuid]) -> Self {
        const GROUPS: [usize; 4] = [13, 18, 23, 36];
        let tells_apart = |length: &usize| {
            let mut seen = BTreeSet::new();
            ids.iter().all(|id| seen.insert(cut(id, *length)))
        };
        let length = GROUPS.into_iter().find(tells_apart).unwrap_or(36);
        Self { length }
    }

    /// The short form of one.
    pub fn of(&self, id: &Uuid) -> String {
        cut(id, self.length)
    }
}

fn cut(id: &Uuid, length: usize) -> String {
    let mut text = id.to_string();
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_short_as_they_can_be_told_apart() {
        let id = |text: &str| Uuid::try_parse(text).expect("an id");
        let first = id("0193522a-8c1d-7a01-8000-000000000001");
        let later = id("0193522a-8c1e-7a01-8000-000000000001");
        let twin = id("0193522a-8c1d-7a01-8000-000000000002");
        let short = ShortIds::among(&[first, later]);
        assert_eq!(short.of(&first), "0193522a-8c1d");
        let short = ShortIds::among(&[first, twin]);
        assert_eq!(short.of(&first), first.to_string());
    }
}
