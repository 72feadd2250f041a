//! Signing in in front of environments, with an `OpenID` Connect provider: the authorization code flow with PKCE.
//!
//! A provider comes back to addresses that it was told before, and environments come and go. So it comes back to one fixed host,
//! and from there the browser is led to where it wanted to go (ADR 21):
//!
//! 1. A browser without a session is sent to the provider. A cookie of the environment's host says which browser it is; the
//!    `state` says for which browser and host it goes.
//! 2. At the fixed host the code is redeemed and the ID token judged. The browser goes back with a ticket for that host.
//! 3. The ticket opens a session on that host, once, for a short time, and for the browser of the first step only.
//!
//! Nothing is kept here: cookies, states and tickets are sealed by a key that all replicas have.

mod rules;

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE},
    uri::PathAndQuery,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{
    cookies,
    headers::upgrade,
    host::{self, Asked},
    page::Why,
};
use crate::{
    config::EdgeOidc,
    crypto::{Passes, random},
    domain::clock::Clock,
    identity::{Away, Claims, Code, Issuer},
};

/// Paths below this are the edge's own, at every host that people sign in for.
const OURS: &str = "/.stagekeeper/";
/// Where the provider comes back to, at the fixed host.
const CALLBACK: &str = "/.stagekeeper/callback";
/// Where a ticket is shown, at an environment's host.
const ENTER: &str = "/.stagekeeper/enter";
/// Where a session ends, at an environment's host.
const LEAVE: &str = "/.stagekeeper/sign-out";

/// How long somebody may take to sign in, in seconds.
const LOGIN: i64 = 10 * 60;
/// How long a ticket is good, in seconds: the browser is on its way.
const TICKET: i64 = 60;
/// The longest path that is come back to. Providers do not take addresses of any length.
const PATH: usize = 1000;
/// The shortest key: nobody may guess it.
const KEY: usize = 32;
/// Codes that are redeemed at once.
const AT_ONCE: usize = 16;

/// What a caller is asked for who has no session and is no browser.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Session realm=\"preview\"");

/// Signs people in.
pub struct SignIn {
    settings: EdgeOidc,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    keyed: RwLock<Arc<Keyed>>,
    redeeming: Semaphore,
    /// Tickets that were shown, until they are worth nothing anyway.
    shown: Mutex<HashMap<String, i64>>,
}

struct Keyed {
    digest: [u8; 32],
    passes: Passes,
}

/// What the provider brings back.
#[derive(Serialize, Deserialize)]
struct State {
    host: String,
    port: Option<u16>,
    path: String,
    nonce: String,
    verifier: Zeroizing<String>,
    browser: String,
    until: i64,
}

/// What the fixed host sends to an environment's.
#[derive(Serialize, Deserialize)]
struct Ticket {
    id: String,
    path: String,
    browser: String,
    until: i64,
}

/// Which browser it is that signs in.
#[derive(Serialize, Deserialize)]
struct Login {
    browser: String,
    until: i64,
}

#[derive(Serialize, Deserialize)]
struct Session {
    until: i64,
}

/// What a request brought along.
#[derive(Debug, Default)]
pub struct Brought {
    /// A session that is good.
    session: bool,
    /// A browser that is about to sign in.
    browser: Option<String>,
    /// The page that opened a WebSocket is one of another site.
    foreign: bool,
}

/// What a request asks for.
#[derive(Debug)]
pub struct Ask<'a> {
    /// How.
    pub method: &'a Method,
    /// Its path and query.
    pub uri: &'a Uri,
    /// At which host.
    pub asked: &'a Asked,
    /// A page is the better answer.
    pub page: bool,
    /// The browser goes there, and does not only fetch something for a page.
    pub goes: bool,
}

impl SignIn {
    /// Reads the key.
    ///
    /// # Errors
    /// A file cannot be read, or the key is too short.
    pub fn open(settings: EdgeOidc, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let keyed = Keyed::read(&settings)?;
        let issuer = Issuer::new(&settings.issuer, clock.clone())?;
        let sign_in = Self {
            settings,
            issuer,
            clock,
            keyed: RwLock::new(Arc::new(keyed)),
            redeeming: Semaphore::new(AT_ONCE),
            shown: Mutex::default(),
        };
        sign_in.secret()?;
        Ok(sign_in)
    }

    /// Looks whether the key is another one by now; whether it was.
    ///
    /// # Errors
    /// It cannot be read; the one before still holds.
    pub fn look_again(&self) -> Result<bool, String> {
        let keyed = Keyed::read(&self.settings)?;
        if self.keyed().digest == keyed.digest {
            return Ok(false);
        }
        *self.keyed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyed);
        Ok(true)
    }

    /// Whether this is the host that the provider comes back to.
    pub fn is_home(&self, host: &str) -> bool {
        self.settings.host == host
    }

    fn keyed(&self) -> Arc<Keyed> {
        self.keyed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// The client's secret, as it is now.
    fn secret(&self) -> Result<Option<Zeroizing<String>>, String> {
        self.settings.secret_file.as_deref().map(|path| first_line(path, "client secret")).transpose()
    }

    fn seal(&self, purpose: &str, place: &str, what: &impl Serialize) -> Result<String, Why> {
        let text = serde_json::to_vec(what).map(Zeroizing::new).map_err(|error| error.to_string());
        let sealed = text.and_then(|text| self.keyed().passes.seal(purpose, place, &text));
        sealed.map_err(|error| {
            tracing::error!(error, "nobody can be signed in");
            Why::NoSignIn
        })
    }

    fn opened<T: DeserializeOwned>(&self, purpose: &str, place: &str, pass: &str) -> Option<T> {
        serde_json::from_slice(&self.keyed().passes.open(purpose, place, pass)?).ok()
    }

    /// What a request brought along for this host.
    pub fn brought(&self, headers: &HeaderMap, host: &str, hosts: &[String]) -> Brought {
        let now = self.now();
        let session = cookies::values(headers, cookies::SESSION)
            .filter_map(|pass| self.opened::<Session>("session", host, pass))
            .any(|session| now < session.until);
        let browser = cookies::values(headers, cookies::LOGIN)
            .filter_map(|pass| self.opened::<Login>("login", host, pass))
            .find(|login| now < login.until)
            .map(|login| login.browser);
        // Pages of other hosts may open WebSockets with the cookies of this one, and read what comes.
        let foreign = upgrade(headers).is_some()
            && headers.get(ORIGIN).is_some_and(|origin| {
                let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
                let origin = origin.as_ref().and_then(Uri::host).and_then(host::normal);
                !origin.is_some_and(|origin| {
                    origin == host || hosts.iter().any(|own| host::normal(own).is_some_and(|own| own == origin))
                })
            });
        Brought { session, browser, foreign }
    }

    /// Our answer; nothing if the request may pass. Who gave the password is `known`.
    pub async fn answer(&self, ask: &Ask<'_>, brought: &Brought, known: bool) -> Option<Response<String>> {
        let path = ask.uri.path();
        let said = if path.starts_with(OURS) {
            match path {
                ENTER if ask.method == Method::GET => self.enter(ask, brought),
                LEAVE if ask.method == Method::GET => Ok(leave(ask.page)),
                _ => Err(Why::Unknown),
            }
        } else if brought.foreign && !known {
            Err(Why::Foreign)
        } else if brought.session || known {
            return None;
        } else if ask.page && ask.goes {
            self.begin(ask, brought).await
        } else {
            Err(Why::SignIn)
        };
        Some(said.unwrap_or_else(|why| {
            let mut answer = why.answer(ask.page);
            if why == Why::SignIn {
                answer.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
            }
            answer
        }))
    }

    /// Sends a browser to the provider.
    async fn begin(&self, ask: &Ask<'_>, brought: &Brought) -> Result<Response<String>, Why> {
        let endpoints = self.issuer.endpoints().await.map_err(|away| no_sign_in(&away))?;
        let Some(mut place) = endpoints.authorization else {
            return Err(no_sign_in(&Away("the issuer has no authorization endpoint".into())));
        };
        let until = self.now() + LOGIN;
        // Several tabs of one browser may sign in at once.
        let browser = match &brought.browser {
            Some(browser) => browser.clone(),
            None => token()?,
        };
        let (nonce, verifier) = (token()?, Zeroizing::new(token()?));
        let path = ask.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let state = State {
            host: ask.asked.host.clone(),
            port: ask.asked.port,
            path: if path.len() <= PATH { path.to_owned() } else { "/".to_owned() },
            nonce: nonce.clone(),
            verifier: verifier.clone(),
            browser: digest(&browser),
            until,
        };
        place
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.callback())
            .append_pair("scope", &self.settings.scopes)
            .append_pair("state", &self.seal("state", "", &state)?)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &digest(&verifier))
            .append_pair("code_challenge_method", "S256");
        let login = self.seal("login", &ask.asked.host, &Login { browser, until })?;
        Ok(redirect(place.as_str(), &[cookie(cookies::LOGIN, &login, LOGIN)]))
    }

    fn callback(&self) -> String {
        format!("{}{CALLBACK}", origin(&self.settings.host, self.settings.port))
    }

    /// What is answered at the fixed host: only the provider's way back is there.
    pub async fn at_home(&self, method: &Method, uri: &Uri, page: bool) -> Response<String> {
        if method != Method::GET || uri.path() != CALLBACK {
            return Why::Unknown.answer(page);
        }
        match self.come_back(uri.query().unwrap_or_default()).await {
            Ok(to) => redirect(&to, &[]),
            Err(why) => why.answer(page),
        }
    }

    /// Where a browser goes on to that comes back from the provider.
    async fn come_back(&self, query: &str) -> Result<String, Why> {
        let given: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let get = |name: &str| given.get(name).map(String::as_str);
        let now = self.now();
        let state = get("state").and_then(|pass| self.opened::<State>("state", "", pass));
        // Only now: who did not come from us costs nothing more.
        let state = state.filter(|state| now < state.until).ok_or(Why::SignInFailed)?;
        // RFC 9207: another provider's answer is not this one's.
        if get("iss").is_some_and(|named| named != self.issuer.name()) {
            return Err(Why::SignInFailed);
        }
        let Some(code) = get("code").filter(|_| get("error").is_none()) else { return Err(Why::NotAllowed) };
        let claims = self.redeem(code, &state).await?;
        if !rules::lets_in(&self.settings.rules.all, &claims) {
            return Err(Why::NotAllowed);
        }
        let ticket = Ticket { id: token()?, path: state.path, browser: state.browser, until: now + TICKET };
        let ticket = self.seal("ticket", &state.host, &ticket)?;
        Ok(format!("{}{ENTER}?ticket={ticket}", origin(&state.host, state.port)))
    }

    /// What the ID token says that a code is worth.
    async fn redeem(&self, code: &str, state: &State) -> Result<Claims, Why> {
        let Ok(_turn) = self.redeeming.try_acquire() else { return Err(Why::Busy) };
        let secret = self.secret().map_err(|why| no_sign_in(&Away(why)))?;
        let redirect_uri = self.callback();
        let code = Code {
            code,
            client_id: &self.settings.client_id,
            secret: secret.as_ref().map(|secret| secret.as_str()),
            redirect_uri: &redirect_uri,
            verifier: &state.verifier,
        };
        let token = self.issuer.redeem(code).await.map_err(|away| no_sign_in(&away))?.ok_or(Why::SignInFailed)?;
        let claims = self.issuer.claims(&token, &self.settings.client_id).await.map_err(|away| no_sign_in(&away))?;
        let text = |claims: &Claims, name: &str| claims.get(name).and_then(|value| value.as_str().map(str::to_owned));
        let claims = claims.filter(|claims| {
            let named = text(claims, "sub").is_some_and(|name| !name.is_empty());
            let for_this = text(claims, "nonce").is_some_and(|nonce| same(&nonce, &state.nonce));
            // A token for several clients says which of them asked for it.
            let several = claims.get("aud").is_some_and(|aud| aud.as_array().is_some_and(|all| all.len() > 1));
            let ours = match claims.get("azp") {
                Some(party) => party.as_str() == Some(&self.settings.client_id),
                None => !several,
            };
            named && for_this && ours
        });
        claims.ok_or_else(|| {
            tracing::warn!(issuer = self.issuer.name(), "an ID token was not believed");
            Why::SignInFailed
        })
    }

    /// Opens a session for a ticket.
    fn enter(&self, ask: &Ask<'_>, brought: &Brought) -> Result<Response<String>, Why> {
        let host = &ask.asked.host;
        let query = ask.uri.query().unwrap_or_default();
        let pass = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "ticket").map(|(_, pass)| pass);
        let now = self.now();
        let ticket = pass.and_then(|pass| self.opened::<Ticket>("ticket", host, &pass));
        let ticket = ticket.filter(|ticket| now < ticket.until).ok_or(Why::SignInFailed)?;
        // An absolute address, so that no path is taken for another host.
        let to = format!("{}{}", origin(host, ask.asked.port), ticket.path);
        if brought.session {
            return Ok(redirect(&to, &[]));
        }
        let comes_back = brought.browser.as_ref().is_some_and(|browser| same(&digest(browser), &ticket.browser));
        if !comes_back || !self.first_time(ticket, now) {
            return Err(Why::SignInFailed);
        }
        let length = i64::try_from(self.settings.session.as_secs()).unwrap_or(LOGIN);
        let session = self.seal("session", host, &Session { until: now + length })?;
        Ok(redirect(&to, &[cookie(cookies::SESSION, &session, length), cookie(cookies::LOGIN, "", 0)]))
    }

    /// Whether nobody has shown a ticket here before.
    fn first_time(&self, ticket: Ticket, now: i64) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|_, until| now < *until);
        shown.insert(ticket.id, ticket.until).is_none()
    }
}

impl Keyed {
    fn read(settings: &EdgeOidc) -> Result<Self, String> {
        let key = first_line(&settings.key_file, "key")?;
        if key.len() < KEY {
            let shown = settings.key_file.display();
            return Err(format!(
                "the key in {shown} has under {KEY} characters: write 32 random bytes there, as `openssl rand -hex 32` does"
            ));
        }
        let EdgeOidc { issuer, client_id, rules, .. } = settings;
        // Other rules, another issuer: whoever was let in by the ones before asks again.
        let parts = ["edge sign-in", &key, issuer, client_id, &rules.text].map(str::as_bytes);
        Ok(Self { digest: Sha256::digest(key.as_bytes()).into(), passes: Passes::of(&parts) })
    }
}

fn first_line(path: &Path, what: &str) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| format!("the {what} in {shown} cannot be read: {error}"))?;
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
    line.map(|line| Zeroizing::new(line.to_owned())).ok_or_else(|| format!("the {what} in {shown} is empty"))
}

fn no_sign_in(away: &Away) -> Why {
    tracing::warn!(error = %away, "nobody can be signed in");
    Why::NoSignIn
}

/// 256 random bits.
fn token() -> Result<String, Why> {
    let bytes = random::<32>().map_err(|error| no_sign_in(&Away(error)))?;
    Ok(URL_SAFE_NO_PAD.encode(*bytes))
}

fn digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn origin(host: &str, port: Option<u16>) -> String {
    match port.filter(|port| *port != 443) {
        None => format!("https://{host}"),
        Some(port) => format!("https://{host}:{port}"),
    }
}

fn cookie(name: &str, value: &str, seconds: i64) -> String {
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax; Secure")
}

fn redirect(to: &str, cookies: &[String]) -> Response<String> {
    let mut answer = Response::new(String::new());
    *answer.status_mut() = StatusCode::SEE_OTHER;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Tickets and codes are in addresses.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    match HeaderValue::try_from(to) {
        Ok(to) => _ = headers.insert(LOCATION, to),
        Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    set(&mut answer, cookies);
    answer
}

/// Ends the session of this host. The provider's own goes on.
fn leave(page: bool) -> Response<String> {
    let mut answer = Why::SignedOut.answer(page);
    set(&mut answer, &[cookie(cookies::SESSION, "", 0), cookie(cookies::LOGIN, "", 0)]);
    answer
}

fn set(answer: &mut Response<String>, cookies: &[String]) {
    for cookie in cookies {
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}
