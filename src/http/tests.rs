//! The port as its callers see it.

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use tower::ServiceExt as _;

use super::*;
use crate::telemetry::Part;

async fn get_path(telemetry: &Telemetry, path: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let answer = router(telemetry.clone()).oneshot(request).await.expect("the router always answers");
    let status = answer.status();
    let content_type = answer.headers()[CONTENT_TYPE].to_str().expect("a text").to_owned();
    let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    (status, content_type, body)
}

#[tokio::test]
async fn healthz_needs_no_dependency() {
    let (status, _, body) = get_path(&Telemetry::default(), "/healthz").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ok\n"));
}

#[tokio::test]
async fn readyz_names_what_is_missing() {
    let telemetry = Telemetry::default();
    for part in Part::ALL {
        telemetry.readiness.set(part, true);
    }
    let (status, _, body) = get_path(&telemetry, "/readyz").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, r#"{"missing":[],"ready":true}"#);

    for part in Part::ALL {
        telemetry.readiness.set(part, false);
        let (status, content_type, body) = get_path(&telemetry, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(content_type, "application/json");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let expected = json!({
            "ready": false,
            "missing": [{"part": part.word(), "reason": part.missing()}],
        });
        assert_eq!(body, expected);
        telemetry.readiness.set(part, true);
    }
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let telemetry = Telemetry::default();
    telemetry.metrics.store_up(true);
    let (status, content_type, body) = get_path(&telemetry, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(content_type, metrics::CONTENT_TYPE);
    assert!(body.contains("\nstagekeeper_store_up 1\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_document() {
    let (status, content_type, body) = get_path(&Telemetry::default(), "/x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(content_type, "application/problem+json");
    assert!(body.contains("/x is not served"), "{body}");
}

#[tokio::test]
async fn shutdown_ends_the_server_and_frees_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, router(Telemetry::default()), shutdown.clone()));
    let answer = reqwest::get(format!("http://{address}/healthz")).await;
    assert_eq!(answer.expect("an answer").status(), 200);

    shutdown.cancel();
    server.await.expect("the server does not panic").expect("the server ends well");
    TcpListener::bind(address).await.expect("the port is free");
}
