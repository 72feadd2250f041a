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

/// A registry that was asked once, and when that was.
struct AskedOnce {
    registry: Registry,
    server: MockServer,
    begun: Instant,
    done: Instant,
}

impl AskedOnce {
    async fn with(response: ResponseTemplate) -> Self {
        let (server, registry) = (MockServer::start().await, client());
        answers(&server, LIST, response).await;
        answers(&server, OTHER, tags()).await;
        let begun = Instant::now();
        let _answer = registry.tags_of(&shop(&server), &anonymous()).await;
        Self { registry, server, begun, done: Instant::now() }
    }

    /// That its other repositories rest for so many seconds from its answer.
    #[track_caller]
    fn rests(&self, seconds: u64) {
        let rest = Duration::from_secs(seconds);
        match self.registry.ready_at(&api(&self.server)) {
            None => assert!(seconds == 0 || self.begun.elapsed() >= rest, "it does not rest for {seconds} s"),
            Some(at) => assert!(
                (self.begun + rest..=self.done + rest).contains(&at) && seconds > 0,
                "it rests for {:?} and not for {seconds} s",
                at - self.begun
            ),
        }
    }
}

#[tokio::test]
async fn a_host_rests_as_long_as_it_asks_for() {
    let unavailable = ResponseTemplate::new(503).append_header("Retry-After", "70");
    let cases = [
        (ResponseTemplate::new(429).append_header("Retry-After", "120"), 120),
        (ResponseTemplate::new(429).append_header("Retry-After", "Fri, 02 Jan 2026 03:05:05 GMT"), 60),
        (ResponseTemplate::new(429).append_header("Retry-After", "0"), 1),
        (ResponseTemplate::new(429), 5),
        (unavailable, 70),
        (ResponseTemplate::new(503), 0),
        (ResponseTemplate::new(500), 0),
        (tags(), 0),
    ];
    for (response, want) in cases {
        let once = AskedOnce::with(response).await;
        once.rests(want);
        if want > 5 {
            let error = once.registry.tags_of(&api(&once.server), &anonymous()).await.unwrap_err();
            well_said(&error, &api(&once.server));
            assert!(matches!(error, RegistryError::RateLimited { limit: RateLimit::Resting, .. }), "{error}");
            assert!(error.retry_after().unwrap() <= Duration::from_secs(want));
            assert_eq!(asked(&once.server).await, 1, "whoever rests is not asked");
        } else if want == 0 {
            once.registry.tags_of(&api(&once.server), &anonymous()).await.unwrap();
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
        AskedOnce::with(response).await.rests(want);
    }
}

#[tokio::test]
async fn a_token_service_that_refuses_gives_the_registry_a_rest() {
    let (server, registry) = (MockServer::start().await, client());
    let realm = format!(r#"Bearer realm="{}/token""#, server.uri());
    answers(&server, LIST, ResponseTemplate::new(401).append_header("WWW-Authenticate", realm.as_str())).await;
    answers(&server, "/token", ResponseTemplate::new(429).append_header("Retry-After", "300")).await;
    let begun = Instant::now();
    let error = registry.tags_of(&shop(&server), &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryRateLimited", "{error}");
    AskedOnce { registry, server, begun, done: Instant::now() }.rests(300);
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
