//! The HTTP port: health, readiness and metrics.

use std::{io, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Telemetry, metrics};

#[cfg(test)]
mod tests;

/// How long answers in progress may still take after a shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// All routes of the port.
pub fn router(telemetry: Telemetry) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .fallback(unknown)
        .with_state(telemetry)
}

/// Serves until `shutdown`, then lets answers in progress end, but not for ever.
///
/// # Errors
/// The listener is not usable.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let drained = shutdown.clone().cancelled_owned();
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(drained) => served,
        () = overdue => Ok(()),
    }
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
        &format!("{} is not served; there are /healthz, /readyz and /metrics", uri.path()),
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
