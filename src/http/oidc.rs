//! ID tokens of an `OpenID` Connect issuer, for people who have no token of Kubernetes.
//!
//! The issuer is found by discovery, and its keys are read again when a token names one that is not known. A token counts when
//! it was signed by one of those keys with an algorithm of ours, for our client, by this issuer, and has not ended. Who it
//! names is a user of Kubernetes like any other, under a prefix; what they may do, the cluster says.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use reqwest::{Client, Url, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    cluster::access::{Attributes, Person, Reviews, Unanswered},
    config::OidcConfig,
    domain::clock::Clock,
};

/// Asymmetric ones: whoever checks a token cannot make one.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Keys are read again after so long, and no more often than this when a token names one that is not known.
const FRESH: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_secs(10);

/// Keys that could not be read again are believed for so long.
const STALE: Duration = Duration::from_hours(6);

/// Longest answer of an issuer, in bytes.
const LONGEST: usize = 1 << 20;

/// A clock that is a little behind, in seconds.
const LEEWAY: i64 = 30;

/// What every authenticated user is in, as Kubernetes has it.
const AUTHENTICATED: &str = "system:authenticated";

/// Knows the tokens of one issuer, and leaves all others, and all questions of rights, to the cluster.
pub struct Oidc {
    config: OidcConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    cluster: Arc<dyn Reviews>,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    set: Option<Arc<JwkSet>>,
    /// When they were read.
    read: Option<Instant>,
    /// When they were asked for last, with or without an answer.
    asked: Option<Instant>,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Issued {
    iss: Option<String>,
}

impl Oidc {
    /// Takes tokens of the issuer beside those of `cluster`.
    ///
    /// # Errors
    /// This process cannot make HTTP requests.
    pub fn new(config: OidcConfig, cluster: Arc<dyn Reviews>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = Client::builder()
            .user_agent(concat!("stagekeeper/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(10))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .build()
            .map_err(|error| format!("this process cannot make HTTP requests: {error}"))?;
        Ok(Self { config, client, clock, cluster, keys: Mutex::default() })
    }

    /// Whether a token says that it is one of this issuer. That is only where to look: nothing of it is believed yet.
    fn is_ours(&self, token: &str) -> bool {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let issued = claims.and_then(|claims| serde_json::from_slice::<Issued>(&claims).ok());
        issued.is_some_and(|issued| issued.iss.as_deref() == Some(self.config.issuer.as_str()))
    }

    async fn reviewed(&self, token: &str) -> Result<Option<Person>, Unanswered> {
        let Ok(header) = decode_header(token) else { return Ok(None) };
        if !ALGORITHMS.contains(&header.alg) {
            return Ok(None);
        }
        let mut again = false;
        loop {
            let keys = self.keys(again).await?;
            let found = chosen(&keys, header.kid.as_deref(), header.alg);
            match found.and_then(|key| DecodingKey::from_jwk(key).ok()) {
                Some(key) => return Ok(self.claims(token, header.alg, &key).and_then(|claims| self.named(&claims))),
                // A key that is not known may be a new one.
                None if !again => again = true,
                None => return Ok(None),
            }
        }
    }

    /// What a token says, if it is one: the time is checked against our clock.
    fn claims(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Map<String, Value>> {
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[&self.config.client_id]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = decode::<Map<String, Value>>(token, key, &validation).ok()?.claims;
        let second = |name: &str| claims.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
        #[expect(clippy::cast_precision_loss, reason = "seconds of any year that matters")]
        let now = self.clock.now().as_second() as f64;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let leeway = LEEWAY as f64;
        let has_ended = !second("exp").is_some_and(|end| now < end);
        let has_begun = second("nbf").is_none_or(|begin| begin <= now + leeway);
        (!has_ended && has_begun).then_some(claims)
    }

    /// Whom the claims name. Whoever has no name or no groups is nobody; names that belong to Kubernetes are nobody's to give.
    fn named(&self, claims: &Map<String, Value>) -> Option<Person> {
        let OidcConfig { user_claim, user_prefix, groups_claim, groups_prefix, .. } = &self.config;
        if user_claim == "email" && claims.get("email_verified").is_some_and(|verified| verified != &Value::Bool(true))
        {
            return None;
        }
        let name = claims.get(user_claim)?.as_str().filter(|name| !name.is_empty())?;
        let groups: Vec<&str> = match claims.get(groups_claim)? {
            Value::String(group) => vec![group],
            Value::Array(groups) => groups.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        if groups.is_empty() || groups.iter().any(|group| group.is_empty()) {
            return None;
        }
        let user = format!("{user_prefix}{name}");
        let groups: Vec<String> = groups.into_iter().map(|group| format!("{groups_prefix}{group}")).collect();
        if user.starts_with("system:") || groups.iter().any(|group| group.starts_with("system:")) {
            return None;
        }
        let groups = groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect();
        Some(Person { user, groups, uid: None, extra: std::collections::BTreeMap::new() })
    }

    /// The issuer's keys; read `again` because one is missing. Whoever comes meanwhile waits for the same answer.
    async fn keys(&self, again: bool) -> Result<Arc<JwkSet>, Unanswered> {
        let mut keys = self.keys.lock().await;
        let older = |at: Option<Instant>, age: Duration| at.is_none_or(|at| at.elapsed() >= age);
        let due = older(keys.read, FRESH) || again;
        if due && older(keys.asked, PAUSE) {
            keys.asked = Some(Instant::now());
            match self.read_keys().await {
                Ok(set) => {
                    keys.set = Some(Arc::new(set));
                    keys.read = keys.asked;
                }
                Err(why) => tracing::warn!(issuer = self.config.issuer, why, "the keys of the issuer cannot be read"),
            }
        }
        match &keys.set {
            Some(set) if !older(keys.read, STALE) => Ok(set.clone()),
            _ => Err(Unanswered(format!("the keys of {} are not known", self.config.issuer))),
        }
    }

    async fn read_keys(&self) -> Result<JwkSet, String> {
        let place = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let place = Url::parse(&place).map_err(|error| error.to_string())?;
        let found: Discovered = self.fetch(place).await?;
        if found.issuer != self.config.issuer {
            return Err("what was discovered is another issuer".into());
        }
        let keys = Url::parse(&found.jwks_uri).map_err(|error| error.to_string())?;
        if keys.scheme() != "https" && !self.config.issuer.starts_with("http://") {
            return Err("its keys are not behind https".into());
        }
        self.fetch(keys).await
    }

    async fn fetch<T: DeserializeOwned>(&self, place: Url) -> Result<T, String> {
        let said = |error: reqwest::Error| error.without_url().to_string();
        let answer = self.client.get(place).send().await.map_err(said)?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        let mut body = Vec::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(said)?;
            if body.len() + piece.len() > LONGEST {
                return Err("its answer is too long".into());
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).map_err(|_| "its answer is not what was expected".to_owned())
    }
}

/// The key that a token names, if it is one for signing with this algorithm. A token that names none is for an issuer that has
/// only one.
fn chosen<'a>(keys: &'a JwkSet, id: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let fits = |key: &&Jwk| {
        let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let public = !matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
        let named = key.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
        signs && public && named
    };
    let mut all = keys.keys.iter().filter(fits);
    if let Some(id) = id {
        return all.find(|key| key.common.key_id.as_deref() == Some(id));
    }
    all.next().filter(|_| all.next().is_none())
}

impl Reviews for Oidc {
    fn person<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Person>, Unanswered>> {
        if self.is_ours(token) { self.reviewed(token).boxed() } else { self.cluster.person(token) }
    }

    fn allows<'a>(&'a self, person: &'a Person, what: &'a Attributes) -> BoxFuture<'a, Result<bool, Unanswered>> {
        self.cluster.allows(person, what)
    }
}

#[cfg(test)]
mod tests;
