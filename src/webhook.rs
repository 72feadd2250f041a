//! What registries and watchers send when an image was pushed, and git providers of pull requests: who signed it, and what it
//! says. Pure.
//!
//! The raw body is verified before any of it is read ([`verify`]). Which images it names ([`parse`]) are hints: whoever gets them
//! asks the registry. Each sender has a file of its own; what they share is how text that may be missing, null or of another
//! type is read ([`text`]).

mod acr;
mod cloud_events;
mod distribution;
mod diun;
mod docker_hub;
mod generic;
mod gitea;
mod github;
mod gitlab;
mod harbor;
mod headers;
mod jfrog;
mod merge_request;
mod pull_request;
mod quay;
mod signature;
mod source;
mod text;

#[cfg(test)]
mod tests;

pub use self::{headers::Headers, merge_request::MergeObject, pull_request::PullObject, source::Source};
use crate::domain::{
    excerpt::excerpt,
    hint::Hint,
    pull_request::{Provider, PullRequest},
};

/// Longest body that is read at all, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Longest delivery id that counts as one, in bytes.
const MAX_ID: usize = 200;

/// What a delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Images were pushed: at least one.
    Images(Vec<Hint>),
    /// This is how a pull request stands.
    PullRequest(Box<PullNews>),
    /// Something else happened.
    Ignored {
        /// What, in a few words.
        what: String,
    },
}

/// What a delivery says of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullNews {
    /// Who says it.
    pub provider: Provider,
    /// The repository that it is to go into.
    pub repository: String,
    /// How it stands.
    pub pull_request: PullRequest,
    /// Its labels were changed, and by somebody else than its author.
    pub labelled_by_another: bool,
}

impl Event {
    fn ignored(what: &str) -> Self {
        Self::Ignored { what: excerpt(what, 80) }
    }
}

/// A body that is not what its sender should send, and why. Repeats a few words of it at the most.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Malformed {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    fn missing(field: &str) -> Self {
        Self(format!("{field} is missing or is no text"))
    }

    fn field(field: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{field}: {why}"))
    }
}

impl From<serde_json::Error> for Malformed {
    /// The error's own text repeats what was read: only the place is told.
    fn from(error: serde_json::Error) -> Self {
        let what = if error.is_data() { "not what this sender sends" } else { "not JSON" };
        Self(format!("the body is {what} at line {}, column {}", error.line(), error.column()))
    }
}

/// A delivery that nobody signed with a secret that counts. Which part was wrong is not for its sender to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the delivery is not signed with a secret of this receiver")]
pub struct Unsigned;

/// Checks who sent a delivery, by its raw body. Any of the secrets will do: two are in use while one is replaced. Without
/// any, only senders that may rely on the path alone are let through ([`Source::needs_secret`]).
///
/// # Errors
/// It is not signed, or with none of these, or at another time than `now`, for those that sign the time.
pub fn verify(
    source: Source,
    headers: &Headers,
    body: &[u8],
    secrets: &[&[u8]],
    now: jiff::Timestamp,
) -> Result<(), Unsigned> {
    if secrets.is_empty() {
        return if source.needs_secret() { Err(Unsigned) } else { Ok(()) };
    }
    if signature::is_by_any(source, headers, body, secrets, now) { Ok(()) } else { Err(Unsigned) }
}

/// Reads what a delivery says. `registry` takes the place of the registry's host in all of them, for registries
/// that know themselves by another name than images do, or by none.
///
/// # Errors
/// It is not what its sender should send.
pub fn parse(source: Source, headers: &Headers, body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    match source {
        Source::Diun => diun::parse(body),
        Source::DockerHub => docker_hub::parse(body),
        Source::GitHub => github::parse(headers, body),
        Source::Harbor => harbor::parse(body, registry),
        Source::Quay => quay::parse(body, registry),
        Source::Distribution => distribution::parse(body, registry),
        Source::Acr => acr::parse(body, registry),
        Source::JFrog => jfrog::parse(body, registry),
        Source::CloudEvents => cloud_events::parse(headers, body, registry),
        Source::GitLab => gitlab::parse(headers, body, registry),
        Source::Gitea => gitea::parse(headers, body),
        Source::Generic => generic::parse(body),
    }
}

/// What the sender calls a delivery, the same each time it is repeated; none if it has no name for it.
pub fn delivery_id(source: Source, headers: &Headers, body: &[u8]) -> Option<String> {
    let names: &[&str] = match source {
        Source::GitHub => &["x-github-delivery"],
        Source::GitLab => &["x-gitlab-event-uuid", "idempotency-key"],
        Source::Gitea => &["x-gitea-delivery"],
        Source::CloudEvents => &["ce-id"],
        Source::Generic => &["webhook-id"],
        _ => &[],
    };
    let named = names.iter().find_map(|name| headers.get(name)).map(str::to_owned);
    let id = named.or_else(|| match source {
        Source::CloudEvents | Source::Harbor => cloud_events::id(body),
        _ => None,
    });
    id.filter(|id| !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic()))
}
