//! Merge requests of GitLab: `Merge Request Hook`, and what its API says of one, which has another form.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    Event, Malformed, PullNews,
    pull_request::{Label, MAX_LABELS, commit, instant, labels, name, number, person, title},
    text::{Few, Text, or_default},
};
use crate::domain::pull_request::{Provider, PullRequest, PullState};

#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "or_default")]
    user: User,
    #[serde(default, deserialize_with = "or_default")]
    project: Project,
    object_attributes: Option<Attributes>,
    #[serde(default, deserialize_with = "or_default")]
    labels: Few<Label>,
    #[serde(default, deserialize_with = "or_default")]
    changes: Changes,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    id: Option<i64>,
    #[serde(default)]
    username: Text,
}

#[derive(Deserialize, Default)]
struct Project {
    #[serde(default)]
    path_with_namespace: Text,
}

#[derive(Deserialize)]
struct Attributes {
    iid: i64,
    #[serde(default)]
    action: Text,
    #[serde(default)]
    title: Text,
    #[serde(default)]
    state: Text,
    #[serde(default)]
    updated_at: Text,
    #[serde(default)]
    author_id: Option<i64>,
    #[serde(default)]
    source_branch: Text,
    #[serde(default)]
    target_branch: Text,
    #[serde(default)]
    source_project_id: Option<i64>,
    #[serde(default)]
    target_project_id: Option<i64>,
    #[serde(default, deserialize_with = "or_default")]
    source: Project,
    #[serde(default, deserialize_with = "or_default")]
    last_commit: Commit,
}

#[derive(Deserialize, Default)]
struct Commit {
    #[serde(default)]
    id: Text,
}

#[derive(Deserialize, Default)]
struct Changes {
    labels: Option<serde::de::IgnoredAny>,
}

pub(super) fn parse(body: &[u8]) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    let merge = body.object_attributes.ok_or_else(|| Malformed::missing("object_attributes"))?;
    let action = merge.action.get().unwrap_or_default();
    if !matches!(action, "open" | "reopen" | "update" | "merge" | "close") {
        return Ok(Event::ignored(&format!("Merge Request Hook {action}")));
    }
    let state = state(&merge.state, "object_attributes.state")?;
    let repository = name(&body.project.path_with_namespace, "project.path_with_namespace")?;
    let head = person(&merge.source.path_with_namespace);
    // Who sends is named, who opened it is a number.
    let by_author = body.user.id.is_some() && body.user.id == merge.author_id;
    let same_project = merge.source_project_id.is_some() && merge.source_project_id == merge.target_project_id;
    let pull_request = PullRequest {
        number: number(merge.iid, "object_attributes.iid")?,
        title: title(&merge.title),
        author: if by_author { person(&body.user.username) } else { String::new() },
        branch: name(&merge.source_branch, "object_attributes.source_branch")?,
        target: name(&merge.target_branch, "object_attributes.target_branch")?,
        head: commit(&merge.last_commit.id, "object_attributes.last_commit.id")?,
        fork: !same_project || !head.eq_ignore_ascii_case(&repository),
        head_repository: head,
        labels: labels(&body.labels),
        vouched: BTreeSet::new(),
        state,
        updated_at: instant(&merge.updated_at, "object_attributes.updated_at")?,
    };
    let labelled_by_another = body.changes.labels.is_some() && !by_author && merge.author_id.is_some();
    let provider = Provider::GitLab;
    Ok(Event::PullRequest(Box::new(PullNews { provider, repository, pull_request, labelled_by_another })))
}

/// A merge request as GitLab's API writes it.
#[derive(Deserialize)]
pub struct MergeObject {
    iid: i64,
    #[serde(default)]
    title: Text,
    #[serde(default)]
    state: Text,
    #[serde(default)]
    updated_at: Text,
    #[serde(default)]
    closed_at: Text,
    #[serde(default, deserialize_with = "or_default")]
    author: User,
    #[serde(default)]
    source_branch: Text,
    #[serde(default)]
    target_branch: Text,
    #[serde(default)]
    source_project_id: Option<i64>,
    #[serde(default)]
    target_project_id: Option<i64>,
    #[serde(default)]
    sha: Text,
    #[serde(default, deserialize_with = "or_default")]
    labels: Few<Text>,
}

impl MergeObject {
    /// What it says of a merge request of this project.
    ///
    /// # Errors
    /// It is not what GitLab should say.
    pub fn read(&self, repository: &str) -> Result<PullRequest, Malformed> {
        let state = state(&self.state, "state")?;
        let closed_at = self.closed_at.instant().filter(|_| !state.is_open());
        let fork = self.source_project_id.is_none() || self.source_project_id != self.target_project_id;
        Ok(PullRequest {
            number: number(self.iid, "iid")?,
            title: title(&self.title),
            author: person(&self.author.username),
            branch: name(&self.source_branch, "source_branch")?,
            target: name(&self.target_branch, "target_branch")?,
            head: commit(&self.sha, "sha")?,
            fork,
            head_repository: if fork { String::new() } else { repository.to_owned() },
            labels: self.labels.0.iter().map(person).filter(|label| !label.is_empty()).take(MAX_LABELS).collect(),
            vouched: BTreeSet::new(),
            state,
            updated_at: instant(&self.updated_at, "updated_at")?.max(closed_at.unwrap_or(Timestamp::MIN)),
        })
    }
}

fn state(text: &Text, field: &str) -> Result<PullState, Malformed> {
    match text.get() {
        // Locked while it is being merged.
        Some("opened" | "locked") => Ok(PullState::Open),
        Some("closed") => Ok(PullState::Closed),
        Some("merged") => Ok(PullState::Merged),
        _ => Err(Malformed::field(field, "expected opened, closed, locked or merged")),
    }
}
