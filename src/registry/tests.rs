//! The client against registries of the test's own: well-behaved, broken and hostile ones.

mod auth;
mod dated;
mod led;
mod limits;
mod listing;
mod resolving;
mod settings;
mod tls;
mod transport;

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;

/// A password that must not appear anywhere but in requests to its registry.
const CANARY: &str = "canary-hunter2";

struct TestClock(Mutex<Timestamp>);

impl TestClock {
    fn advance(&self, seconds: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock(Mutex::new("2026-01-02T03:04:05Z".parse().unwrap())))
}

impl Registry {
    /// A listing that knows nothing from before.
    async fn tags_of(&self, repository: &Repository, access: &Access) -> Result<Tags, RegistryError> {
        self.list_tags(repository, access, None).await.map(|listing| listing.tags().unwrap())
    }
}

fn client() -> Registry {
    client_with(RegistryOptions::default())
}

fn client_with(options: RegistryOptions) -> Registry {
    Registry::new(options, clock()).unwrap()
}

fn small(limits: Limits) -> Registry {
    client_with(RegistryOptions { limits, ..RegistryOptions::default() })
}

/// The repository `shop/web` of a server that speaks plain HTTP.
fn shop(server: &MockServer) -> Repository {
    format!("{}/shop/web", server.address()).parse().unwrap()
}

fn anonymous() -> Access {
    Access { credential: Credential::Anonymous, insecure: true }
}

fn as_bob() -> Access {
    Access { credential: Credential::Basic { user: "bob".into(), secret: CANARY.to_owned().into() }, insecure: true }
}

/// `Authorization` of a request.
fn authorization(request: &Request) -> Option<&str> {
    Some(request.headers.get("authorization")?.to_str().unwrap())
}

/// `Authorization` of all requests that a server got, in order.
async fn authorizations(server: &MockServer) -> Vec<Option<String>> {
    let requests = server.received_requests().await.unwrap();
    requests.iter().map(|request| authorization(request).map(str::to_owned)).collect()
}

/// How many requests a server got.
async fn asked(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// `user:password` as bob's, ready to be compared.
const BOB: &str = "Basic Ym9iOmNhbmFyeS1odW50ZXIy";

async fn answers(server: &MockServer, at: &str, response: ResponseTemplate) {
    Mock::given(method("GET")).and(path(at)).respond_with(response).mount(server).await;
}

/// A server that writes these bytes to whoever connects, and hangs up.
async fn raw(bytes: &'static [u8]) -> Repository {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(bytes).await;
        }
    });
    format!("{address}/shop/web").parse().unwrap()
}

/// What every error has to be: one line that names the repository, and no secret in it.
#[track_caller]
fn well_said(error: &RegistryError, repository: &Repository) {
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert!(text.contains(&repository.to_string()), "no place: {text}");
    assert!(!text.contains('\n') && !text.contains(CANARY) && !debug.contains(CANARY), "{debug}");
}

#[test]
fn credentials_do_not_show() {
    let shown = format!("{:?}", as_bob());
    assert!(!shown.contains(CANARY) && !shown.contains("bob"), "{shown}");
}

#[test]
fn wrong_certificates_are_named() {
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not pem"] {
        let options = RegistryOptions { ca_pem: Some(pem.into()), ..RegistryOptions::default() };
        let error = Registry::new(options, clock()).err().unwrap();
        assert_eq!(error.reason(), "RegistryOptionsInvalid", "{pem:?}: {error}");
    }
}
