//! The HTTP API as the command line meets it: where it is, whose token is shown to it, what is asked and what is said when
//! that does not work.

mod forward;
mod place;
mod problem;
mod token;

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use hyper::body::Bytes;
use reqwest::{Client, Method, Response, StatusCode, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use self::{forward::Forward, token::Token};
use super::{Context, failure::Failure};
use crate::{
    cluster::{access::AUDIENCE, error::chain},
    crypto::Plaintext,
    domain::clock::{Clock as _, Ids as _, SystemClock, SystemIds},
    http::api::{BASE, MAX_BODY, cursor::Page},
};

/// From sending a request until its answer is there, beside what the server is asked to wait.
const ANSWER: Duration = Duration::from_secs(20);

/// How often a request is sent that found no answer: every one carries a key by which it is done once.
const ATTEMPTS: u32 = 3;

/// Pause before it is sent again.
const PAUSE: Duration = Duration::from_millis(400);

/// Items of a page: the most that the API gives.
const PAGE: usize = 200;

/// How the HTTP API is reached, and as whom.
#[derive(Args, Clone, Default)]
pub struct ServerArgs {
    /// URL of the HTTP API [default: a port-forward to a pod of the operator].
    #[arg(long, global = true, env = "STAGEKEEPER_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// File with authorities to trust for --server beside those of the machine, in PEM.
    #[arg(long, global = true, env = "STAGEKEEPER_SERVER_CA", value_name = "FILE")]
    pub server_ca: Option<PathBuf>,
    /// Namespace of the operator, whose pods are looked for without --server [default: stagekeeper].
    #[arg(long, global = true, env = "STAGEKEEPER_OPERATOR_NAMESPACE", value_name = "NAME")]
    pub operator_namespace: Option<String>,
    /// File with a token for the API [default: `STAGEKEEPER_TOKEN`, then what the kubeconfig leads to].
    #[arg(long, global = true, env = "STAGEKEEPER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Call as this service account: the cluster is asked for a token of it.
    #[arg(long, global = true, env = "STAGEKEEPER_SERVICE_ACCOUNT", value_name = "[NAMESPACE/]NAME")]
    pub as_service_account: Option<String>,
    /// Audience of the tokens that the API takes [default: stagekeeper].
    #[arg(long, global = true, env = "STAGEKEEPER_AUDIENCE", value_name = "NAME")]
    pub audience: Option<String>,
}

impl ServerArgs {
    /// The audience of the API.
    fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(AUDIENCE)
    }
}

/// A connection to the API.
pub struct Remote {
    http: Client,
    base: Url,
    token: Token,
    audience: String,
    forward: Option<Forward>,
    /// The namespace that is meant.
    pub namespace: String,
}

/// Something that is asked of the API.
pub struct Call<'a> {
    /// The parts of the path behind `/api/v1`.
    pub path: &'a [&'a str],
    /// The query.
    pub query: Vec<(&'static str, String)>,
    /// What it is about, for whoever is told that it is not there: `stage dev in namespace shop`.
    pub about: String,
}

impl<'a> Call<'a> {
    /// Something without a query.
    pub fn new(path: &'a [&'a str], about: impl Into<String>) -> Self {
        Self { path, query: Vec::new(), about: about.into() }
    }

    /// The same with a parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// The same with a parameter, if there is a value for it.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl Remote {
    /// Finds the API and a token for it; nothing is asked of it yet.
    ///
    /// # Errors
    /// There is no safe way to it, no operator, or no token.
    pub async fn open(context: &Context) -> Result<Self, Failure> {
        let arguments = &context.server;
        let namespace = context.namespace().await?;
        let (base, forward) = if let Some(text) = &arguments.server {
            (place::url(text)?, None)
        } else {
            let of = arguments.operator_namespace.as_deref().unwrap_or(forward::NAMESPACE);
            let config = context.cluster_config().await.map_err(|error| {
                Failure::unavailable(
                    format!("the operator cannot be looked for: {error}"),
                    "or name the address of its API with --server, or --database-url to go straight to the database",
                )
            })?;
            let forward = Forward::open(config, of).await?;
            (place::url(&forward.url())?, Some(forward))
        };
        let http = place::client(&base, arguments.server_ca.as_deref())?;
        let token = Token::find(context, arguments).await?;
        Ok(Self { http, base, token, audience: arguments.audience().to_owned(), forward, namespace })
    }

    /// Reads something.
    ///
    /// # Errors
    /// What the API says.
    pub async fn get<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Failure> {
        self.answered(Method::GET, &call, None).await
    }

    /// Asks for something to be done, once, however often it has to be sent.
    ///
    /// # Errors
    /// What the API says.
    pub async fn post<T: DeserializeOwned>(&self, call: Call<'_>, body: &impl Serialize) -> Result<T, Failure> {
        self.answered(Method::POST, &call, Some(json(body)?)).await
    }

    /// Writes something in place of what is there.
    ///
    /// # Errors
    /// What the API says.
    pub async fn put<T: DeserializeOwned>(&self, call: Call<'_>, body: &impl Serialize) -> Result<T, Failure> {
        self.answered(Method::PUT, &call, Some(json(body)?)).await
    }

    /// Makes something of which there is nothing to say but its name.
    ///
    /// # Errors
    /// What the API says.
    pub async fn put_name<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Failure> {
        self.answered(Method::PUT, &call, None).await
    }

    /// Deletes something.
    ///
    /// # Errors
    /// What the API says.
    pub async fn delete(&self, call: Call<'_>) -> Result<(), Failure> {
        self.answered(Method::DELETE, &call, None).await
    }

    /// Reads a list, page by page: at most so many items, and whether there are more.
    ///
    /// # Errors
    /// What the API says.
    pub async fn list<T: DeserializeOwned>(&self, call: Call<'_>, most: usize) -> Result<(Vec<T>, bool), Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let left = (most - items.len()).min(PAGE);
            let query = call.query.iter().cloned().chain([("limit", left.to_string())]);
            let query = query.chain(cursor.map(|cursor| ("cursor", cursor))).collect();
            let page: Page<T> = self.get(Call { path: call.path, query, about: call.about.clone() }).await?;
            items.extend(page.items);
            cursor = page.next;
            if cursor.is_none() || items.len() >= most {
                items.truncate(most);
                return Ok((items, cursor.is_some()));
            }
        }
    }

    /// Reads a whole list, page by page, and gives each item to somebody.
    ///
    /// # Errors
    /// What the API says, or whoever gets the items.
    pub async fn each<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        mut give: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut cursor: Option<String> = None;
        loop {
            let query = call.query.iter().cloned().chain([("limit", PAGE.to_string())]);
            let query = query.chain(cursor.map(|cursor| ("cursor", cursor))).collect();
            let page: Page<T> = self.get(Call { path: call.path, query, about: call.about.clone() }).await?;
            page.items.into_iter().try_for_each(&mut give)?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Opens a stream of events behind the one that was seen last.
    ///
    /// # Errors
    /// What the API says.
    pub async fn events(&self, call: &Call<'_>, after: Option<&str>) -> Result<Response, Failure> {
        let mut headers = header::HeaderMap::new();
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/event-stream"));
        if let Some(after) = after.and_then(|id| header::HeaderValue::from_str(id).ok()) {
            headers.insert("last-event-id", after);
        }
        let request = self.http.get(self.url(call)).headers(headers).header(header::AUTHORIZATION, self.token.header());
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refused(&Method::GET, call, answer).await) }
    }

    async fn answered<T: DeserializeOwned>(
        &self,
        method: Method,
        call: &Call<'_>,
        body: Option<Bytes>,
    ) -> Result<T, Failure> {
        // The same for each attempt: what has been done already is not done again.
        let key = SystemIds.next().to_string();
        let waits = call.query.iter().find(|(name, _)| *name == "wait").and_then(|(_, value)| value.parse().ok());
        let patience = ANSWER + Duration::from_secs(waits.unwrap_or(0));
        // What was deleted by an attempt without an answer would not be found by the next one.
        let attempts = if method == Method::DELETE { 1 } else { ATTEMPTS };
        let mut attempt = 1;
        let answer = loop {
            let mut request = self.http.request(method.clone(), self.url(call)).timeout(patience);
            request = request.header(header::AUTHORIZATION, self.token.header());
            if let Some(body) = &body {
                request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
            }
            if method == Method::POST {
                request = request.header("idempotency-key", &key);
            }
            match request.send().await {
                Ok(answer) => break answer,
                Err(error)
                    if attempt < attempts && !(error.is_connect() || error.is_timeout() || error.is_builder()) =>
                {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(self.unreachable(&error)),
            }
        };
        if !answer.status().is_success() {
            return Err(self.refused(&method, call, answer).await);
        }
        let text = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        // What is answered with nothing is read as nothing.
        let text = if text.is_empty() { b"null".as_slice() } else { &text };
        serde_json::from_slice(text).map_err(|error| {
            Failure::failed(
                format!("{} answers in a way that this version does not know: {error}", self.name()),
                format!("this is version {}; compare it with the operator's", env!("CARGO_PKG_VERSION")),
            )
        })
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(BASE.trim_start_matches('/').split('/')).extend(call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }

    /// How it is called where something is said about it.
    fn name(&self) -> String {
        match self.forward {
            Some(_) => "the operator's API".into(),
            None => format!("the API at {}", self.base),
        }
    }

    async fn refused(&self, method: &Method, call: &Call<'_>, answer: Response) -> Failure {
        if answer.status() == StatusCode::UNAUTHORIZED {
            return self.token.refused(&self.audience, SystemClock.now());
        }
        problem::failure(&self.name(), method, &call.about, answer).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if let Some(why) = self.forward.as_ref().and_then(Forward::trouble) {
            return Failure::unavailable(why, "or name the address of the operator's API with --server");
        }
        let why = if error.is_timeout() { "it did not answer in time".to_owned() } else { cause(error) };
        Failure::unavailable(
            format!("{} cannot be reached: {why}", self.name()),
            "check the address, --server-ca if its certificate is from an authority of your own, and that the operator runs",
        )
    }
}

/// A body, which is overwritten when nobody needs it any more: there may be the value of a secret in it.
fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    // Room for the longest: what grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    serde_json::to_writer(&mut *text, body)
        .map_err(|error| Failure::failed(format!("the request cannot be written: {error}"), ""))?;
    Ok(Bytes::from_owner(text))
}

/// A value as a body has it: as text, or as base64 where it is none.
#[derive(Serialize)]
pub struct Sent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Zeroizing<String>>,
}

impl<'a> From<&'a Plaintext> for Sent<'a> {
    fn from(value: &'a Plaintext) -> Self {
        match value.expose_text() {
            Some(text) => Self { value: Some(text), base64: None },
            None => Self { value: None, base64: Some(Zeroizing::new(STANDARD.encode(value.expose()))) },
        }
    }
}

/// The innermost reason of an error: those around it quote the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    match source.take() {
        Some(inner) => chain(inner),
        None => "the connection broke off".into(),
    }
}
