//! What a sender is answered.

use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    http::{answer, problem},
    webhook::Malformed,
};

/// After how many seconds a sender may try again that came when something was not there, or full.
const LATER: u64 = 10;

/// How a delivery was answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is stored and will be worked on.
    Accepted(Uuid),
    /// It had been stored before.
    Repeated(Uuid),
    /// It is about nothing that anybody works on, and stored to be looked at.
    Ignored,
    /// Nothing is received there.
    UnknownPath,
    /// There were too many; the next one may come after so many seconds.
    Flooded(u64),
    /// Too many wait to be worked on.
    Full,
    /// Too many are being read.
    Busy,
    /// Its body is longer than anything that is read.
    TooLarge,
    /// Its body did not come in time.
    Slow,
    /// Its body ended too early.
    Broken,
    /// Nobody knows who sent it.
    Unsigned,
    /// It is not what its sender should send.
    Malformed(Malformed),
    /// The database is away, or the safe.
    Unavailable(String),
    /// A mistake of ours.
    Failed(String),
}

impl Answer {
    /// The word for it in metrics and logs.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Repeated(_) => "repeated",
            Self::Ignored => "ignored",
            Self::UnknownPath => "unknown_path",
            Self::Flooded(_) => "flooded",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::Unsigned => "unsigned",
            Self::Malformed(_) => "malformed",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Accepted(id) => stored(id, "accepted"),
            Self::Repeated(id) => stored(id, "repeated"),
            Self::Ignored => StatusCode::NO_CONTENT.into_response(),
            Self::UnknownPath => problem(
                StatusCode::NOT_FOUND,
                "No such webhook",
                "no webhook is received at this path; status.webhooks of the Project has the right one",
            ),
            Self::Flooded(seconds) => {
                later(StatusCode::TOO_MANY_REQUESTS, "Too many deliveries", "send fewer at a time", seconds)
            }
            Self::Full => later(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many deliveries",
                "too many deliveries of this webhook wait to be worked on",
                LATER,
            ),
            Self::Busy => {
                later(StatusCode::SERVICE_UNAVAILABLE, "Busy", "too many deliveries are being received", LATER)
            }
            Self::TooLarge => problem(StatusCode::PAYLOAD_TOO_LARGE, "Too large", "a delivery has 1 MiB at the most"),
            Self::Slow => problem(StatusCode::REQUEST_TIMEOUT, "Too slow", "the body did not come in time"),
            Self::Broken => problem(StatusCode::BAD_REQUEST, "Not whole", "the body ended too early"),
            Self::Unsigned => problem(
                StatusCode::UNAUTHORIZED,
                "Not accepted",
                "the delivery does not prove who sent it; check the secret on both sides",
            ),
            Self::Malformed(why) => problem(StatusCode::BAD_REQUEST, "Not understood", &why.to_string()),
            Self::Unavailable(_) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                "Not available",
                "nothing can be stored now, and nothing was",
                LATER,
            ),
            Self::Failed(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Failed", "the operator's log says more"),
        }
    }
}

fn stored(id: Uuid, status: &str) -> Response {
    answer(StatusCode::ACCEPTED, "application/json", json!({"delivery": id, "status": status}).to_string())
}

fn later(status: StatusCode, title: &str, detail: &str, seconds: u64) -> Response {
    let mut response = problem(status, title, detail);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
