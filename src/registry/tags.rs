//! Listing the tags of a repository, completely or not at all.

use std::collections::{BTreeSet, HashSet};

use reqwest::header::LINK;
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Deserializer};

use super::endpoint::Endpoint;
use super::exchange::{accepted, body, malformed};
use super::{Registry, RegistryError, link};
use crate::domain::image::is_tag;

/// Tags asked for in one page. Most registries accept this many; one that does not is asked without a number.
const PAGE_SIZE: usize = 1000;

/// The complete listing of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// All tags, sorted, each once.
    pub names: Vec<String>,
    /// How many entries were left out because no image can have such a tag.
    pub illegal: usize,
    /// How many requests it took.
    pub pages: usize,
}

/// One page. `tags` may be null, as in a repository whose tags were all deleted, but not absent.
#[derive(Deserialize)]
struct Page {
    #[serde(deserialize_with = "nullable")]
    tags: Vec<String>,
}

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Registry {
    pub(super) async fn all_tags(&self, endpoint: &Endpoint<'_>) -> Result<Tags, RegistryError> {
        let limits = self.options.limits;
        let mut names = BTreeSet::new();
        let (mut illegal, mut pages, mut bytes) = (0, 0, 0);
        let mut visited = HashSet::new();
        let mut next = Some(endpoint.tags(Some(PAGE_SIZE)));
        while let Some(url) = next {
            if pages == limits.listing_pages {
                let limit = format!("{pages} pages");
                return Err(RegistryError::TooLarge { place: endpoint.place(), what: "a listing", limit });
            }
            if !visited.insert(url.clone()) {
                return Err(malformed(endpoint, "the pages of its listing go in a circle"));
            }
            let (page, link, size) = self.page(endpoint, url.clone(), limits.listing_bytes - bytes, pages == 0).await?;
            pages += 1;
            bytes += size;
            let (count, known) = (page.tags.len(), names.len());
            let last = page.tags.last().cloned();
            for tag in page.tags {
                if is_tag(&tag) {
                    names.insert(tag);
                } else {
                    illegal += 1;
                }
            }
            next = match link {
                Some(link) => Some(link),
                // A full page without a link may be all there is, or the first page of a registry that sends no
                // links. Asking for what follows tells: nothing, or nothing new from one that ignores the question.
                None if count == PAGE_SIZE && names.len() > known => last.map(|last| after(endpoint, &last)),
                None => None,
            };
        }
        Ok(Tags { names: names.into_iter().collect(), illegal, pages })
    }

    /// One page, the URL of the next, and the page's size in bytes.
    async fn page(
        &self,
        endpoint: &Endpoint<'_>,
        url: Url,
        limit: usize,
        first: bool,
    ) -> Result<(Page, Option<Url>, usize), RegistryError> {
        let mut response = self.request(endpoint, &Method::GET, url.clone(), None).await?;
        if first && response.status() == StatusCode::BAD_REQUEST {
            // Some registries refuse pages as large as we ask for.
            response = self.request(endpoint, &Method::GET, endpoint.tags(None), None).await?;
        }
        let not_found =
            |_: Option<&str>| RegistryError::RepositoryNotFound { repository: endpoint.repository().clone() };
        let response = accepted(endpoint, response, self.clock.now(), not_found).await?;
        let links: Vec<String> = response
            .headers()
            .get_all(LINK)
            .iter()
            .map(|header| String::from_utf8_lossy(header.as_bytes()).into_owned())
            .collect();
        let next = match links.iter().find_map(|header| link::next(header)) {
            Some(target) => Some(
                link::follow(&url, target)
                    .ok_or_else(|| malformed(endpoint, "the next page of its listing is on another host"))?,
            ),
            None => None,
        };
        let bytes = body(endpoint, response, limit, "a listing").await?;
        let page = serde_json::from_slice(&bytes).map_err(|error| {
            malformed(
                endpoint,
                format!("its listing is not the expected JSON (line {}, column {})", error.line(), error.column()),
            )
        })?;
        Ok((page, next, bytes.len()))
    }
}

/// The page that follows a tag.
fn after(endpoint: &Endpoint<'_>, last: &str) -> Url {
    let mut url = endpoint.tags(Some(PAGE_SIZE));
    url.query_pairs_mut().append_pair("last", last);
    url
}
