//! What is different about one registry: its certificate authority, plain HTTP, how often it may be asked, its token services.
//!
//! Registries are matched by their whole name and in no other way: settings of `ghcr.io` are nothing to
//! `ghcr.io.evil.example`, to another port, or to another spelling.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use reqwest::{Client, Url};

use super::endpoint::host_name;
use super::peer::{Peer, Peers};
use super::{Registry, RegistryError, RegistryOptions, TokenRealm, client};
use crate::domain::image::{Digest, Repository};
use crate::outbound::guard::Reach;

/// How one registry is reached, where that differs from all others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostSettings {
    /// Speak plain HTTP, whatever the [`super::Access`] says.
    pub insecure: bool,
    /// Certificates of a private authority in PEM, trusted for this registry and no other.
    pub ca_pem: Option<String>,
    /// Most requests per second, on average.
    pub requests_per_second: Option<f64>,
    /// Token services that credentials for this registry may go to: `HOST` on any port, or `HOST:PORT`.
    pub token_realms: Vec<String>,
}

/// One registry, ready to be asked.
pub(super) struct Host {
    pub(super) http: Client,
    pub(super) insecure: bool,
    pub(super) token_realms: Vec<String>,
    /// How fast it may be asked, if that is set.
    pub(super) rate: Option<f64>,
}

/// Every registry that has settings, and the one for all that have none. Swapped as a whole: an operation that is under
/// way ends with what it began with.
pub(super) struct Hosts {
    known: RwLock<Arc<Known>>,
    peers: Peers,
    /// Token services that belong to registries by the options.
    realms: Vec<TokenRealm>,
}

/// The settings at one moment.
pub(super) struct Known {
    any: Arc<Host>,
    /// Whoever has no settings and is known from a registry's answer only.
    led: Arc<Host>,
    named: BTreeMap<String, Named>,
    /// Clients by the authority that they trust.
    clients: BTreeMap<Digest, Client>,
}

struct Named {
    host: Result<Arc<Host>, RegistryError>,
}

impl Hosts {
    pub(super) fn new(options: &RegistryOptions) -> Result<Self, RegistryError> {
        let host = |reach| {
            let http = client::build(options, None, reach)?;
            Ok(Arc::new(Host { http, insecure: false, token_realms: Vec::new(), rate: None }))
        };
        let (any, led) = (host(Reach::Named)?, host(Reach::Led)?);
        let known = Known { any, led, named: BTreeMap::new(), clients: BTreeMap::new() };
        let realms = options.token_realms.clone();
        Ok(Self { known: RwLock::new(Arc::new(known)), peers: Peers::default(), realms })
    }

    /// Token services that belong to registries by the options.
    pub(super) fn realms(&self) -> &[TokenRealm] {
        &self.realms
    }

    pub(super) fn now(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is remembered about the host of this name.
    pub(super) fn peer(&self, name: &str, host: &Host) -> Arc<Peer> {
        self.peers.get(name, host.rate)
    }
}

impl Known {
    /// The registry of this name, as references name it.
    ///
    /// # Errors
    /// Its settings cannot be used.
    pub(super) fn host(&self, name: &str) -> Result<Arc<Host>, RegistryError> {
        self.named.get(name).map_or_else(|| Ok(self.any.clone()), |named| named.host.clone())
    }

    /// Whoever a URL leads to, and who named it. `belongs`: the host is the registry's own, or its token service.
    ///
    /// # Errors
    /// Its settings cannot be used.
    pub(super) fn behind(&self, url: &Url, belongs: bool) -> Result<(Arc<Host>, Reach), RegistryError> {
        match self.named.get(&host_name(url)) {
            Some(named) => Ok((named.host.clone()?, Reach::Named)),
            None if belongs => Ok((self.any.clone(), Reach::Named)),
            None => Ok((self.led.clone(), Reach::Led)),
        }
    }

    fn after(before: &Self, options: &RegistryOptions, settings: BTreeMap<String, HostSettings>) -> Self {
        let mut after =
            Self { any: before.any.clone(), led: before.led.clone(), named: BTreeMap::new(), clients: BTreeMap::new() };
        for (name, settings) in settings {
            let host = after.made(before, options, &name, &settings).map(Arc::new);
            after.named.insert(name, Named { host });
        }
        after
    }

    fn made(
        &mut self,
        before: &Self,
        options: &RegistryOptions,
        name: &str,
        settings: &HostSettings,
    ) -> Result<Host, RegistryError> {
        let wrong = |setting, why: String| RegistryError::Settings { registry: name.to_owned(), setting, why };
        let named = format!("{name}/any").parse::<Repository>();
        if !named.is_ok_and(|repository| repository.registry() == name) {
            let why =
                "no reference names a registry so; expected HOST[:PORT] in lower case, `docker.io` for Docker Hub";
            return Err(wrong("host", why.into()));
        }
        for realm in &settings.token_realms {
            let url = Url::parse(&format!("https://{realm}/"));
            if !url.is_ok_and(|url| names(realm, &url)) {
                let why = format!("`{}` is not HOST or HOST:PORT", super::error::excerpt(realm));
                return Err(wrong("realm", why));
            }
        }
        let rate = settings.requests_per_second;
        if let Some(rate) = rate.filter(|rate| !rate.is_normal() || *rate < 0.0) {
            return Err(wrong("rate", format!("{rate} is not more than 0")));
        }
        let http = match &settings.ca_pem {
            None => before.any.http.clone(),
            Some(pem) => {
                let content = Digest::of(pem.as_bytes());
                let known = self.clients.get(&content).or_else(|| before.clients.get(&content)).cloned();
                let client = known.map_or_else(|| client::build(options, Some(pem.as_bytes()), Reach::Named), Ok);
                let client = client.map_err(|error| match error {
                    RegistryError::Options { why } => wrong("ca", why),
                    other => other,
                })?;
                self.clients.insert(content, client.clone());
                client
            }
        };
        Ok(Host { http, insecure: settings.insecure, token_realms: settings.token_realms.clone(), rate })
    }
}

/// Whether `HOST` or `HOST:PORT` is where a URL leads to.
pub(super) fn names(host: &str, url: &Url) -> bool {
    let found = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    !found.is_empty() && (host == found || host == format!("{found}:{port}"))
}

impl Registry {
    /// Takes these settings in place of those before, by registry as references name it: `HOST[:PORT]`. What is under way
    /// ends with those that it began with. Tells which ones cannot be used: such a registry is not asked at all until
    /// they are corrected.
    pub fn configure(&self, settings: BTreeMap<String, HostSettings>) -> Vec<(String, RegistryError)> {
        let mut now = self.hosts.known.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(Known::after(&now, &self.options, settings));
        let wrong =
            now.named.iter().filter_map(|(name, named)| Some((name.clone(), named.host.as_ref().err()?.clone())));
        wrong.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_authority_is_one_client_and_stays_so() {
        let options = RegistryOptions::default();
        let ca = |text: &str| HostSettings { ca_pem: Some(text.to_owned()), ..HostSettings::default() };
        let one = include_str!("tests/tls/ca.pem");
        let other = format!("# remark\n{one}");
        let named = |all: &[(&str, &str)]| {
            all.iter().map(|(host, pem)| ((*host).to_owned(), ca(pem))).collect::<BTreeMap<_, _>>()
        };
        let none = Hosts::new(&options).unwrap().now();
        let first = Known::after(&none, &options, named(&[("a.test", one), ("b.test", one), ("c.test", &other)]));
        assert_eq!(first.clients.len(), 2);
        let second = Known::after(&first, &options, named(&[("a.test", one)]));
        assert_eq!(second.clients.len(), 1, "nobody keeps what nobody needs");
        assert!(second.clients.keys().all(|content| first.clients.contains_key(content)));
    }
}
