//! Where the API of a repository's registry is.

use std::sync::Arc;

use reqwest::Url;

use super::door::Door;
use super::paging::Paging;
use super::peer::Peer;
use super::settings::{Host, Hosts, Known, names};
use super::{Access, RegistryError};
use crate::domain::image::{Digest, Repository};
use crate::outbound::guard::{self, Reach};

/// Registries whose token service has another host, by the API's host.
const KNOWN_REALMS: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

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

    /// Whoever a URL leads to. What is set for this registry holds for itself, not for where it sends us.
    pub(super) fn door(&self, url: &Url) -> Result<Door, RegistryError> {
        if self.is_own(url) {
            self.within(url, Reach::Named)?;
            return Ok(Door { http: self.host.http.clone(), peer: self.peer.clone() });
        }
        let (host, reach) = self.known.behind(url, url.host() == self.base.host() || self.is_token_service(url))?;
        self.within(url, reach)?;
        Ok(Door { http: host.http.clone(), peer: self.hosts.peer(&host_name(url), &host) })
    }

    /// An address that is written as a number is asked only if it may be.
    fn within(&self, url: &Url, reach: Reach) -> Result<(), RegistryError> {
        guard::literal(url, reach).map_err(|guard::Refused(why)| RegistryError::AddressRefused {
            place: self.place(),
            host: host_name(url),
            why,
        })
    }

    /// Whether a URL leads to a token service that is known to belong to this registry: everywhere, by the options, or by
    /// its settings.
    pub(super) fn is_token_service(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let known = url.scheme() == "https"
            && url.port().is_none()
            && KNOWN_REALMS.iter().any(|(registry, realm)| self.base.host_str() == Some(*registry) && *realm == host);
        let listed = self.hosts.realms().iter().any(|it| it.registry == self.repository.registry() && it.host == host);
        known || listed || self.host.token_realms.iter().any(|allowed| names(allowed, url))
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
