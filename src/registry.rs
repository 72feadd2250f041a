//! Client of the OCI distribution API: lists tags, resolves them to digests, and says plainly why it cannot.
//!
//! Four rules hold everywhere in this room. Credentials go to the registry's own host or to a token service that is
//! known to belong to it, and nowhere else (`token`). No answer leads us into the networks behind us (`outbound::guard`). Whatever a registry sends is bounded and checked: pages, bytes,
//! time, digests. And a listing is either complete or an error: an outage never looks like a repository without tags.
//!
//! When to ask, and how often, is the caller's business: nothing here retries or schedules. What the client keeps to by
//! itself is the pace of each registry (`pace`): the rate that is set for it, and the rests that its answers ask for. A
//! request whose turn is not soon ends with [`RegistryError::RateLimited`]; [`Registry::ready_at`] says when to come back.

mod bounded;
mod built;
mod challenge;
mod client;
mod credential;
mod door;
mod endpoint;
mod error;
mod exchange;
mod link;
mod manifest;
mod pace;
mod paging;
mod peer;
mod quota;
mod resolve;
mod runnable;
mod settings;
mod tags;
mod token;
mod validator;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::domain::clock::Clock;
use crate::domain::image::{Digest, Platform, Repository};

pub use self::credential::{Access, Credential};
pub use self::error::{RateLimit, RegistryError};
pub use self::resolve::{Resolved, Selector};
pub use self::settings::HostSettings;
pub use self::tags::{Listing, Tags};
pub use self::validator::{NotAValidator, Validator};

use self::endpoint::Endpoint;
use self::exchange::Call;
use self::runnable::Seen;
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
        Self { manifest_bytes: 4 << 20, listing_bytes: 16 << 20, listing_pages: 1000 }
    }
}

/// The client. One serves the whole process: connections and tokens are shared.
pub struct Registry {
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    options: RegistryOptions,
    authorizations: Authorizations,
    seen: Seen,
    /// Whoever has it may keep a large body in memory.
    alone: Arc<Semaphore>,
}

impl Registry {
    /// A client with these options.
    ///
    /// # Errors
    /// When the certificates cannot be read or TLS cannot be set up.
    pub fn new(options: RegistryOptions, clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        let hosts = Hosts::new(&options)?;
        let (authorizations, seen) = (Authorizations::default(), Seen::default());
        Ok(Self { hosts, clock, options, authorizations, seen, alone: Arc::new(Semaphore::new(1)) })
    }

    /// All tags of a repository. With `known`, from the listing before as the same user, the registry may answer that they
    /// are still the same.
    ///
    /// # Errors
    /// Whenever the listing is not known to be complete.
    pub async fn list_tags(
        &self,
        repository: &Repository,
        access: &Access,
        known: Option<&Validator>,
    ) -> Result<Listing, RegistryError> {
        let endpoint = Endpoint::new(repository, access, &self.hosts)?;
        self.within_deadline(&endpoint, self.all_tags(&endpoint, known)).await
    }

    /// What a tag or digest stands for, and the manifest in it for a platform when one is asked for.
    ///
    /// # Errors
    /// When there is no such image, when it cannot run, when it lacks the platform, or when the registry cannot be
    /// believed.
    pub async fn resolve(
        &self,
        repository: &Repository,
        selector: Selector<'_>,
        platform: Option<&Platform>,
        access: &Access,
    ) -> Result<Resolved, RegistryError> {
        let endpoint = Endpoint::new(repository, access, &self.hosts)?;
        self.within_deadline(&endpoint, self.resolved(&endpoint, selector, platform)).await
    }

    /// When an image was created, as its configuration says; None when it does not. Of an index, the image for the
    /// platform, or the first one when none is asked for.
    ///
    /// # Errors
    /// As for [`Registry::resolve`].
    pub async fn built(
        &self,
        repository: &Repository,
        digest: Digest,
        platform: Option<&Platform>,
        access: &Access,
    ) -> Result<Option<Timestamp>, RegistryError> {
        let endpoint = Endpoint::new(repository, access, &self.hosts)?;
        self.within_deadline(&endpoint, self.creation(&endpoint, digest, platform)).await
    }

    /// When the registry of this repository may be asked; None: now. It was told to rest, or its rate is used up.
    pub fn ready_at(&self, repository: &Repository) -> Option<Instant> {
        // A registry whose settings cannot be used says so when it is asked.
        let host = self.hosts.now().host(repository.registry()).ok()?;
        self.hosts.peer(repository.registry(), &host).pace.ready_at()
    }

    /// Whether the repository's registry answers and lets us in.
    ///
    /// # Errors
    /// When it does not, with what to do about it.
    pub async fn ping(&self, repository: &Repository, access: &Access) -> Result<(), RegistryError> {
        let endpoint = Endpoint::new(repository, access, &self.hosts)?.without_scope();
        let call = Call::get(endpoint.ping());
        let response = self.within_deadline(&endpoint, self.request(&endpoint, &call)).await?;
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
            Err(RegistryError::Unreachable {
                place: endpoint.place(),
                why: format!("it was not done within {} s", limit.as_secs()),
            })
        })
    }
}

#[cfg(test)]
mod tests;
