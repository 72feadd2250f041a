//! Listing the tags of a repository, completely or not at all.

use std::collections::{BTreeSet, HashSet};

use reqwest::header::{ETAG, LINK};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::bounded::{AtMost, too_many};
use super::endpoint::Endpoint;
use super::exchange::{Call, accepted, drain, malformed};
use super::paging::may_be_cut;
use super::{Registry, RegistryError, Validator, link};
use crate::domain::image::is_tag;

/// Statuses with which registries refuse a page as large as was asked for.
const REFUSALS: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::RANGE_NOT_SATISFIABLE, StatusCode::UNPROCESSABLE_ENTITY];

/// Most tags of one repository.
const MAX_TAGS: usize = 200_000;

/// What a registry says when it is asked for the tags of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// The same as when it gave the [`Validator`] that it was shown.
    Unchanged,
    /// All of them.
    Tags(Tags),
}

impl Listing {
    /// The tags; None when they are still the same.
    pub fn tags(self) -> Option<Tags> {
        match self {
            Self::Tags(tags) => Some(tags),
            Self::Unchanged => None,
        }
    }
}

/// The complete listing of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// All tags, sorted, each once.
    pub names: Vec<String>,
    /// How many entries were left out because no image can have such a tag.
    pub illegal: usize,
    /// How many pages were asked for.
    pub pages: usize,
    /// What to show the registry next time, so that it can answer [`Listing::Unchanged`]; none when it gave none, or
    /// when an unchanged first page would not mean that all is unchanged.
    pub validator: Option<Validator>,
}

/// One page. `tags` may be null, as in a repository whose tags were all deleted, but not absent.
#[derive(Deserialize)]
struct Page {
    tags: AtMost<String, MAX_TAGS>,
}

/// What has been listed so far.
struct Collected {
    names: BTreeSet<String>,
    illegal: usize,
    pages: usize,
    bytes: usize,
}

/// A page, where the next one is, and what the registry calls this one.
struct Turned {
    tags: Vec<String>,
    next: Option<Url>,
    etag: Option<String>,
}

impl Registry {
    pub(super) async fn all_tags(
        &self,
        endpoint: &Endpoint<'_>,
        known: Option<&Validator>,
    ) -> Result<Listing, RegistryError> {
        let mut all = Collected { names: BTreeSet::new(), illegal: 0, pages: 0, bytes: 0 };
        let Some((asked, Turned { mut tags, mut next, etag })) = self.first(endpoint, known, &mut all).await? else {
            return Ok(Listing::Unchanged);
        };
        let paging = endpoint.paging();
        let mut visited = HashSet::from([endpoint.tags(asked)]);
        let mut validator = etag.and_then(|etag| Validator::new(asked, &etag));
        if next.is_some() || may_be_cut(tags.len(), asked) {
            // The same first page would not mean that nothing was added behind it.
            validator = None;
        }
        loop {
            if next.is_some() {
                paging.believe();
            }
            let count = tags.len();
            let end = tags.split_off(count.saturating_sub(3));
            let fresh = all.take(tags) + all.take(end.clone());
            if all.names.len() > MAX_TAGS {
                return Err(too_large(endpoint, format!("{MAX_TAGS} tags")));
            }
            if next.is_none() && fresh > 0 && may_be_cut(count, asked) && !self.is_all(endpoint, &end, &mut all).await?
            {
                next = end.last().map(|last| after(endpoint, asked, last));
            }
            let Some(url) = next else { break };
            if !visited.insert(url.clone()) {
                return Err(malformed(endpoint, "the pages of its listing go in a circle"));
            }
            let turned = self.page(endpoint, &Call::get(url), &mut all).await?;
            (tags, next) = (turned.tags, turned.next);
        }
        let Collected { names, illegal, pages, .. } = all;
        Ok(Listing::Tags(Tags { names: names.into_iter().collect(), illegal, pages, validator }))
    }

    /// The first page, and the size that was asked for. None: it is what it was.
    async fn first(
        &self,
        endpoint: &Endpoint<'_>,
        known: Option<&Validator>,
        all: &mut Collected,
    ) -> Result<Option<(Option<usize>, Turned)>, RegistryError> {
        let paging = endpoint.paging();
        let mut sizes = paging.sizes().peekable();
        while let Some((index, asked)) = sizes.next() {
            let etag = known.and_then(|known| known.of(asked));
            let call = Call { etag, ..Call::get(endpoint.tags(asked)) };
            let response = self.request(endpoint, &call).await?;
            if REFUSALS.contains(&response.status()) && sizes.peek().is_some() {
                drain(response).await;
                continue;
            }
            if etag.is_some() && response.status() == StatusCode::NOT_MODIFIED {
                return Ok(match next_page(endpoint, &call.url, &response)? {
                    None => None,
                    // It has grown by a page since.
                    Some(_) => Some((asked, self.page(endpoint, &Call::get(call.url), all).await?)),
                });
            }
            let turned = self.read_page(endpoint, &call.url, response, all).await?;
            paging.accepts(index);
            return Ok(Some((asked, turned)));
        }
        Err(malformed(endpoint, "it lists no tags, whatever size of page is asked for"))
    }

    /// Whether a page that may be cut is all there is, although it says nothing of more. `end` is how it ends.
    ///
    /// A registry on which nothing was learnt yet is asked for one of the last tags of this page. If it sends a link to
    /// the one behind it, it sends links. If it answers with the whole page again, it knows no pages, and there is
    /// nothing more to get from it.
    async fn is_all(
        &self,
        endpoint: &Endpoint<'_>,
        end: &[String],
        all: &mut Collected,
    ) -> Result<bool, RegistryError> {
        let paging = endpoint.paging();
        if let [before, _, _] = end
            && let Some(_trying) = paging.to_try().await
        {
            let turned = self.page(endpoint, &Call::get(after(endpoint, Some(1), before)), all).await?;
            let count = turned.tags.len();
            let fresh = all.take(turned.tags);
            if turned.next.is_some() || (fresh == 0 && count > 2) {
                paging.believe();
            }
            paging.was_tried();
        }
        Ok(paging.is_believed())
    }

    async fn page(
        &self,
        endpoint: &Endpoint<'_>,
        call: &Call<'_>,
        all: &mut Collected,
    ) -> Result<Turned, RegistryError> {
        if all.pages >= self.options.limits.listing_pages {
            return Err(too_large(endpoint, format!("{} pages", all.pages)));
        }
        let response = self.request(endpoint, call).await?;
        self.read_page(endpoint, &call.url, response, all).await
    }

    async fn read_page(
        &self,
        endpoint: &Endpoint<'_>,
        url: &Url,
        response: Response,
        all: &mut Collected,
    ) -> Result<Turned, RegistryError> {
        let limits = self.options.limits;
        let not_found =
            |_: Option<&str>| RegistryError::RepositoryNotFound { repository: endpoint.repository().clone() };
        let response = accepted(endpoint, response, self.clock.now(), not_found).await?;
        let next = next_page(endpoint, url, &response)?;
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let limit = limits.listing_bytes.saturating_sub(all.bytes);
        let bytes = self.body(endpoint, response, limit, "a listing").await?;
        all.pages += 1;
        all.bytes += bytes.len();
        let page: Page = serde_json::from_slice(&bytes).map_err(|error| {
            if too_many(&error) {
                return too_large(endpoint, format!("{MAX_TAGS} tags"));
            }
            let (line, column) = (error.line(), error.column());
            malformed(endpoint, format!("its listing is not the expected JSON (line {line}, column {column})"))
        })?;
        Ok(Turned { tags: page.tags.0, next, etag })
    }
}

impl Collected {
    /// Adds tags. How many of them are new.
    fn take(&mut self, tags: Vec<String>) -> usize {
        let known = self.names.len();
        for tag in tags {
            if is_tag(&tag) {
                self.names.insert(tag);
            } else {
                self.illegal += 1;
            }
        }
        self.names.len() - known
    }
}

fn too_large(endpoint: &Endpoint<'_>, limit: String) -> RegistryError {
    RegistryError::TooLarge { place: endpoint.place(), what: "a listing", limit }
}

/// Where the listing goes on, if the answer says so.
fn next_page(endpoint: &Endpoint<'_>, url: &Url, response: &Response) -> Result<Option<Url>, RegistryError> {
    let headers = response.headers().get_all(LINK);
    let links: Vec<_> = headers.iter().map(|header| String::from_utf8_lossy(header.as_bytes())).collect();
    let Some(target) = links.iter().find_map(|header| link::next(header)) else {
        return Ok(None);
    };
    let next = link::follow(url, target);
    next.map(Some).ok_or_else(|| malformed(endpoint, "the next page of its listing is on another host"))
}

/// The page that follows a tag.
fn after(endpoint: &Endpoint<'_>, asked: Option<usize>, last: &str) -> Url {
    let mut url = endpoint.tags(asked);
    url.query_pairs_mut().append_pair("last", last);
    url
}
