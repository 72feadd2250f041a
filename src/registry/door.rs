//! Whoever is behind a URL: when it may be asked, and what its answers say about that.

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode};
use tokio::time::Instant;

use super::pace::NotYet;
use super::peer::Peer;
use super::quota::Quota;
use super::{RateLimit, RegistryError};
use crate::outbound::retry_after;

/// A host, and the client that asks it.
pub(super) struct Door {
    pub(super) http: Client,
    pub(super) peer: Arc<Peer>,
}

impl Door {
    /// Waits until it may be asked, if that is soon. `place` is named in the error.
    pub(super) async fn turn(&self, place: &str) -> Result<(), RegistryError> {
        self.peer.pace.turn().await.map_err(|not_yet| RegistryError::RateLimited {
            place: place.to_owned(),
            retry_after: Some(not_yet.at().saturating_duration_since(Instant::now())),
            limit: match not_yet {
                NotYet::Resting(_) => RateLimit::Resting,
                NotYet::Queue(_) => RateLimit::Rate,
            },
        })
    }

    /// Takes from an answer when to ask again.
    pub(super) fn heard(&self, response: &Response, now: Timestamp) {
        let (status, headers) = (response.status(), response.headers());
        let wait = retry_after(headers, now);
        let pace = &self.peer.pace;
        if status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::SERVICE_UNAVAILABLE && wait.is_some()) {
            pace.refused(wait);
            return;
        }
        pace.answered();
        if let Some(rest) = Quota::of(headers, now).and_then(|quota| quota.rest()) {
            pace.spare(rest);
        }
    }
}
