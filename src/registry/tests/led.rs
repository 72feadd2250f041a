//! Where a registry's answer may lead: nowhere behind us.

use super::*;

const LIST: &str = "/v2/shop/web/tags/list";

/// Says "come here instead" to every request.
async fn redirects(to: &str) -> MockServer {
    let server = MockServer::start().await;
    answers(&server, LIST, ResponseTemplate::new(307).append_header("Location", to)).await;
    server
}

async fn challenges(realm: &str) -> MockServer {
    let server = MockServer::start().await;
    let text = format!(r#"Bearer realm="{realm}""#);
    answers(&server, LIST, ResponseTemplate::new(401).append_header("WWW-Authenticate", text.as_str())).await;
    server
}

async fn refused(server: &MockServer, registry: &Registry, access: &Access) -> String {
    let repository = shop(server);
    let error = registry.tags_of(&repository, access).await.unwrap_err();
    well_said(&error, &repository);
    assert_eq!((error.reason(), error.is_transient()), ("RegistryAddressRefused", false), "{error}");
    error.to_string()
}

/// Somebody on this machine, by a name and by an address that is not the registry's.
async fn inside() -> (MockServer, [String; 3]) {
    let inside = MockServer::start().await;
    let port = inside.address().port();
    (inside, ["localhost", "127.0.0.2", "[::ffff:127.0.0.1]"].map(|host| format!("http://{host}:{port}{LIST}")))
}

#[tokio::test]
async fn a_redirect_does_not_lead_to_this_machine() {
    let (inside, urls) = inside().await;
    for url in urls {
        let text = refused(&redirects(&url).await, &client(), &anonymous()).await;
        assert!(text.contains("loopback") && text.contains("registry set"), "{url}: {text}");
    }
    assert_eq!(asked(&inside).await, 0);
}

#[tokio::test]
async fn a_realm_does_not_lead_to_this_machine() {
    let (inside, urls) = inside().await;
    for url in urls {
        refused(&challenges(&url).await, &client(), &anonymous()).await;
    }
    assert_eq!(asked(&inside).await, 0);
}

#[tokio::test]
async fn an_answer_does_not_lead_to_the_metadata_of_the_machine() {
    for url in ["http://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/latest", "http://2852039166/x"] {
        for server in [redirects(url).await, challenges(url).await] {
            refused(&server, &client(), &anonymous()).await;
        }
    }
}

#[tokio::test]
async fn an_answer_does_not_lead_into_a_private_network() {
    for url in [
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://172.16.0.1/x",
        "https://100.64.0.1/x",
        "https://[fd00::1]/x",
    ] {
        for server in [redirects(url).await, challenges(url).await] {
            let text = refused(&server, &client(), &anonymous()).await;
            assert!(text.contains("private"), "{text}");
        }
    }
}

#[tokio::test]
async fn the_metadata_of_the_machine_is_no_registry() {
    for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:169.254.169.254]:5000"] {
        let repository: Repository = format!("{host}/shop/web").parse().unwrap();
        let error = client().tags_of(&repository, &anonymous()).await.unwrap_err();
        assert_eq!(error.reason(), "RegistryAddressRefused", "{error}");
    }
}

#[tokio::test]
async fn the_registrys_own_host_may_answer_at_another_port() {
    let other = MockServer::start().await;
    answers(&other, LIST, ResponseTemplate::new(200).set_body_string(r#"{"tags":["1.0.0"]}"#)).await;
    let server = redirects(&format!("{}{LIST}", other.uri())).await;
    assert_eq!(client().tags_of(&shop(&server), &anonymous()).await.unwrap().names, ["1.0.0"]);
}

#[tokio::test]
async fn whoever_the_settings_name_may_be_inside() {
    let (inside, [url, ..]) = inside().await;
    let host = format!("localhost:{}", inside.address().port());
    answers(&inside, LIST, ResponseTemplate::new(200).set_body_string(r#"{"tags":["1.0.0"],"token":"t"}"#)).await;
    let (redirecting, challenging) = (redirects(&url).await, challenges(&url).await);
    let registry = client();
    registry.configure([(host.clone(), HostSettings::default())].into());
    registry.tags_of(&shop(&redirecting), &anonymous()).await.unwrap();
    assert_eq!(asked(&inside).await, 1);

    let registry = client();
    let realm = HostSettings { token_realms: vec![host], ..HostSettings::default() };
    registry.configure([(challenging.address().to_string(), realm)].into());
    let error = registry.tags_of(&shop(&challenging), &as_bob()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryDenied", "the token was got, and is not accepted: {error}");
    assert_eq!(asked(&inside).await, 2);
    // For the registry that it belongs to, and for no other.
    let foreign = challenges(&url).await;
    refused(&foreign, &registry, &anonymous()).await;
}
