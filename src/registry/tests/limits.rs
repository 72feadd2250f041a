//! Registries that want less to be asked of them: the whole host rests, and no other one does.

use std::time::Duration;

use super::*;

const LIST: &str = "/v2/shop/web/tags/list";
const OTHER: &str = "/v2/shop/api/tags/list";

fn tags() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(r#"{"tags":["1.0.0"]}"#)
}

/// Another repository of the same registry.
fn api(server: &MockServer) -> Repository {
    format!("{}/shop/api", server.address()).parse().unwrap()
}

/// How long the registry rests, in seconds; 0: not at all.
fn rest(registry: &Registry, server: &MockServer) -> u64 {
    registry.ready_at(&api(server)).map_or(0, |at| (at - Instant::now()).as_secs_f64().round() as u64)
}

/// A client that asked a registry once, which answered this.
async fn asked_once(response: ResponseTemplate) -> (Registry, MockServer) {
    let (server, registry) = (MockServer::start().await, client());
    answers(&server, LIST, response).await;
    answers(&server, OTHER, tags()).await;
    let _answer = registry.tags_of(&shop(&server), &anonymous()).await;
    (registry, server)
}

#[tokio::test]
async fn a_host_rests_as_long_as_it_asks_for() {
    let unavailable = ResponseTemplate::new(503).append_header("Retry-After", "7");
    let cases = [
        (ResponseTemplate::new(429).append_header("Retry-After", "120"), 120),
        (ResponseTemplate::new(429).append_header("Retry-After", "Fri, 02 Jan 2026 03:05:05 GMT"), 60),
        (ResponseTemplate::new(429).append_header("Retry-After", "0"), 1),
        (ResponseTemplate::new(429), 5),
        (unavailable, 7),
        (ResponseTemplate::new(503), 0),
        (ResponseTemplate::new(500), 0),
        (tags(), 0),
    ];
    for (response, want) in cases {
        let (registry, server) = asked_once(response).await;
        assert_eq!(rest(&registry, &server), want);
        let error = registry.tags_of(&api(&server), &anonymous()).await.err();
        assert_eq!((error.is_some(), asked(&server).await), (want > 1, if want > 1 { 1 } else { 2 }), "{error:?}");
        if let Some(error) = error {
            well_said(&error, &api(&server));
            assert!(matches!(error, RegistryError::RateLimited { limit: RateLimit::Resting, .. }), "{error}");
            assert_eq!(error.retry_after().unwrap().as_secs_f64().round() as u64, want);
        }
    }
}

#[tokio::test]
async fn a_host_without_anything_left_rests_until_there_is_something() {
    let with = |limit: &str, remaining: &str| {
        tags().append_header("RateLimit-Limit", limit).append_header("RateLimit-Remaining", remaining)
    };
    for (response, want) in [
        (with("100;w=21600", "76;w=21600"), 0),
        (with("100;w=21600", "3;w=21600"), 216),
        (with("100;w=21600", "0;w=21600"), 216),
        (with("100", "0").append_header("RateLimit-Reset", "50"), 50),
        (with("100", "4").append_header("RateLimit-Reset", "50"), 10),
    ] {
        let (registry, server) = asked_once(response).await;
        assert_eq!(rest(&registry, &server), want);
    }
}

#[tokio::test]
async fn a_token_service_that_refuses_gives_the_registry_a_rest() {
    let (server, registry) = (MockServer::start().await, client());
    let realm = format!(r#"Bearer realm="{}/token""#, server.uri());
    answers(&server, LIST, ResponseTemplate::new(401).append_header("WWW-Authenticate", realm.as_str())).await;
    answers(&server, "/token", ResponseTemplate::new(429).append_header("Retry-After", "30")).await;
    let error = registry.tags_of(&shop(&server), &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryRateLimited", "{error}");
    assert_eq!(rest(&registry, &server), 30);
}

#[tokio::test]
async fn a_storm_of_refusals_delays_nobody_else() {
    let (storm, calm, registry) = (MockServer::start().await, MockServer::start().await, client());
    answers(&storm, LIST, ResponseTemplate::new(429).append_header("Retry-After", "3600")).await;
    answers(&calm, LIST, tags()).await;
    let (stormy, quiet, access) = (shop(&storm), shop(&calm), anonymous());
    let begun = std::time::Instant::now();
    let refused = futures::future::join_all((0..200).map(|_| registry.tags_of(&stormy, &access)));
    let answered = futures::future::join_all((0..100).map(|_| registry.tags_of(&quiet, &access)));
    let (refused, answered) = futures::join!(refused, answered);
    assert!(refused.iter().all(|result| result.as_ref().is_err_and(|error| error.reason() == "RegistryRateLimited")));
    assert!(answered.iter().all(Result::is_ok));
    let before = asked(&storm).await;
    assert!(registry.tags_of(&stormy, &access).await.is_err());
    assert_eq!(asked(&storm).await, before, "whoever rests is not asked");
    assert!(begun.elapsed() < Duration::from_secs(600), "no worker waited for the rest");
}
