//! Where the API of a repository's registry is.

use std::sync::Arc;

use reqwest::Url;

use super::door::Door;
use super::paging::Paging;
use super::peer::Peer;
use super::settings::{Host, Hosts, Known};
use super::{Access, RegistryError};
use crate::domain::image::{Digest, Repository};

/// A repository, how to reach it, and the URLs of its API.
pub(super) struct Endpoint<'a> {
    repository: &'a Repository,
    access: &'a Access,
    base: Url,
    scoped: bool,
    /// The registry itself, and everybody else, as they were when the operation began.
    host: Arc<Host>,
    known: Arc<Known>,
    peer: Arc<Peer>,
    hosts: &'a Hosts,
}

impl<'a> Endpoint<'a> {
    pub(super) fn new(repository: &'a Repository, access: &'a Access, hosts: &'a Hosts) -> Result<Self, RegistryError> {
        let known = hosts.now();
        let settings = known.host(repository.registry())?;
        let scheme = if access.insecure || settings.insecure { "http" } else { "https" };
        // Docker Hub's references and its API live under different names.
        let host = if repository.registry() == "docker.io" { "registry-1.docker.io" } else { repository.registry() };
        let base = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|_| RegistryError::Unreachable {
            place: repository.to_string(),
            why: "its host is not a valid name or address".into(),
        })?;
        let peer = hosts.peer(repository.registry(), &settings);
        Ok(Self { repository, access, base, scoped: true, host: settings, known, peer, hosts })
    }

    /// The same registry, asked about itself and not about one repository.
    pub(super) fn without_scope(mut self) -> Self {
        self.scoped = false;
        self
    }

    pub(super) fn repository(&self) -> &'a Repository {
        self.repository
    }

    pub(super) fn access(&self) -> &'a Access {
        self.access
    }

    /// Whether plain HTTP is spoken, by the settings or by the access.
    pub(super) fn is_insecure(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Token services that belong to this registry by its settings.
    pub(super) fn token_realms(&self) -> &[String] {
        &self.host.token_realms
    }

    /// Whoever a URL leads to. What is set for this registry holds for itself, not for where it sends us.
    pub(super) fn door(&self, url: &Url) -> Result<Door, RegistryError> {
        if self.is_own(url) {
            return Ok(Door { http: self.host.http.clone(), peer: self.peer.clone() });
        }
        let host = self.known.behind(url)?;
        Ok(Door { http: host.http.clone(), peer: self.hosts.peer(&host_name(url), &host) })
    }

    /// How this registry lists.
    pub(super) fn paging(&self) -> &Paging {
        &self.peer.paging
    }

    /// Who it is that is asked.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// How errors name this place.
    pub(super) fn place(&self) -> String {
        self.repository.to_string()
    }

    /// The right that a token must give; none when the registry is asked about itself.
    pub(super) fn scope(&self) -> Option<String> {
        self.scoped.then(|| format!("repository:{}:pull", self.repository.path()))
    }

    pub(super) fn ping(&self) -> Url {
        self.base.clone()
    }

    pub(super) fn tags(&self, page_size: Option<usize>) -> Url {
        let mut url = self.below("tags/list");
        if let Some(page_size) = page_size {
            url.set_query(Some(&format!("n={page_size}")));
        }
        url
    }

    /// `image` is a legal tag or a digest, so that it is one path segment.
    pub(super) fn manifest(&self, image: &str) -> Url {
        self.below(&format!("manifests/{image}"))
    }

    pub(super) fn blob(&self, digest: &Digest) -> Url {
        self.below(&format!("blobs/{digest}"))
    }

    /// Repository paths consist of characters that need no escaping, and have no `.` or `..` segments.
    fn below(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository.path()));
        url
    }

    /// Whether a URL belongs to this registry: same scheme, host and port.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        same_origin(&self.base, url)
    }

    /// The registry's own host and port.
    pub(super) fn origin(&self) -> &Url {
        &self.base
    }
}

pub(super) fn same_origin(left: &Url, right: &Url) -> bool {
    left.scheme() == right.scheme()
        && left.host() == right.host()
        && left.port_or_known_default() == right.port_or_known_default()
}

/// `host` or `host:port` of a URL, to be named in errors.
pub(super) fn host_name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
