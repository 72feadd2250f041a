//! One request and its answer.

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderValue, IF_NONE_MATCH},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Forge, ForgeError, Place, Token, rest::Rests};
use crate::{
    domain::pull_request::Provider,
    outbound::{self, BodyError, bounded, guard::Refused, retry_after},
};

/// Most bytes of one answer.
const MAX_BYTES: usize = 16 << 20;

/// What is asked.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) parts: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Value>,
    /// The `ETag` of what we have: the answer may be that it is the same.
    pub(super) etag: Option<&'a str>,
    /// What it is for, after "may not".
    pub(super) what: &'static str,
}

impl<'a> Call<'a> {
    pub(super) fn get(parts: &'a [&'a str], query: &'a [(&'a str, &'a str)], what: &'static str) -> Self {
        Self { method: Method::GET, parts, query, body: None, etag: None, what }
    }

    pub(super) fn send(method: Method, parts: &'a [&'a str], body: Value, what: &'static str) -> Self {
        Self { method, parts, query: &[], body: Some(body), etag: None, what }
    }
}

impl Forge {
    /// Sends a request to the place's own address. Successes and 304 come back, and what `accepts` says.
    pub(super) async fn call(
        &self,
        place: &Place,
        token: &Token,
        call: &Call<'_>,
        accepts: impl Fn(StatusCode) -> bool,
    ) -> Result<Response, ForgeError> {
        let (provider, repository) = (place.provider(), || place.repository().to_owned());
        let key = Rests::key(&place.host(), token);
        if let Some(retry_after) = self.rests.left(&key, self.clock.now()) {
            return Err(ForgeError::RateLimited { provider, repository: repository(), retry_after });
        }
        let request = self.http.request(call.method.clone(), place.url(call.parts, call.query));
        let mut request = authorized(request, provider, token);
        if let Some(etag) = call.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unreachable(place, &error))?;
        let (status, now) = (response.status(), self.clock.now());
        if let Some(retry_after) = self.rests.hear(key, status, response.headers(), now) {
            return Err(ForgeError::RateLimited { provider, repository: repository(), retry_after });
        }
        if status.is_success() || status == StatusCode::NOT_MODIFIED || accepts(status) {
            return Ok(response);
        }
        let (repository, what) = (repository(), call.what);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ForgeError::Denied { provider, repository, status: status.as_u16(), what }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => ForgeError::NotFound { provider, repository },
            status if status.is_redirection() => ForgeError::Redirected { provider, repository },
            status if status.is_server_error() => {
                let retry_after = retry_after(response.headers(), now);
                ForgeError::Unavailable { provider, repository, status: status.as_u16(), retry_after }
            }
            status => ForgeError::Unexpected { provider, repository, status: status.as_u16() },
        })
    }

    /// The body of an answer, as what it should be.
    pub(super) async fn read<T: DeserializeOwned>(&self, place: &Place, response: Response) -> Result<T, ForgeError> {
        let bytes = bounded(response, MAX_BYTES).await.map_err(|error| match error {
            BodyError::Broken(error) => unreachable(place, &error),
            BodyError::TooLarge => malformed(place, format!("it has more than {} MiB", MAX_BYTES >> 20)),
        })?;
        // The error's own text repeats what was read.
        serde_json::from_slice(&bytes).map_err(|error| {
            let what = if error.is_data() { "not what the API says" } else { "not JSON" };
            malformed(place, format!("it is {what} at line {}, column {}", error.line(), error.column()))
        })
    }
}

/// The token goes where each provider wants it. It is marked, so that no trace of the request shows it.
fn authorized(request: RequestBuilder, provider: Provider, token: &Token) -> RequestBuilder {
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    };
    let token = &*token.0;
    match provider {
        Provider::GitHub => request
            .header(AUTHORIZATION, secret(&format!("Bearer {token}")))
            .header(ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28"),
        Provider::GitLab => request.header("private-token", secret(token)).header(ACCEPT, "application/json"),
        Provider::Gitea => {
            request.header(AUTHORIZATION, secret(&format!("token {token}"))).header(ACCEPT, "application/json")
        }
    }
}

pub(super) fn malformed(place: &Place, what: impl Into<String>) -> ForgeError {
    ForgeError::Malformed { provider: place.provider(), repository: place.repository().to_owned(), what: what.into() }
}

fn unreachable(place: &Place, error: &reqwest::Error) -> ForgeError {
    let (provider, repository) = (place.provider(), place.repository().to_owned());
    if let Some(Refused(why)) = outbound::refused(error) {
        return ForgeError::AddressRefused { provider, repository, why };
    }
    let why = outbound::why(error, "its address begins with http:// then");
    ForgeError::Unreachable { provider, repository, why }
}
