//! `pull_request` of GitHub, whose form Gitea and Forgejo have taken over.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    Event, Malformed, PullNews,
    text::{Few, Text, or_default},
};
use crate::domain::{
    excerpt::excerpt,
    pull_request::{Provider, PullRequest, PullState},
};

/// Longest title that is kept, in characters.
const MAX_TITLE: usize = 200;

/// Longest name of a branch, repository, person or label that is read, in bytes.
const MAX_NAME: usize = 255;

/// Labels of one pull request that are read.
pub(super) const MAX_LABELS: usize = 100;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    action: Text,
    pull_request: Option<PullObject>,
    #[serde(default, deserialize_with = "or_default")]
    repository: Repository,
    #[serde(default, deserialize_with = "or_default")]
    sender: Person,
}

/// A pull request as GitHub, Gitea and Forgejo write it, in webhooks and in their APIs.
#[derive(Deserialize)]
pub struct PullObject {
    number: i64,
    #[serde(default)]
    title: Text,
    #[serde(default)]
    state: Text,
    #[serde(default, deserialize_with = "or_default")]
    merged: bool,
    #[serde(default)]
    merged_at: Text,
    #[serde(default)]
    updated_at: Text,
    #[serde(default)]
    closed_at: Text,
    #[serde(default, deserialize_with = "or_default")]
    user: Person,
    #[serde(default, deserialize_with = "or_default")]
    labels: Few<Label>,
    #[serde(default, deserialize_with = "or_default")]
    head: Side,
    #[serde(default, deserialize_with = "or_default")]
    base: Side,
}

#[derive(Deserialize, Default)]
struct Side {
    #[serde(default, rename = "ref")]
    branch: Text,
    #[serde(default)]
    sha: Text,
    #[serde(default, deserialize_with = "or_default")]
    repo: Repository,
}

#[derive(Deserialize, Default)]
struct Repository {
    #[serde(default)]
    full_name: Text,
}

#[derive(Deserialize, Default)]
struct Person {
    #[serde(default)]
    login: Text,
}

#[derive(Deserialize)]
pub(super) struct Label {
    #[serde(default, alias = "title")]
    name: Text,
}

pub(super) fn parse(provider: Provider, body: &[u8]) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    let action = body.action.get().unwrap_or_default();
    let labelled = matches!(action, "labeled" | "unlabeled" | "label_updated" | "label_cleared");
    let known = matches!(action, "opened" | "reopened" | "synchronize" | "synchronized" | "closed" | "edited");
    if !labelled && !known {
        return Ok(Event::ignored(&format!("pull_request {action}")));
    }
    let pull = body.pull_request.ok_or_else(|| Malformed::missing("pull_request"))?;
    let repository = name(&body.repository.full_name, "repository.full_name")?;
    let sender = person(&body.sender.login);
    let pull_request = pull.read(&repository)?;
    let author = &pull_request.author;
    let labelled_by_another = labelled && !sender.is_empty() && !author.is_empty() && sender != *author;
    Ok(Event::PullRequest(Box::new(PullNews { provider, repository, pull_request, labelled_by_another })))
}

impl PullObject {
    /// What it says of a pull request of this repository.
    ///
    /// # Errors
    /// It is not what a provider should say, or of another repository.
    pub fn read(&self, repository: &str) -> Result<PullRequest, Malformed> {
        let base = name(&self.base.repo.full_name, "pull_request.base.repo.full_name")?;
        if !base.eq_ignore_ascii_case(repository) {
            return Err(Malformed::new("pull_request.base.repo is not the repository that it is of"));
        }
        let state = match self.state.get() {
            _ if self.merged || self.merged_at.get().is_some() => PullState::Merged,
            Some("open") => PullState::Open,
            Some("closed") => PullState::Closed,
            _ => return Err(Malformed::field("pull_request.state", "expected open or closed")),
        };
        // Nothing but a closed one has a time at which it was closed.
        let closed_at = self.closed_at.instant().filter(|_| !state.is_open());
        let head = person(&self.head.repo.full_name);
        Ok(PullRequest {
            number: number(self.number, "pull_request.number")?,
            title: title(&self.title),
            author: person(&self.user.login),
            branch: name(&self.head.branch, "pull_request.head.ref")?,
            target: name(&self.base.branch, "pull_request.base.ref")?,
            head: commit(&self.head.sha, "pull_request.head.sha")?,
            fork: !head.eq_ignore_ascii_case(repository),
            head_repository: head,
            labels: labels(&self.labels),
            vouched: BTreeSet::new(),
            state,
            updated_at: instant(&self.updated_at, "pull_request.updated_at")?.max(closed_at.unwrap_or(Timestamp::MIN)),
        })
    }
}

/// A number of a pull request.
pub(super) fn number(number: i64, field: &str) -> Result<i64, Malformed> {
    if number > 0 { Ok(number) } else { Err(Malformed::field(field, "it is not greater than 0")) }
}

/// The name of a branch or repository.
pub(super) fn name(text: &Text, field: &str) -> Result<String, Malformed> {
    let name = text.required(field)?;
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Malformed::field(field, format!("it is no name of at most {MAX_NAME} characters")));
    }
    Ok(name.to_owned())
}

/// The name of a person; empty if there is none.
pub(super) fn person(text: &Text) -> String {
    let plain = |name: &&str| name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    text.get().filter(plain).unwrap_or_default().to_owned()
}

/// A commit, in hexadecimal digits.
pub(super) fn commit(text: &Text, field: &str) -> Result<String, Malformed> {
    let commit = text.required(field)?;
    let is_one = matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(commit.to_ascii_lowercase()) } else { Err(Malformed::field(field, "it is no commit")) }
}

pub(super) fn labels(all: &Few<Label>) -> BTreeSet<String> {
    let names = all.0.iter().filter_map(|label| label.name.get());
    names.filter(|name| name.len() <= MAX_NAME).take(MAX_LABELS).map(str::to_owned).collect()
}

/// An instant, as RFC 3339 has it or as GitLab once wrote it: `2026-03-01 12:00:00 UTC`.
pub(super) fn instant(text: &Text, field: &str) -> Result<Timestamp, Malformed> {
    let text = text.required(field)?;
    let plain = text.strip_suffix(" UTC").map(|text| format!("{}Z", text.replace(' ', "T")));
    let at = plain.as_deref().unwrap_or(text).parse::<Timestamp>();
    at.map_err(|_| Malformed::field(field, "it is no instant such as 2026-03-01T12:00:00Z"))
}

/// The excerpt of a title.
pub(super) fn title(text: &Text) -> String {
    excerpt(text.get().unwrap_or_default(), MAX_TITLE)
}
