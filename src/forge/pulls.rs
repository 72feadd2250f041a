//! Which pull requests there are.

use std::collections::BTreeSet;

use reqwest::{
    StatusCode,
    header::{ETAG, HeaderMap, LINK},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Forge, ForgeError, Place, Token,
    call::{Call, malformed},
};
use crate::{
    domain::pull_request::{Answer, Look, Provider, PullRequest},
    webhook::{MergeObject, PullObject},
};

/// Pages of a list that are read.
const MAX_PAGES: usize = 50;

/// Events of one pull request that are read to find who set a label, a page each.
const MAX_EVENT_PAGES: usize = 5;

const WHAT: &str = "read its pull requests";

/// Longest `ETag` that is kept, in bytes.
const MAX_ETAG: usize = 256;

/// What a provider listed, to be told apart from the next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What is open.
    pub open: Vec<PullRequest>,
    /// Whether these are all.
    pub complete: bool,
    /// What the provider calls this answer. Only of one that is a single page: nothing else says that the others are the
    /// same.
    etag: Option<String>,
}

impl From<Listing> for Answer {
    fn from(listing: Listing) -> Self {
        Self::Listed { open: listing.open, complete: listing.complete }
    }
}

/// What became of a question for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// This is it.
    New(Listing),
    /// It is what it was.
    Same,
}

impl Forge {
    /// The open pull requests of a repository. With what it listed before, it may say that nothing has changed.
    ///
    /// # Errors
    /// Why there is no list. Part of one is none.
    pub async fn open(&self, place: &Place, token: &Token, before: Option<&Listing>) -> Result<Listed, ForgeError> {
        let (path, size) = match place.provider() {
            Provider::GitHub => (["pulls"], "100"),
            Provider::GitLab => (["merge_requests"], "100"),
            // Gitea gives no more than its own limit, 50 if nobody changed it.
            Provider::Gitea => (["pulls"], "50"),
        };
        let mut open: Vec<PullRequest> = Vec::new();
        for page in 1..=MAX_PAGES {
            let number = page.to_string();
            let query: &[(&str, &str)] = match place.provider() {
                Provider::GitHub => &[
                    ("state", "open"),
                    ("sort", "created"),
                    ("direction", "asc"),
                    ("per_page", size),
                    ("page", &number),
                ],
                Provider::GitLab => &[
                    ("state", "opened"),
                    ("order_by", "created_at"),
                    ("sort", "asc"),
                    ("per_page", size),
                    ("page", &number),
                ],
                Provider::Gitea => &[("state", "open"), ("sort", "oldest"), ("limit", size), ("page", &number)],
            };
            let etag = before.and_then(|before| before.etag.as_deref()).filter(|_| page == 1);
            let call = Call { etag, ..Call::get(&path, query, WHAT) };
            let response = self.call(place, token, &call, |_| false).await?;
            if response.status() == StatusCode::NOT_MODIFIED {
                return if etag.is_some() { Ok(Listed::Same) } else { Err(malformed(place, "it is 304 unasked")) };
            }
            let (linked, etag) = (next_is_linked(response.headers()), etag_of(response.headers()));
            let items: Vec<Value> = self.read(place, response).await?;
            let count = items.len();
            for item in items {
                open.push(read(place, item)?);
            }
            if !linked.unwrap_or(count.to_string() == size) {
                let etag = etag.filter(|_| page == 1);
                return Ok(Listed::New(Listing { open, complete: true, etag }));
            }
        }
        Ok(Listed::New(Listing { open, complete: false, etag: None }))
    }

    /// How one pull request stands.
    ///
    /// # Errors
    /// Why that is not known.
    pub async fn look(&self, place: &Place, token: &Token, number: i64) -> Result<Look, ForgeError> {
        let kind = match place.provider() {
            Provider::GitLab => "merge_requests",
            Provider::GitHub | Provider::Gitea => "pulls",
        };
        let number_text = number.to_string();
        let parts = [kind, number_text.as_str()];
        let absent = |status| matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let response = self.call(place, token, &Call::get(&parts, &[], WHAT), absent).await?;
        if absent(response.status()) {
            return Ok(Look::Absent);
        }
        let found = read(place, self.read(place, response).await?)?;
        if found.number == number {
            Ok(Look::Found(Box::new(found)))
        } else {
            Err(malformed(place, "it is about another pull request"))
        }
    }

    /// Which labels of a pull request somebody else than its author set, where the provider's labels do not prove that by
    /// themselves. Of Gitea only: it tells who did what.
    ///
    /// # Errors
    /// Why that is not known.
    pub async fn vouched(
        &self,
        place: &Place,
        token: &Token,
        of: &PullRequest,
    ) -> Result<BTreeSet<String>, ForgeError> {
        let mut vouched = BTreeSet::new();
        let number = of.number.to_string();
        let parts = ["issues", number.as_str(), "timeline"];
        for page in 1..=MAX_EVENT_PAGES {
            let page_text = page.to_string();
            let query = [("limit", "50"), ("page", page_text.as_str())];
            let response = self.call(place, token, &Call::get(&parts, &query, WHAT), |_| false).await?;
            let linked = next_is_linked(response.headers());
            let events: Vec<Event> = self.read(place, response).await?;
            for event in &events {
                let (Some(label), Some(by)) = (&event.label, &event.user) else { continue };
                if event.kind != "label" || of.author.is_empty() {
                    continue;
                }
                // The text of an event is `1` for a label that was added.
                match (event.body.as_deref() == Some("1"), by.login == of.author) {
                    (true, false) => vouched.insert(label.name.clone()),
                    _ => vouched.remove(&label.name),
                };
            }
            if !linked.unwrap_or(events.len() == 50) {
                vouched.retain(|label| of.labels.contains(label));
                return Ok(vouched);
            }
        }
        // What came last was not read: nothing is proven.
        Ok(BTreeSet::new())
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type", default)]
    kind: String,
    body: Option<String>,
    user: Option<Person>,
    label: Option<Label>,
}

#[derive(Deserialize)]
struct Person {
    login: String,
}

#[derive(Deserialize)]
struct Label {
    name: String,
}

fn read(place: &Place, item: Value) -> Result<PullRequest, ForgeError> {
    let strange = |_| malformed(place, "a pull request in it is not what the API says");
    let found = match place.provider() {
        Provider::GitLab => serde_json::from_value::<MergeObject>(item).map_err(strange)?.read(place.repository()),
        Provider::GitHub | Provider::Gitea => {
            serde_json::from_value::<PullObject>(item).map_err(strange)?.read(place.repository())
        }
    };
    found.map_err(|error| malformed(place, error.to_string()))
}

/// Whether there is a next page, where the answer says so. Only that is read of it: its address is not asked.
fn next_is_linked(headers: &HeaderMap) -> Option<bool> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let is_next = |part: &str| part.split(';').skip(1).any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next"));
    Some(link.split(',').any(is_next))
}

fn etag_of(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (!etag.is_empty() && etag.len() <= MAX_ETAG).then(|| etag.to_owned())
}
