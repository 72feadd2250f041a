//! An `OpenID` Connect issuer: where it is found, which of its ID tokens count, and how a code becomes one.
//!
//! The issuer is found by discovery, and its keys are read again when a token names one that is not known. A token counts when
//! it was signed by one of those keys with an algorithm of ours, for our client, by this issuer, and has not ended.

use std::{sync::Arc, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use futures::StreamExt as _;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use reqwest::{Client, Response, Url, header::AUTHORIZATION, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use crate::domain::clock::Clock;

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

/// What an issuer says of itself is read again after so long.
const FRESH: Duration = Duration::from_mins(10);
/// And no more often than this when a token names a key that is not known.
pub const PAUSE: Duration = Duration::from_secs(10);

/// What could not be read again is believed for so long.
const STALE: Duration = Duration::from_hours(6);

/// Longest answer of an issuer, in bytes.
const LONGEST: usize = 1 << 20;

/// A clock that is a little behind, in seconds.
const LEEWAY: i64 = 30;

/// What a token says, by name.
pub type Claims = Map<String, Value>;

/// The issuer did not answer. Says nothing of what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub String);

/// One issuer, as it says that it is.
pub struct Issuer {
    name: String,
    client: Client,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    said: Option<Arc<Said>>,
    /// When it was read.
    read: Option<Instant>,
    /// When it was asked for last, with or without an answer.
    asked: Option<Instant>,
}

struct Said {
    keys: JwkSet,
    endpoints: Endpoints,
}

/// Where an issuer signs people in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Where browsers are sent to.
    pub authorization: Option<Url>,
    /// Where codes are taken.
    pub token: Option<Url>,
    /// Where people sign out.
    pub end_session: Option<Url>,
    /// The client's secret is sent in the form, and not as HTTP Basic.
    pub secret_in_form: bool,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Issued {
    iss: Option<String>,
}

#[derive(Deserialize)]
struct Redeemed {
    id_token: Option<Zeroizing<String>>,
}

/// What a code is redeemed with.
#[derive(Debug, Clone, Copy)]
pub struct Code<'a> {
    /// The code itself.
    pub code: &'a str,
    /// The client that it was given to.
    pub client_id: &'a str,
    /// Its secret, if it has one.
    pub secret: Option<&'a str>,
    /// The address that it was given at.
    pub redirect_uri: &'a str,
    /// What the challenge was made of.
    pub verifier: &'a str,
}

impl Issuer {
    /// The issuer of this name: exactly as its tokens have it.
    ///
    /// # Errors
    /// This process cannot make HTTP requests.
    pub fn new(name: &str, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let client = Client::builder()
            .user_agent(concat!("stagekeeper/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(10))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .build()
            .map_err(|error| format!("this process cannot make HTTP requests: {error}"))?;
        Ok(Self { name: name.to_owned(), client, clock, known: Mutex::default() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a token says that it is one of this issuer. That is only where to look: nothing of it is believed yet.
    pub fn is_named_by(&self, token: &str) -> bool {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let issued = claims.and_then(|claims| serde_json::from_slice::<Issued>(&claims).ok());
        issued.is_some_and(|issued| issued.iss.as_deref() == Some(self.name.as_str()))
    }

    /// What a token for `audience` says; nothing if it is none that counts.
    ///
    /// # Errors
    /// The issuer's keys are not known.
    pub async fn claims(&self, token: &str, audience: &str) -> Result<Option<Claims>, Away> {
        let Ok(header) = decode_header(token) else { return Ok(None) };
        if !ALGORITHMS.contains(&header.alg) {
            return Ok(None);
        }
        let mut again = false;
        loop {
            let said = self.said(again).await?;
            let found = chosen(&said.keys, header.kid.as_deref(), header.alg);
            match found.and_then(|key| DecodingKey::from_jwk(key).ok()) {
                Some(key) => return Ok(self.believed(token, audience, header.alg, &key)),
                // A key that is not known may be a new one.
                None if !again => again = true,
                None => return Ok(None),
            }
        }
    }

    /// What a token says, if it is one: the time is checked against our clock.
    fn believed(&self, token: &str, audience: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Claims> {
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[&self.name]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = decode::<Claims>(token, key, &validation).ok()?.claims;
        let second = |name: &str| claims.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
        #[expect(clippy::cast_precision_loss, reason = "seconds of any year that matters")]
        let now = self.clock.now().as_second() as f64;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let leeway = LEEWAY as f64;
        let has_ended = !second("exp").is_some_and(|end| now < end);
        let has_begun = second("nbf").is_none_or(|begin| begin <= now + leeway);
        (!has_ended && has_begun).then_some(claims)
    }

    /// Where it signs people in.
    ///
    /// # Errors
    /// The issuer has not said.
    pub async fn endpoints(&self) -> Result<Endpoints, Away> {
        self.said(false).await.map(|said| said.endpoints.clone())
    }

    /// The ID token that a code is worth; nothing if the issuer does not take the code.
    ///
    /// # Errors
    /// The issuer does not answer, or not with a token.
    pub async fn redeem(&self, code: Code<'_>) -> Result<Option<Zeroizing<String>>, Away> {
        let endpoints = self.endpoints().await?;
        let away = |why: &str| Away(format!("codes of {} cannot be redeemed: {why}", self.name));
        let place = endpoints.token.ok_or_else(|| away("it has no token endpoint"))?;
        let secret = code.secret.filter(|_| !endpoints.secret_in_form);
        let form = form(&code, secret.is_none(), endpoints.secret_in_form);
        let mut request = self.client.post(place).header("content-type", "application/x-www-form-urlencoded");
        if let Some(secret) = secret {
            // Both are coded as in a form first (RFC 6749, 2.3.1).
            let coded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = Zeroizing::new(format!("{}:{}", coded(code.client_id), coded(secret)));
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        }
        let answer = request.body(form).send().await;
        let answer = answer.map_err(|error| away(&error.without_url().to_string()))?;
        if answer.status().is_client_error() {
            tracing::warn!(issuer = self.name, status = answer.status().as_u16(), "a code was not taken");
            return Ok(None);
        }
        let redeemed: Redeemed = read(answer).await.map_err(|why| away(&why))?;
        redeemed.id_token.map(Some).ok_or_else(|| away("its answer has no ID token"))
    }

    /// What the issuer says of itself; read `again` because a key is missing. Whoever comes meanwhile waits for the same answer.
    async fn said(&self, again: bool) -> Result<Arc<Said>, Away> {
        let mut known = self.known.lock().await;
        let older = |at: Option<Instant>, age: Duration| at.is_none_or(|at| at.elapsed() >= age);
        let due = older(known.read, FRESH) || again;
        if due && older(known.asked, PAUSE) {
            known.asked = Some(Instant::now());
            match self.ask().await {
                Ok(said) => {
                    known.said = Some(Arc::new(said));
                    known.read = known.asked;
                }
                Err(why) => tracing::warn!(issuer = self.name, why, "the keys of the issuer cannot be read"),
            }
        }
        match &known.said {
            Some(said) if !older(known.read, STALE) => Ok(said.clone()),
            _ => Err(Away(format!("the keys of {} are not known", self.name))),
        }
    }

    async fn ask(&self) -> Result<Said, String> {
        let place = format!("{}/.well-known/openid-configuration", self.name.trim_end_matches('/'));
        let place = Url::parse(&place).map_err(|error| error.to_string())?;
        let found: Discovered = self.fetch(place).await?;
        if found.issuer != self.name {
            return Err("what was discovered is another issuer".into());
        }
        let keys = self.safe("its keys", &found.jwks_uri)?;
        let endpoint = |what: &str, text: Option<String>| text.map(|text| self.safe(what, &text)).transpose();
        // Without a word about it, it takes HTTP Basic.
        let secret_in_form = found
            .token_endpoint_auth_methods_supported
            .is_some_and(|all| !all.iter().any(|one| one == "client_secret_basic"));
        let endpoints = Endpoints {
            authorization: endpoint("its authorization endpoint", found.authorization_endpoint)?,
            token: endpoint("its token endpoint", found.token_endpoint)?,
            end_session: endpoint("its end of sessions", found.end_session_endpoint)?,
            secret_in_form,
        };
        Ok(Said { keys: self.fetch(keys).await?, endpoints })
    }

    /// An address of the issuer; without TLS only if the issuer has none itself.
    fn safe(&self, what: &str, text: &str) -> Result<Url, String> {
        let place = Url::parse(text).map_err(|error| error.to_string())?;
        let plain = place.scheme() == "http" && self.name.starts_with("http://");
        if place.scheme() == "https" || plain { Ok(place) } else { Err(format!("{what}: not behind https")) }
    }

    async fn fetch<T: DeserializeOwned>(&self, place: Url) -> Result<T, String> {
        let answer = self.client.get(place).send().await.map_err(|error| error.without_url().to_string())?;
        read(answer).await
    }
}

/// What is sent for a code; with the client's name in it, and its secret.
fn form(code: &Code<'_>, named: bool, with_secret: bool) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code.code)
        .append_pair("redirect_uri", code.redirect_uri)
        .append_pair("code_verifier", code.verifier);
    if named {
        form.append_pair("client_id", code.client_id);
    }
    if let Some(secret) = code.secret.filter(|_| with_secret) {
        form.append_pair("client_secret", secret);
    }
    form.finish()
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, String> {
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let mut body = Zeroizing::new(Vec::new());
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| error.without_url().to_string())?;
        if body.len() + piece.len() > LONGEST {
            return Err("its answer is too long".into());
        }
        body.extend_from_slice(&piece);
    }
    serde_json::from_slice(&body).map_err(|_| "its answer is not what was expected".to_owned())
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
