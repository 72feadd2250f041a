//! Tokens, passwords, redirects: who gets to see our credentials.

use std::sync::atomic::{AtomicUsize, Ordering};

use wiremock::matchers::{header, header_exists, query_param};

use super::*;

const LIST: &str = "/v2/shop/web/tags/list";

fn tags() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(r#"{"tags":["1.0.0"]}"#)
}

fn challenge(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(401).append_header("WWW-Authenticate", text)
}

/// A registry that accepts one token, and names its token service.
async fn wants_token(server: &MockServer, token: &str, realm: &str) {
    let bearer = format!("Bearer {token}");
    Mock::given(path(LIST)).and(header("authorization", bearer.as_str())).respond_with(tags()).mount(server).await;
    let text = format!(r#"Bearer realm="{realm}",service="test",scope="repository:other:pull,push""#);
    Mock::given(path(LIST)).respond_with(challenge(&text)).with_priority(9).mount(server).await;
}

fn token(token: &str, expires_in: u32) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(serde_json::json!({ "token": token, "expires_in": expires_in }))
}

/// The same server under another name: another host to us.
fn foreign(server: &MockServer) -> String {
    format!("http://localhost:{}", server.address().port())
}

#[tokio::test]
async fn a_token_is_fetched_for_this_repository_and_used_until_it_expires() {
    let server = MockServer::start().await;
    wants_token(&server, "t1", &format!("{}/token?a=b", server.uri())).await;
    Mock::given(path("/token"))
        .and(query_param("a", "b"))
        .and(query_param("service", "test"))
        .and(query_param("scope", "repository:shop/web:pull"))
        .and(header("authorization", BOB))
        .respond_with(token("t1", 300))
        .mount(&server)
        .await;
    let clock = clock();
    let registry = Registry::new(RegistryOptions::default(), clock.clone()).unwrap();
    let repository = shop(&server);
    let bearer = || Some("Bearer t1".to_owned());
    let bob = || Some(BOB.to_owned());

    registry.tags_of(&repository, &as_bob()).await.unwrap();
    registry.tags_of(&repository, &as_bob()).await.unwrap();
    assert_eq!(authorizations(&server).await, [None, bob(), bearer(), bearer()], "the second call reuses the token");

    clock.advance(271);
    registry.tags_of(&repository, &as_bob()).await.unwrap();
    let all = authorizations(&server).await;
    assert_eq!(all[4..], [None, bob(), bearer()], "an expired token is not sent");
}

#[tokio::test]
async fn a_token_that_is_no_longer_accepted_is_replaced() {
    let server = MockServer::start().await;
    wants_token(&server, "t2", &format!("{}/token", server.uri())).await;
    Mock::given(path("/token")).respond_with(token("t1", 300)).up_to_n_times(1).mount(&server).await;
    Mock::given(path("/token")).respond_with(token("t2", 300)).mount(&server).await;
    let (registry, repository) = (client(), shop(&server));
    let error = registry.tags_of(&repository, &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryDenied", "{error}");
    registry.tags_of(&repository, &anonymous()).await.unwrap();
}

#[tokio::test]
async fn a_cached_token_that_is_revoked_costs_one_more_round_and_no_failure() {
    let server = MockServer::start().await;
    let current = Arc::new(AtomicUsize::new(1));
    let (accepted, issued) = (current.clone(), current.clone());
    let realm = format!("{}/token", server.uri());
    let guard = move |request: &Request| {
        let want = format!("Bearer t{}", accepted.load(Ordering::SeqCst));
        if authorization(request) == Some(&want) { tags() } else { challenge(&format!(r#"Bearer realm="{realm}""#)) }
    };
    let issue = move |_: &Request| token(&format!("t{}", issued.load(Ordering::SeqCst)), 300);
    Mock::given(path(LIST)).respond_with(guard).mount(&server).await;
    Mock::given(path("/token")).respond_with(issue).mount(&server).await;
    let (registry, repository) = (client(), shop(&server));
    registry.tags_of(&repository, &anonymous()).await.unwrap();
    current.store(2, Ordering::SeqCst);
    registry.tags_of(&repository, &anonymous()).await.unwrap();
    assert_eq!(asked(&server).await, 6);
}

#[tokio::test]
async fn credentials_are_never_sent_to_a_foreign_realm() {
    let (server, elsewhere) = (MockServer::start().await, MockServer::start().await);
    Mock::given(path("/token")).respond_with(token("t1", 300)).mount(&elsewhere).await;
    let port = elsewhere.address().port();
    let realms = [
        format!("http://localhost:{port}/token"),
        format!("http://127.0.0.1:{port}/token"),
        format!("http://127.0.0.2:{port}/token"),
        format!("http://{}@localhost:{port}/token", server.address()),
        format!("https://localhost:{port}/token"),
        format!("https://127.0.0.1.evil.invalid:{port}/token"),
        "https://auth.docker.io/token".to_owned(),
    ];
    for realm in realms {
        server.reset().await;
        wants_token(&server, "t1", &realm).await;
        let repository = shop(&server);
        let error = client().tags_of(&repository, &as_bob()).await.unwrap_err();
        well_said(&error, &repository);
        assert_eq!((error.reason(), error.is_transient()), ("RegistryRealmRefused", false), "{realm}: {error}");
        assert_eq!(authorizations(&server).await, [None], "{realm}");
    }
    assert_eq!(asked(&elsewhere).await, 0, "not even asked");
}

#[tokio::test]
async fn a_foreign_realm_can_be_allowed_for_one_registry() {
    let (server, sso) = (MockServer::start().await, MockServer::start().await);
    wants_token(&server, "t1", &format!("{}/token", foreign(&sso))).await;
    Mock::given(path("/token")).respond_with(token("t1", 300)).mount(&sso).await;
    let repository = shop(&server);
    let allow = |registry: &str| {
        let realm = TokenRealm { registry: registry.into(), host: "localhost".into() };
        client_with(RegistryOptions { token_realms: vec![realm], ..RegistryOptions::default() })
    };
    allow("other.test").tags_of(&repository, &as_bob()).await.unwrap_err();
    assert_eq!(asked(&sso).await, 0);
    allow(repository.registry()).tags_of(&repository, &as_bob()).await.unwrap();
    assert_eq!(authorizations(&sso).await, [Some(BOB.to_owned())]);
    let refused = Some(BOB.to_owned());
    assert!(!authorizations(&server).await.contains(&refused), "the registry gets the token, not the password");
}

/// A client whose settings name a foreign host on this machine, so that answers may lead there.
fn naming(server: &MockServer) -> Registry {
    let registry = client();
    let host = format!("localhost:{}", server.address().port());
    assert!(registry.configure([(host, HostSettings::default())].into()).is_empty());
    registry
}

#[tokio::test]
async fn without_a_credential_any_token_service_may_be_asked() {
    let (server, elsewhere) = (MockServer::start().await, MockServer::start().await);
    wants_token(&server, "t1", &format!("{}/token", foreign(&elsewhere))).await;
    Mock::given(path("/token")).respond_with(token("t1", 300)).mount(&elsewhere).await;
    naming(&elsewhere).tags_of(&shop(&server), &anonymous()).await.unwrap();
    assert_eq!(authorizations(&elsewhere).await, [None]);
}

#[tokio::test]
async fn basic_authentication_is_offered_only_when_asked_for_and_then_remembered() {
    let server = MockServer::start().await;
    Mock::given(path(LIST)).and(header("authorization", BOB)).respond_with(tags()).mount(&server).await;
    Mock::given(path(LIST)).respond_with(challenge(r#"Basic realm="registry""#)).with_priority(9).mount(&server).await;
    let (registry, repository, bob) = (client(), shop(&server), Some(BOB.to_owned()));
    registry.tags_of(&repository, &as_bob()).await.unwrap();
    registry.tags_of(&repository, &as_bob()).await.unwrap();
    assert_eq!(authorizations(&server).await, [None, bob.clone(), bob]);
    let error = registry.tags_of(&repository, &anonymous()).await.unwrap_err();
    assert!(error.to_string().contains("no credential is given"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_repeated() {
    let server = MockServer::start().await;
    Mock::given(path(LIST)).respond_with(challenge("Basic")).mount(&server).await;
    let repository = shop(&server);
    let error = client().tags_of(&repository, &as_bob()).await.unwrap_err();
    well_said(&error, &repository);
    assert!(error.to_string().contains("does not accept the user and password"), "{error}");

    server.reset().await;
    wants_token(&server, "t1", &format!("{}/token", server.uri())).await;
    Mock::given(path("/token")).respond_with(ResponseTemplate::new(401).set_body_string(CANARY)).mount(&server).await;
    let error = client().tags_of(&repository, &as_bob()).await.unwrap_err();
    well_said(&error, &repository);
    assert!(error.to_string().contains("does not accept the credential"), "{error}");
}

#[tokio::test]
async fn trouble_at_the_token_service_keeps_its_class() {
    let cases = [
        (ResponseTemplate::new(429).append_header("Retry-After", "9"), "RegistryRateLimited", true),
        (ResponseTemplate::new(503), "RegistryUnavailable", true),
        (ResponseTemplate::new(403), "RegistryDenied", false),
        (ResponseTemplate::new(404), "RegistryAnswerUnexpected", false),
        (
            ResponseTemplate::new(302).append_header("Location", "http://localhost:1/"),
            "RegistryAnswerUnexpected",
            false,
        ),
        (ResponseTemplate::new(200).set_body_string("<html>"), "RegistryAnswerMalformed", true),
        (ResponseTemplate::new(200).set_body_string(r#"{"token":"a\nb"}"#), "RegistryAnswerMalformed", true),
        (ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 70_000]), "RegistryAnswerTooLarge", false),
    ];
    for (answer, reason, transient) in cases {
        let server = MockServer::start().await;
        wants_token(&server, "t1", &format!("{}/token", server.uri())).await;
        Mock::given(path("/token")).respond_with(answer).mount(&server).await;
        let repository = shop(&server);
        let error = client().tags_of(&repository, &as_bob()).await.unwrap_err();
        well_said(&error, &repository);
        assert_eq!((error.reason(), error.is_transient()), (reason, transient), "{error}");
    }
}

#[tokio::test]
async fn a_realm_that_is_no_url_is_malformed() {
    for realm in ["", "token", "/token", "http://"] {
        let server = MockServer::start().await;
        wants_token(&server, "t1", realm).await;
        let error = client().tags_of(&shop(&server), &anonymous()).await.unwrap_err();
        assert!(matches!(error.reason(), "RegistryAnswerMalformed" | "RegistryDenied"), "{realm}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_credential() {
    let (server, storage) = (MockServer::start().await, MockServer::start().await);
    let away =
        ResponseTemplate::new(307).append_header("Location", format!("{}/stored?sig=1", foreign(&storage)).as_str());
    Mock::given(path(LIST)).and(header_exists("authorization")).respond_with(away).mount(&server).await;
    Mock::given(path(LIST)).respond_with(challenge("Basic")).with_priority(9).mount(&server).await;
    answers(&storage, "/stored", tags()).await;
    naming(&storage).tags_of(&shop(&server), &as_bob()).await.unwrap();
    assert_eq!(authorizations(&server).await, [None, Some(BOB.to_owned())]);
    assert_eq!(authorizations(&storage).await, [None]);
}

#[tokio::test]
async fn a_redirect_cannot_ask_for_the_credential() {
    let (server, elsewhere) = (MockServer::start().await, MockServer::start().await);
    let away = ResponseTemplate::new(307).append_header("Location", format!("{}/stored", foreign(&elsewhere)).as_str());
    answers(&server, LIST, away).await;
    for asks in ["Basic".to_owned(), format!(r#"Bearer realm="{}/token""#, foreign(&elsewhere))] {
        elsewhere.reset().await;
        answers(&elsewhere, "/stored", challenge(&asks)).await;
        let error = naming(&elsewhere).tags_of(&shop(&server), &as_bob()).await.unwrap_err();
        assert_eq!(error.reason(), "RegistryDenied", "{error}");
        assert_eq!(authorizations(&elsewhere).await, [None], "{asks}");
    }
}

#[tokio::test]
async fn redirects_have_an_end_and_stay_on_the_web() {
    for (to, says) in
        [(LIST, "more than 3 times"), ("file:///etc/passwd", "only https"), ("ftp://r.test/", "only https")]
    {
        let server = MockServer::start().await;
        answers(&server, LIST, ResponseTemplate::new(302).append_header("Location", to)).await;
        let error = client().tags_of(&shop(&server), &anonymous()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{to}: {error}");
        assert!(asked(&server).await <= 4);
    }
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_credential() {
    let server = MockServer::start().await;
    answers(&server, LIST, ResponseTemplate::new(308).append_header("Location", "/v2/moved")).await;
    Mock::given(path("/v2/moved")).and(header("authorization", BOB)).respond_with(tags()).mount(&server).await;
    Mock::given(path("/v2/moved")).respond_with(challenge("Basic")).with_priority(9).mount(&server).await;
    client().tags_of(&shop(&server), &as_bob()).await.unwrap();
}
