//! Gitea and Forgejo: pull requests.

use super::{Event, Headers, Malformed, pull_request};
use crate::domain::pull_request::Provider;

pub(super) fn parse(headers: &Headers, body: &[u8]) -> Result<Event, Malformed> {
    let name = headers.get("x-gitea-event").ok_or_else(|| Malformed::missing("the header X-Gitea-Event"))?;
    if name == "pull_request" { pull_request::parse(Provider::Gitea, body) } else { Ok(Event::ignored(name)) }
}
