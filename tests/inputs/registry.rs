//! A registry that has a few images under every name.

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Ended with this value.
pub struct Registry {
    /// Where it is, as references name it.
    pub host: String,
    _serving: AbortOnDropHandle<()>,
}

impl Registry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(answer)).await.unwrap();
        });
        Self { host, _serving: AbortOnDropHandle::new(serving) }
    }
}

/// The digest that every tag leads to.
pub fn digest() -> String {
    digest_of(&manifest())
}

fn digest_of(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

fn config() -> String {
    json!({"created": "2026-01-02T03:04:05Z", "os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})
        .to_string()
}

fn manifest() -> String {
    let config = config();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(&config), "size": config.len()},
        "layers": [],
    })
    .to_string()
}

async fn answer(request: Request) -> Response {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    if path == "/v2" {
        return StatusCode::OK.into_response();
    }
    if path.ends_with("/tags/list") {
        let tags = ["1.0.0", "1.1.0", "2.0.0-rc.1", "20260102", "main", "latest"];
        return axum_json(&json!({"name": "any", "tags": tags}).to_string(), "application/json");
    }
    if path.contains("/blobs/") {
        return axum_json(&config(), "application/octet-stream");
    }
    let known = path.rsplit_once("/manifests/").is_some_and(|(_, name)| !name.contains(':') || name == digest());
    if known { axum_json(&manifest(), MANIFEST) } else { StatusCode::NOT_FOUND.into_response() }
}

fn axum_json(text: &str, kind: &'static str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, kind.to_owned()), ("docker-content-digest".parse().unwrap(), digest_of(text))];
    (headers, text.to_owned()).into_response()
}
