//! The HTTP port: health, readiness, metrics, webhooks, and the API.
//!
//! Deny by default: what has no route is not served, and a route that needs to know its caller checks that itself, in one
//! place ([`hooks`], [`api`]).

pub mod api;
pub mod hooks;
pub mod oidc;
mod rate;
mod serve;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

pub use self::serve::{Limits, Peer, serve};
use self::{api::Api, hooks::Hooks};
use crate::telemetry::{Telemetry, metrics};

#[cfg(test)]
mod tests;

/// All routes of the port.
pub fn router(telemetry: Telemetry, hooks: Hooks, api: Api) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .fallback(unknown)
        .with_state(telemetry)
        .merge(hooks.router())
        .merge(api.router())
}

/// The process runs. Dependencies do not count: a restart would not bring them back.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the process can do its work; names every part that is missing.
async fn readyz(State(telemetry): State<Telemetry>) -> Response {
    let missing = telemetry.readiness.missing();
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let parts: Vec<Value> = missing.iter().map(|part| json!({"part": part.word(), "reason": part.missing()})).collect();
    let body = json!({"ready": missing.is_empty(), "missing": parts});
    answer(status, "application/json", body.to_string())
}

async fn render_metrics(State(telemetry): State<Telemetry>) -> Response {
    match telemetry.metrics.render() {
        Ok(text) => answer(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Metrics cannot be written", &error.to_string()),
    }
}

async fn unknown(uri: Uri) -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "No such path",
        &format!("{} is not served; there are /healthz, /readyz, /metrics, /hooks/… and /api/v1/…", uri.path()),
    )
}

/// Problem details as of RFC 9457.
fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail});
    answer(status, "application/problem+json", body.to_string())
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, content_type)], body).into_response()
}
