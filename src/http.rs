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
use crate::telemetry::{Part, Telemetry, metrics};

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

/// The routes of the edge's own port, which has no traffic.
pub fn edge_router(telemetry: Telemetry) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(edge_readyz))
        .route("/metrics", get(render_metrics))
        .fallback(edge_unknown)
        .with_state(telemetry)
}

/// The edge is ready once it has a table. Without Postgres it serves all the same, and only tells: taking it out of service would
/// help nobody.
async fn edge_readyz(State(telemetry): State<Telemetry>) -> Response {
    let missing = telemetry.readiness.missing();
    let ready = !missing.contains(&Part::Watches);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let reason = |part: &Part| match part {
        Part::Store => {
            "Postgres does not answer: requests are served, nothing is woken; check DATABASE_URL and the server"
        }
        Part::Schema => {
            "what has ended has not been read: its hosts are answered with 404; run `stagekeeper migrate up`"
        }
        Part::Watches => "the watches have not delivered yet: check the CRDs and the RBAC rules of the edge",
    };
    let parts: Vec<Value> = missing.iter().map(|part| json!({"part": part.word(), "reason": reason(part)})).collect();
    answer(status, "application/json", json!({"ready": ready, "missing": parts}).to_string())
}

async fn edge_unknown(uri: Uri) -> Response {
    let detail = format!("{} is not served; there are /healthz, /readyz, /metrics", uri.path());
    problem(StatusCode::NOT_FOUND, "No such path", &detail)
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
