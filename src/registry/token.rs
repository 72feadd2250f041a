//! Tokens: who may be sent our credentials, and how long a token is kept.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::client::unreachable;
use super::credential::Authorization;
use super::endpoint::{Endpoint, host_name, same_origin};
use super::exchange::{BodyError, bounded, denied, malformed};
use super::{Credential, RateLimit, Registry, RegistryError};
use crate::domain::image::Digest;
use crate::outbound::retry_after;

/// Most authorizations that are kept.
const MAX_KEPT: usize = 20_000;
/// Bytes of a token service's answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Longest token that is passed on, in bytes: servers refuse longer headers.
const MAX_TOKEN_LENGTH: usize = 32 << 10;
/// Longest scope that a registry can add to ours, in bytes.
const MAX_SCOPE_LENGTH: usize = 256;
/// How long a token holds whose service does not say, in seconds; the distribution specification sets it.
const DEFAULT_LIFETIME: u64 = 60;
const MAX_LIFETIME: u64 = 24 * 3600;

/// What was found out about each repository, as each of us: tokens until they expire, and who wants passwords.
#[derive(Default)]
pub(super) struct Authorizations(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    authorizations: HashMap<Key, (Authorization, Option<Timestamp>)>,
    /// Where each registry sends each of us for tokens, with its name for itself: whoever knows need not be refused first.
    services: HashMap<Key, (String, Option<String>)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    origin: String,
    scope: Option<String>,
    credential: Option<Digest>,
}

impl Key {
    fn of(endpoint: &Endpoint<'_>) -> Self {
        Self {
            origin: endpoint.origin().as_str().to_owned(),
            scope: endpoint.scope(),
            credential: endpoint.access().credential.fingerprint(),
        }
    }

    /// The registry as such, for all its repositories.
    fn of_registry(endpoint: &Endpoint<'_>) -> Self {
        Self { scope: None, ..Self::of(endpoint) }
    }
}

impl Authorizations {
    pub(super) fn current(&self, endpoint: &Endpoint<'_>, now: Timestamp) -> Option<Authorization> {
        let kept = self.lock();
        let (authorization, until) = kept.authorizations.get(&Key::of(endpoint))?;
        until.is_none_or(|until| now < until).then(|| authorization.clone())
    }

    pub(super) fn forget(&self, endpoint: &Endpoint<'_>) {
        let mut kept = self.lock();
        kept.authorizations.remove(&Key::of(endpoint));
        kept.services.remove(&Key::of_registry(endpoint));
    }

    fn keep(&self, endpoint: &Endpoint<'_>, authorization: Authorization, until: Option<Timestamp>, now: Timestamp) {
        let kept = &mut self.lock().authorizations;
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (_, until)| until.is_some_and(|until| now < until));
        }
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(Key::of(endpoint), (authorization, until));
    }

    fn service(&self, endpoint: &Endpoint<'_>) -> Option<(String, Option<String>)> {
        self.lock().services.get(&Key::of_registry(endpoint)).cloned()
    }

    fn keep_service(&self, endpoint: &Endpoint<'_>, realm: &str, service: Option<&str>) {
        let services = &mut self.lock().services;
        if services.len() >= MAX_KEPT {
            services.clear();
        }
        services.insert(Key::of_registry(endpoint), (realm.to_owned(), service.map(str::to_owned)));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// What to send along with a request: what is still good, or a new token where it is known that one is wanted.
    pub(super) async fn foreseen(&self, endpoint: &Endpoint<'_>) -> Result<Option<Authorization>, RegistryError> {
        if let Some(known) = self.authorizations.current(endpoint, self.clock.now()) {
            return Ok(Some(known));
        }
        match self.authorizations.service(endpoint) {
            Some((realm, service)) if endpoint.scope().is_some() => {
                self.token(endpoint, &realm, service.as_deref(), None).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Answers the challenge of a 401.
    pub(super) async fn authorize(
        &self,
        endpoint: &Endpoint<'_>,
        headers: &HeaderMap,
    ) -> Result<Authorization, RegistryError> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service.as_deref(), scope.as_deref())),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            let token = self.token(endpoint, realm, service, scope).await?;
            // What a registry adds of its own may be for this repository alone.
            if added(scope).is_none() {
                self.authorizations.keep_service(endpoint, realm, service);
            }
            return Ok(token);
        }
        if !challenges.contains(&Challenge::Basic) {
            return Err(denied(endpoint, "it answered 401 and does not say how to authenticate"));
        }
        if endpoint.access().credential.is_anonymous() {
            return Err(denied(endpoint, "it wants a user and password, and no credential is given"));
        }
        self.authorizations.keep(endpoint, Authorization::Basic, None, self.clock.now());
        Ok(Authorization::Basic)
    }

    async fn token(
        &self,
        endpoint: &Endpoint<'_>,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Authorization, RegistryError> {
        let mut url =
            Url::parse(realm).map_err(|_| malformed(endpoint, "the realm of its token service is not a URL"))?;
        check_realm(endpoint, &url)?;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            // The scope is ours to name. What the registry adds is passed on unless it is about repositories.
            query.extend_pairs(endpoint.scope().map(|scope| ("scope", scope)));
            query.extend_pairs(added(scope).map(|scope| ("scope", scope)));
        }
        let place = format!("{} (token service of {})", host_name(&url), endpoint.place());
        let door = endpoint.door(&url)?;
        let mut request = door.http.get(url);
        if let Credential::Basic { user, secret } = &endpoint.access().credential {
            request = request.basic_auth(user, Some(&**secret));
        }
        door.turn(&place).await?;
        let response = request.send().await.map_err(|error| unreachable(place.clone(), &error))?;
        door.heard(&response, self.clock.now());
        let (status, wait) = (response.status(), retry_after(response.headers(), self.clock.now()));
        if !status.is_success() {
            let (number, anonymous) = (status.as_u16(), endpoint.access().credential.is_anonymous());
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS => {
                    // Without tokens the registry is not to be asked either.
                    endpoint.peer().pace.refused(wait);
                    RegistryError::RateLimited { place, retry_after: wait, limit: RateLimit::Answered }
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if anonymous => {
                    RegistryError::Denied { place, why: "it gives no token without a credential".into() }
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    RegistryError::Denied { place, why: "it does not accept the credential".into() }
                }
                status if status.is_server_error() => {
                    RegistryError::Unavailable { place, status: number, retry_after: wait }
                }
                _ => RegistryError::Unexpected { place, status: number },
            });
        }
        let body = bounded(response, MAX_ANSWER_BYTES).await.map_err(|error| match error {
            BodyError::Broken(error) => unreachable(place.clone(), &error),
            BodyError::TooLarge => RegistryError::TooLarge {
                place: place.clone(),
                what: "a token",
                limit: format!("{MAX_ANSWER_BYTES} bytes"),
            },
        })?;
        let (token, lifetime) = read_token(&body)
            .ok_or_else(|| RegistryError::Malformed { place, what: "its answer holds no usable token".into() })?;
        let now = self.clock.now();
        let authorization = Authorization::Bearer(token);
        self.authorizations.keep(endpoint, authorization.clone(), now.checked_add(lifetime).ok(), now);
        Ok(authorization)
    }
}

/// The scope that a registry asks for beside ours.
fn added(scope: Option<&str>) -> Option<&str> {
    scope.filter(|scope| scope.len() <= MAX_SCOPE_LENGTH && !scope.contains("repository:"))
}

/// The token, and how long to use it: a little less than it holds.
fn read_token(body: &[u8]) -> Option<(String, SignedDuration)> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        #[serde(default)]
        expires_in: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
    let legal = !token.is_empty() && token.len() <= MAX_TOKEN_LENGTH && token.bytes().all(|b| b.is_ascii_graphic());
    let seconds = answer.expires_in.as_u64().unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME);
    let used = i64::try_from(seconds - (seconds / 4).min(30)).ok()?;
    legal.then_some((token, SignedDuration::from_secs(used)))
}

/// Whether a token service may be asked, and with a credential, be sent it.
///
/// With a credential: over HTTPS on the registry's own host (any port), or on a host that is known or allowed to be
/// its token service; over plain HTTP only for an `insecure` registry, on the same port or an allowed host.
/// Without a credential: any HTTPS host, plain HTTP only for an `insecure` registry.
fn check_realm(endpoint: &Endpoint<'_>, realm: &Url) -> Result<(), RegistryError> {
    let refuse = |why| {
        Err(RegistryError::RealmRefused { registry: endpoint.repository().clone(), realm: host_name(realm), why })
    };
    if !realm.username().is_empty() || realm.password().is_some() {
        return refuse("its URL holds a user name");
    }
    match realm.scheme() {
        "https" => {}
        "http" if endpoint.is_insecure() => {}
        "http" => return refuse("it is plain HTTP, and the registry is not `insecure`"),
        _ => return refuse("it is not an https URL"),
    }
    if endpoint.access().credential.is_anonymous() {
        return Ok(());
    }
    let own = endpoint.origin();
    let same = if realm.scheme() == "https" { realm.host() == own.host() } else { same_origin(realm, own) };
    if same || endpoint.is_token_service(realm) { Ok(()) } else { refuse("its host is not the registry's") }
}

#[cfg(test)]
mod tests;
