//! What a caller is told when it did not work: problem details as of RFC 9457, naming the fields that are wrong.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    safe::SafeError,
    store::{Class, StoreError},
};

/// After how many seconds to try again what is not there at the moment.
const LATER: u32 = 5;

/// Why a request was not answered as asked. Never says anything of a value that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What kind it is, the same for every problem of this kind: `urn:stagekeeper:problem:invalid`.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schemars(with = "String")]
    pub kind: &'static str,
    /// The kind in a few words.
    pub title: &'static str,
    /// The HTTP status code.
    pub status: u16,
    /// What happened, and what to do about it.
    pub detail: String,
    /// What is wrong with single fields, all of it at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The request, as it is in the audit log and the header `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// After how many seconds to try again.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

fn urn<S: serde::Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:stagekeeper:problem:{kind}"))
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// The field: its path in the body, `query.NAME`, `path.NAME` or `header.NAME`.
    pub field: String,
    /// What is expected.
    pub message: String,
}

impl FieldError {
    /// One field and what is expected of it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            request_id: None,
            retry_after: None,
        }
    }

    /// Fields are not as they should be.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let names: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("not as it should be: {}", names.join(", "));
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "invalid", "Invalid request", detail) }
    }

    /// One field is not as it should be.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }

    /// Nobody knows who asks. One text for every reason: whoever guesses learns nothing.
    pub fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Unauthenticated",
            "a bearer token for the audience of this API is needed; `kubectl create token NAME --audience stagekeeper` makes one",
        )
    }

    /// Not there, or not for whoever asks: which of the two it is, is not said.
    pub fn denied() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "there is no such thing, or you may not do this with it; `kubectl auth can-i` says what you may do",
        )
    }

    /// The caller may see it, but not do this with it.
    pub fn forbidden(verb: &str) -> Self {
        let detail = format!("you may see it, but your roles do not allow the verb `{verb}` on it");
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// There is no such path, or not with this method.
    pub fn no_route(status: StatusCode) -> Self {
        let detail = "the paths and their methods are in /api/v1/openapi.json";
        Self::new(status, "no-route", "No such path or method", detail)
    }

    /// Somebody else was faster, or it is there already.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// A key that was used for another request.
    pub fn key_reused() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "idempotency-key-reused",
            "Idempotency key reused",
            "this Idempotency-Key belongs to another request with other content; use a new one for a new request",
        )
    }

    /// The same request is being done.
    pub fn being_done() -> Self {
        let detail = "the request with this Idempotency-Key is being done; ask again for its answer";
        Self { retry_after: Some(1), ..Self::new(StatusCode::CONFLICT, "being-done", "Being done", detail) }
    }

    /// What is to be changed is not what the caller has seen.
    pub fn changed() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "changed",
            "Changed meanwhile",
            "it is not what If-Match says; read it again and decide anew",
        )
    }

    /// The body is longer than anything that is read.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("a body has {limit} bytes at the most");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// The body is of a kind that is not read.
    pub fn media_type() -> Self {
        let detail = "send JSON with `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Not JSON", detail)
    }

    /// Too many of them; the next one may come after so many seconds.
    pub fn too_many(detail: &str, seconds: u64) -> Self {
        Self {
            retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail)
        }
    }

    /// The request or its answer took too long.
    pub fn slow(status: StatusCode) -> Self {
        let detail = "it took too long; ask for less at a time, or try again";
        Self { retry_after: Some(LATER), ..Self::new(status, "timeout", "Too slow", detail) }
    }

    /// Something that is needed is away.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(LATER),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available", detail)
        }
    }

    /// A mistake of ours. What it is stands in the log, under the request's id.
    pub fn failed() -> Self {
        let detail = "this is a mistake of the server; its log has the reason under the id of the request";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "Failed", detail)
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Texts of the store may quote rows: what went wrong inside is for the log.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.class() {
            Class::NotFound => Self::denied(),
            Class::Conflict | Class::Taken => {
                tracing::info!(%error, "a request of the API met another one");
                Self::conflict("somebody else changed it at the same moment; read it again and decide anew")
            }
            Class::Unavailable => {
                tracing::warn!(%error, "a request of the API could not be answered");
                Self::unavailable("the database is not available")
            }
            Class::Corrupt | Class::Other => {
                tracing::error!(%error, "a request of the API failed");
                Self::failed()
            }
        }
    }
}

impl From<SafeError> for Problem {
    fn from(error: SafeError) -> Self {
        match error {
            SafeError::Store(error) => error.into(),
            SafeError::Changed => Self::changed(),
            error => {
                tracing::error!(%error, "a request of the API failed");
                Self::failed()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Texts and numbers: this cannot fail.
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (self.status(), [(CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"stagekeeper\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
