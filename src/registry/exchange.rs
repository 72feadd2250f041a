//! One request and its answer: authentication, redirects, statuses, bounded bodies.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, IF_NONE_MATCH, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::unreachable;
use super::credential::Authorization;
use super::endpoint::{Endpoint, host_name};
use super::{Credential, RateLimit, Registry, RegistryError};
use crate::outbound::retry_after;

/// Most redirects in a row. Registries redirect once, to their storage.
const MAX_REDIRECTS: usize = 3;
/// Bytes of an error's body that are read to find its code.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Bytes from which on a body is large.
const LARGE: usize = 256 << 10;
/// By how much a large body's memory grows at a time. Doubling it would waste half.
const STEP: usize = 1 << 20;
/// How long the rest of an unused answer is waited for.
const DRAIN: Duration = Duration::from_millis(250);

/// What is asked of a registry.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    /// The `ETag` of what we have: the answer may be that it is the same.
    pub(super) etag: Option<&'a str>,
}

impl Call<'_> {
    pub(super) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, accept: None, etag: None }
    }
}

impl Registry {
    /// Sends a request to the endpoint's registry, authenticating as often as needed, which is at most once.
    /// Any status can come back but 401 and redirects.
    pub(super) async fn request(&self, endpoint: &Endpoint<'_>, call: &Call<'_>) -> Result<Response, RegistryError> {
        let known = self.foreseen(endpoint).await?;
        let response = self.follow(endpoint, call, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        if !endpoint.is_own(response.url()) {
            // Whoever we were redirected to has no claim on our credentials.
            return Err(denied(endpoint, "it redirects to a host that wants a credential of its own"));
        }
        let headers = response.headers().clone();
        drain(response).await;
        let authorization = self.authorize(endpoint, &headers).await?;
        let response = self.follow(endpoint, call, Some(&authorization)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.authorizations.forget(endpoint);
            let why = match (&endpoint.access().credential, authorization) {
                (Credential::Anonymous, _) => "it wants a credential",
                (Credential::Basic { .. }, Authorization::Basic) => "it does not accept the user and password",
                (Credential::Basic { .. }, Authorization::Bearer(_)) => {
                    "it does not accept the token of its token service"
                }
            };
            return Err(denied(endpoint, why));
        }
        Ok(response)
    }

    /// Sends one request and follows redirects. A request that leaves the registry's origin carries no credential.
    async fn follow(
        &self,
        endpoint: &Endpoint<'_>,
        call: &Call<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let door = endpoint.door(&url)?;
            let mut request = door.http.request(call.method.clone(), url.clone());
            if let Some(accept) = call.accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(etag) = call.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if endpoint.is_own(&url) {
                request = match (authorization, &endpoint.access().credential) {
                    (Some(Authorization::Bearer(token)), _) => request.bearer_auth(token),
                    (Some(Authorization::Basic), Credential::Basic { user, secret }) => {
                        request.basic_auth(user, Some(&**secret))
                    }
                    (Some(Authorization::Basic), Credential::Anonymous) | (None, _) => request,
                };
            }
            door.turn(&endpoint.place()).await?;
            let response = request.send().await.map_err(|error| unreachable(endpoint.place(), &error))?;
            door.heard(&response, self.clock.now());
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            url = redirected(endpoint, &response)?;
            drain(response).await;
        }
        Err(malformed(endpoint, format!("it redirects more than {MAX_REDIRECTS} times")))
    }
}

/// Where a redirect leads: over HTTPS anywhere, over plain HTTP only from a registry that is itself `insecure`.
fn redirected(endpoint: &Endpoint<'_>, response: &Response) -> Result<Url, RegistryError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    let Some(target) = target else {
        return Err(RegistryError::Unexpected { place: endpoint.place(), status: response.status().as_u16() });
    };
    match target.scheme() {
        "https" => Ok(target),
        "http" if endpoint.is_insecure() => Ok(target),
        scheme => {
            let what = format!("it redirects to `{scheme}://{}`, and only https is followed", host_name(&target));
            Err(malformed(endpoint, what))
        }
    }
}

/// The answer if it is a success; otherwise what its status means here. `not_found` is told the registry's error code.
pub(super) async fn accepted(
    endpoint: &Endpoint<'_>,
    response: Response,
    now: Timestamp,
    not_found: impl FnOnce(Option<&str>) -> RegistryError,
) -> Result<Response, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let place = endpoint.place();
    let retry_after = retry_after(response.headers(), now);
    let code = error_code(response).await;
    Err(match status {
        StatusCode::NOT_FOUND => not_found(code.as_deref()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            RegistryError::Denied { place, why: format!("it answered {}{code}", status.as_u16()) }
        }
        StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { place, retry_after, limit: RateLimit::Answered },
        status if status.is_server_error() => {
            RegistryError::Unavailable { place, status: status.as_u16(), retry_after }
        }
        status => RegistryError::Unexpected { place, status: status.as_u16() },
    })
}

/// The code of the first error in the body, if it is one of the API's upper-case words. Nothing else is repeated.
async fn error_code(response: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    let bytes = bounded(response, MAX_ERROR_BYTES).await.ok()?;
    let body: Said = serde_json::from_slice(&bytes).ok()?;
    let code = body.errors.into_iter().next()?.code;
    let legal = code.len() <= 40 && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    legal.then_some(code)
}

/// Why a body was not read.
pub(super) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// The whole body, if it is not larger than `limit` bytes.
pub(super) async fn bounded(response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    read(response, limit, None).await.map(|body| body.bytes)
}

/// A body. While there is a large one, there is no other.
pub(super) struct Body {
    bytes: Vec<u8>,
    /// Held as long as the body is.
    alone: Option<OwnedSemaphorePermit>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads chunk by chunk, and no further than the limit. With `alone`, whatever is larger than [`LARGE`] waits until no
/// other large body is in memory.
async fn read(mut response: Response, limit: usize, alone: Option<&Arc<Semaphore>>) -> Result<Body, BodyError> {
    let announced = response.content_length().unwrap_or_default();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(BodyError::TooLarge);
    }
    let mut body = Body { bytes: Vec::new(), alone: None };
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        let length = body.bytes.len() + chunk.len();
        if length > limit {
            return Err(BodyError::TooLarge);
        }
        if let Some(alone) = alone
            && length > LARGE
            && body.alone.is_none()
        {
            body.alone = alone.clone().acquire_owned().await.ok();
        }
        if length > LARGE && length > body.bytes.capacity() {
            body.bytes.reserve_exact(chunk.len().max(STEP));
        }
        body.bytes.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads what little is left of an answer that is not used: only then its connection serves the next request.
pub(super) async fn drain(response: Response) {
    let _rest = tokio::time::timeout(DRAIN, bounded(response, MAX_ERROR_BYTES)).await;
}

impl Registry {
    /// The whole body of an answer at this endpoint.
    pub(super) async fn body(
        &self,
        endpoint: &Endpoint<'_>,
        response: Response,
        limit: usize,
        what: &'static str,
    ) -> Result<Body, RegistryError> {
        read(response, limit, Some(&self.alone)).await.map_err(|error| match error {
            BodyError::Broken(error) => unreachable(endpoint.place(), &error),
            BodyError::TooLarge => {
                RegistryError::TooLarge { place: endpoint.place(), what, limit: format!("{limit} bytes") }
            }
        })
    }
}

pub(super) fn malformed(endpoint: &Endpoint<'_>, what: impl Into<String>) -> RegistryError {
    RegistryError::Malformed { place: endpoint.place(), what: what.into() }
}

pub(super) fn denied(endpoint: &Endpoint<'_>, why: impl Into<String>) -> RegistryError {
    RegistryError::Denied { place: endpoint.place(), why: why.into() }
}
