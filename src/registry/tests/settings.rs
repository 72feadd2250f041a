//! Settings of single registries: each rule, and that it holds for nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use wiremock::matchers::header;

use super::tls::{CA, registry, tls_server};
use super::*;

const LIST: &str = "/v2/shop/web/tags/list";

fn tags() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(r#"{"tags":["1.0.0"]}"#)
}

/// A client with settings of one registry, which can be used.
fn set(host: &str, settings: HostSettings) -> Registry {
    let registry = client();
    configure(&registry, host, settings);
    registry
}

fn configure(registry: &Registry, host: &str, settings: HostSettings) {
    let wrong = registry.configure(BTreeMap::from([(host.to_owned(), settings)]));
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn trusting() -> HostSettings {
    HostSettings { ca_pem: Some(String::from_utf8(CA.into()).unwrap()), ..HostSettings::default() }
}

fn insecure() -> HostSettings {
    HostSettings { insecure: true, ..HostSettings::default() }
}

fn at(host: &str) -> Repository {
    format!("{host}/shop/web").parse().unwrap()
}

#[tokio::test]
async fn an_authority_is_trusted_for_its_registry_and_no_other() {
    let (own, other) = (registry().await, registry().await);
    let client = set(&format!("localhost:{own}"), trusting());
    let tags = client.tags_of(&at(&format!("localhost:{own}")), &Access::default()).await.unwrap();
    assert_eq!(tags.names, ["1.0.0"]);
    let other = at(&format!("localhost:{other}"));
    let error = client.tags_of(&other, &Access::default()).await.unwrap_err();
    well_said(&error, &other);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_authority_is_not_trusted_for_where_its_registry_leads_to() {
    let elsewhere = registry().await;
    let away = format!(
        "HTTP/1.1 307 Away\r\nLocation: https://localhost:{elsewhere}{LIST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let own = format!("localhost:{}", tls_server(away).await);
    let client = set(&own, trusting());
    let error = client.tags_of(&at(&own), &Access::default()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let both = BTreeMap::from([(own.clone(), trusting()), (format!("localhost:{elsewhere}"), trusting())]);
    assert!(client.configure(both).is_empty());
    client.tags_of(&at(&own), &Access::default()).await.unwrap();
}

#[tokio::test]
async fn plain_http_is_spoken_when_the_settings_or_the_access_say_so() {
    let server = MockServer::start().await;
    answers(&server, LIST, tags()).await;
    let (host, repository) = (server.address().to_string(), shop(&server));
    let says = |insecure| Access { insecure, ..Access::default() };
    let neither = client().tags_of(&repository, &says(false)).await;
    assert!(neither.is_err());
    let set = set(&host, insecure());
    set.tags_of(&repository, &says(false)).await.unwrap();
    set.tags_of(&repository, &says(true)).await.unwrap();
    configure(&set, &host, HostSettings::default());
    set.tags_of(&repository, &says(true)).await.unwrap();
    assert!(set.tags_of(&repository, &says(false)).await.is_err());
}

/// A registry whose token service is on another host.
async fn with_foreign_tokens() -> (MockServer, MockServer) {
    let (server, sso) = (MockServer::start().await, MockServer::start().await);
    let realm = format!("http://localhost:{}/token", sso.address().port());
    Mock::given(path(LIST)).and(header("authorization", "Bearer t1")).respond_with(tags()).mount(&server).await;
    let challenge =
        ResponseTemplate::new(401).append_header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#).as_str());
    Mock::given(path(LIST)).respond_with(challenge).with_priority(9).mount(&server).await;
    answers(&sso, "/token", ResponseTemplate::new(200).set_body_string(r#"{"token":"t1"}"#)).await;
    (server, sso)
}

#[tokio::test]
async fn a_token_realm_is_known_for_exactly_its_registry() {
    let (server, sso) = with_foreign_tokens().await;
    let (host, repository, port) = (server.address().to_string(), shop(&server), sso.address().port());
    let realm = |realm: String| HostSettings { token_realms: vec![realm], ..HostSettings::default() };
    let others = [
        ("another registry", "other.test".to_owned(), "localhost".to_owned()),
        ("another port of the registry", "127.0.0.1:1".to_owned(), "localhost".to_owned()),
        ("another realm", host.clone(), "localhost.evil.example".to_owned()),
        ("another port of the realm", host.clone(), "localhost:1".to_owned()),
    ];
    for (name, registry, allowed) in others {
        let error = set(&registry, realm(allowed)).tags_of(&repository, &as_bob()).await.unwrap_err();
        well_said(&error, &repository);
        assert_eq!(error.reason(), "RegistryRealmRefused", "{name}: {error}");
    }
    assert_eq!(asked(&sso).await, 0);
    for allowed in ["localhost".to_owned(), format!("localhost:{port}")] {
        set(&host, realm(allowed)).tags_of(&repository, &as_bob()).await.unwrap();
    }
    assert_eq!(authorizations(&sso).await, [Some(BOB.to_owned()), Some(BOB.to_owned())]);
}

fn slow() -> HostSettings {
    HostSettings { requests_per_second: Some(0.001), ..HostSettings::default() }
}

/// That it was the rate, in an error that says when to come back.
#[track_caller]
fn too_soon(error: &RegistryError) {
    assert!(matches!(error, RegistryError::RateLimited { limit: RateLimit::Rate, .. }), "{error}");
    assert!(error.retry_after().unwrap() > Duration::from_secs(900) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn whoever_would_wait_long_for_a_registry_is_sent_away() {
    let server = MockServer::start().await;
    answers(&server, LIST, tags()).await;
    let (other, repository) = (MockServer::start().await, shop(&server));
    answers(&other, LIST, tags()).await;
    let client = set(&server.address().to_string(), slow());
    assert_eq!(client.ready_at(&repository), None);
    client.tags_of(&repository, &anonymous()).await.unwrap();

    let error = client.tags_of(&repository, &anonymous()).await.unwrap_err();
    well_said(&error, &repository);
    too_soon(&error);
    assert!(client.ready_at(&repository).unwrap() > Instant::now() + Duration::from_secs(900));
    assert_eq!((asked(&server).await, client.ready_at(&shop(&other))), (1, None));
    client.tags_of(&shop(&other), &anonymous()).await.unwrap();
    // Nobody gets a new burst by changing something else.
    configure(&client, &server.address().to_string(), HostSettings { insecure: true, ..slow() });
    too_soon(&client.tags_of(&repository, &anonymous()).await.unwrap_err());
    configure(&client, &server.address().to_string(), insecure());
    client.tags_of(&repository, &anonymous()).await.unwrap();
    assert_eq!(asked(&server).await, 2);
}

#[tokio::test]
async fn token_services_and_redirects_of_a_registry_wait_for_their_turn_too() {
    let (tokens, moved) = (MockServer::start().await, MockServer::start().await);
    let realm = format!(r#"Bearer realm="{}/token""#, tokens.uri());
    answers(&tokens, LIST, ResponseTemplate::new(401).append_header("WWW-Authenticate", realm.as_str())).await;
    answers(&moved, LIST, ResponseTemplate::new(307).append_header("Location", "/elsewhere")).await;
    let second = async |server: &MockServer| {
        let client = set(&server.address().to_string(), slow());
        too_soon(&client.tags_of(&shop(server), &anonymous()).await.unwrap_err());
        assert_eq!(asked(server).await, 1, "the second one is not sent");
    };
    futures::join!(second(&tokens), second(&moved));
}

#[tokio::test]
async fn a_registry_is_matched_by_its_whole_name() {
    let server = MockServer::start().await;
    answers(&server, LIST, tags()).await;
    let (host, port) = (server.address().to_string(), server.address().port());
    let near = [
        format!("127.0.0.1.evil.example:{port}"),
        format!("evil.127.0.0.1:{port}"),
        "127.0.0.1".to_owned(),
        "127.0.0.1:1".to_owned(),
        format!("localhost:{port}"),
    ];
    for near in near {
        let error = set(&near, insecure()).tags_of(&shop(&server), &Access::default()).await.unwrap_err();
        assert!(error.to_string().contains("insecure: true"), "{near}: {error}");
    }
    set(&host, insecure()).tags_of(&shop(&server), &Access::default()).await.unwrap();
    // What stands for no registry that a reference can name is told, and nothing else comes of it.
    for nobody in
        ["GHCR.IO", "https://ghcr.io", "ghcr.io/acme", "ghcr.io.", "index.docker.io", "ghcr", "ghcr.io:0443", ""]
    {
        let client = client();
        let wrong = client.configure(BTreeMap::from([(nobody.to_owned(), insecure())]));
        assert_eq!(wrong.len(), 1, "{nobody}");
        assert_eq!(wrong[0].0, nobody);
        assert!(wrong[0].1.to_string().contains("`host`"), "{}", wrong[0].1);
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_close_their_registry_and_no_other() {
    let (server, other) = (MockServer::start().await, MockServer::start().await);
    for server in [&server, &other] {
        answers(server, LIST, tags()).await;
    }
    let host = server.address().to_string();
    let ca = |text: &str| HostSettings { ca_pem: Some(text.into()), ..insecure() };
    let pace = |rate| HostSettings { requests_per_second: Some(rate), ..insecure() };
    let realm = |text: &str| HostSettings { token_realms: vec![text.into()], ..insecure() };
    let cases = [
        (ca("not pem"), "`ca`"),
        (ca(""), "`ca`"),
        (ca("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "`ca`"),
        (pace(0.0), "`rate`"),
        (pace(-1.0), "`rate`"),
        (pace(f64::NAN), "`rate`"),
        (pace(f64::INFINITY), "`rate`"),
        (realm("https://sso.test"), "`realm`"),
        (realm("SSO.test"), "`realm`"),
        (realm("bob@sso.test"), "`realm`"),
        (realm(""), "`realm`"),
    ];
    for (settings, names) in cases {
        let client = client();
        let settings = BTreeMap::from([(host.clone(), settings), (other.address().to_string(), insecure())]);
        let wrong = client.configure(settings.clone());
        assert_eq!(wrong.iter().map(|(host, _)| host).collect::<Vec<_>>(), [&host], "{settings:?}");
        let error = client.tags_of(&shop(&server), &anonymous()).await.unwrap_err();
        assert_eq!((&error, error.is_transient()), (&wrong[0].1, false));
        assert_eq!(error.reason(), "RegistrySettingsInvalid");
        let text = error.to_string();
        assert!(text.contains(&host) && text.contains(names) && !text.contains('\n'), "{text}");
        client.tags_of(&shop(&other), &anonymous()).await.unwrap();
        // Corrected, and it is asked again.
        configure(&client, &host, insecure());
        client.tags_of(&shop(&server), &anonymous()).await.unwrap();
        server.reset().await;
        answers(&server, LIST, tags()).await;
    }
}

#[tokio::test]
async fn settings_are_swapped_while_requests_run() {
    let server = MockServer::start().await;
    let slow = tags().set_delay(Duration::from_millis(300));
    answers(&server, LIST, slow).await;
    let (client, repository, host) =
        (Arc::new(set(&server.address().to_string(), insecure())), shop(&server), server.address().to_string());
    let running = {
        let (client, repository) = (client.clone(), repository.clone());
        tokio::spawn(async move { client.tags_of(&repository, &Access::default()).await })
    };
    while asked(&server).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let wrong = client.configure(BTreeMap::from([(host, HostSettings { ca_pem: Some(String::new()), ..insecure() })]));
    assert_eq!(wrong.len(), 1);
    running.await.unwrap().unwrap();
    let error = client.tags_of(&repository, &Access::default()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistrySettingsInvalid", "{error}");
}
