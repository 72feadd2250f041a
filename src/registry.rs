//! Client of the OCI distribution API: lists tags, resolves them to digests, and says plainly why it cannot.
//!
//! Three rules hold everywhere in this room. Credentials go to the registry's own host or to a token service that is
//! known to belong to it, and nowhere else (`token`). Whatever a registry sends is bounded and checked: pages, bytes,
//! time, digests. And a listing is either complete or an error: an outage never looks like a repository without tags.
//!
//! When to ask, and how often, is the caller's business: nothing here retries or schedules. A registry with a limit of its
//! own (`settings`) is asked no faster than that.

mod challenge;
mod client;
mod credential;
mod endpoint;
mod error;
mod exchange;
mod link;
mod manifest;
mod pace;
mod resolve;
mod settings;
mod tags;
mod token;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;

use crate::domain::clock::Clock;
use crate::domain::image::Repository;

pub use self::credential::{Access, Credential};
pub use self::error::RegistryError;
pub use self::resolve::{Resolved, Selector};
pub use self::settings::HostSettings;
pub use self::tags::Tags;

use self::endpoint::Endpoint;
use self::settings::Hosts;
use self::token::Authorizations;

/// How to reach registries, and how much to take from them.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time for one request with its answer.
    pub request_timeout: Duration,
    /// Longest time for one listing or resolution with all its requests.
    pub total_timeout: Duration,
    /// Certificates of private authorities in PEM, trusted beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// Token services that credentials may go to although their host is not the registry's.
    pub token_realms: Vec<TokenRealm>,
    /// How much is accepted in one answer.
    pub limits: Limits,
}

/// A token service that belongs to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRealm {
    /// The registry as references name it: `host` or `host:port`.
    pub registry: String,
    /// The token service's host, compared exactly.
    pub host: String,
}

/// How much is accepted of what a registry sends. More is an error, never a shorter result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one manifest or image configuration.
    pub manifest_bytes: usize,
    /// Bytes of one listing, over all its pages.
    pub listing_bytes: usize,
    /// Pages of one listing.
    pub listing_pages: usize,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(2),
            ca_pem: None,
            token_realms: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { manifest_bytes: 4 << 20, listing_bytes: 32 << 20, listing_pages: 1000 }
    }
}

/// The client. One serves the whole process: connections and tokens are shared.
pub struct Registry {
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    options: RegistryOptions,
    authorizations: Authorizations,
}

impl Registry {
    /// A client with these options.
    ///
    /// # Errors
    /// When the certificates cannot be read or TLS cannot be set up.
    pub fn new(options: RegistryOptions, clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        let hosts = Hosts::new(client::build(&options, None)?);
        Ok(Self { hosts, clock, options, authorizations: Authorizations::default() })
    }

    /// All tags of a repository.
    ///
    /// # Errors
    /// Whenever the listing is not known to be complete.
    pub async fn list_tags(&self, repository: &Repository, access: &Access) -> Result<Tags, RegistryError> {
        let endpoint = Endpoint::new(repository, access, self.hosts.now())?;
        self.within_deadline(&endpoint, self.all_tags(&endpoint)).await
    }

    /// What a tag or digest stands for, and the manifest in it for a platform when one is asked for.
    ///
    /// # Errors
    /// When there is no such image, when it lacks the platform, or when the registry cannot be believed.
    pub async fn resolve(
        &self,
        repository: &Repository,
        selector: Selector<'_>,
        platform: Option<&crate::domain::image::Platform>,
        access: &Access,
    ) -> Result<Resolved, RegistryError> {
        let endpoint = Endpoint::new(repository, access, self.hosts.now())?;
        self.within_deadline(&endpoint, self.resolved(&endpoint, selector, platform)).await
    }

    /// Whether the repository's registry answers and lets us in.
    ///
    /// # Errors
    /// When it does not, with what to do about it.
    pub async fn ping(&self, repository: &Repository, access: &Access) -> Result<(), RegistryError> {
        let endpoint = Endpoint::new(repository, access, self.hosts.now())?.without_scope();
        let call = self.request(&endpoint, &Method::GET, endpoint.ping(), None);
        let response = self.within_deadline(&endpoint, call).await?;
        exchange::accepted(&endpoint, response, self.clock.now(), |_| RegistryError::Malformed {
            place: endpoint.place(),
            what: "it has no `/v2/`: this is not a registry".into(),
        })
        .await
        .map(|_| ())
    }

    /// Bounds an operation of several requests.
    async fn within_deadline<T>(
        &self,
        endpoint: &Endpoint<'_>,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let limit = self.options.total_timeout;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let what = if endpoint.is_queued() {
                "its turn did not come: more is asked than its `rate` allows, and it was not done"
            } else {
                "it was not done"
            };
            Err(RegistryError::Unreachable {
                place: endpoint.place(),
                why: format!("{what} within {} s", limit.as_secs()),
            })
        })
    }
}

#[cfg(test)]
mod tests;
