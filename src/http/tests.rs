//! The port as its callers see it.

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use tower::ServiceExt as _;

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::telemetry::Part;

fn closed(telemetry: &Telemetry) -> Hooks {
    Hooks::new(telemetry.clone(), Duration::from_secs(1))
}

fn no_api() -> Api {
    Api::new(Telemetry::default(), Duration::from_secs(1))
}

fn quiet() -> Router {
    let telemetry = Telemetry::default();
    router(telemetry.clone(), closed(&telemetry), no_api())
}

async fn get_path(telemetry: &Telemetry, path: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let answer = router(telemetry.clone(), closed(telemetry), no_api())
        .oneshot(request)
        .await
        .expect("the router always answers");
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
    let server = tokio::spawn(serve(listener, quiet(), Limits::default(), shutdown.clone()));
    let answer = reqwest::get(format!("http://{address}/healthz")).await;
    assert_eq!(answer.expect("an answer").status(), 200);

    shutdown.cancel();
    server.await.expect("the server does not panic").expect("the server ends well");
    TcpListener::bind(address).await.expect("the port is free");
}

/// Everything that a connection says until it is closed.
async fn heard(mut connection: tokio::net::TcpStream) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut heard = Vec::new();
    // A reset is an end as well.
    _ = connection.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_connection_that_takes_its_time_is_closed() {
    use tokio::io::AsyncWriteExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let short = Duration::from_millis(50);
    // Room for one: the second is served when the first was closed.
    let limits = Limits { connections: 1, headers: short, ..Limits::default() };
    let server = tokio::spawn(serve(listener, quiet(), limits, shutdown.clone()));

    for begun in ["", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut connection = tokio::net::TcpStream::connect(address).await.expect("a connection");
        connection.write_all(begun.as_bytes()).await.expect("a beginning");
        let heard = heard(connection).await;
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 408"), "{begun:?}: {heard}");
    }
    // One that is kept open after an answer does not stay either.
    let mut connection = tokio::net::TcpStream::connect(address).await.expect("a connection");
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
    let heard = heard(connection).await;
    assert!(heard.starts_with("HTTP/1.1 200") && heard.contains("ok\n"), "{heard}");
    let answer = reqwest::get(format!("http://{address}/healthz")).await;
    assert_eq!(answer.expect("an answer").status(), 200);
    shutdown.cancel();
    server.await.expect("the server does not panic").expect("the server ends well");
}
