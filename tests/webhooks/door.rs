//! What the tests knock at: the HTTP port with a project's receivers, and a clock that goes when it is told to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Response};
use sha2::Sha256;
use sqlx::{AssertSqlSafe, PgPool};
use stagekeeper::{
    crypto::{Keyring, Plaintext},
    domain::{
        actor::Actor,
        clock::{Clock, Ids as _, SystemIds},
        credential::CredentialKind,
    },
    http::{self, Limits, hooks::Hooks},
    safe::{Deposit, Owner, Safe, token},
    store::{DeclaredReceiver, NewReceiver, Store},
    telemetry::Telemetry,
    webhook,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::postgres::TestDatabase;

/// The secret that deliveries are signed with.
pub(crate) const SECRET: &str = "hunter2-canary-of-a-webhook";

/// Generous: only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(30);

/// A clock that goes when it is told to.
pub(crate) struct Told(Mutex<Timestamp>);

impl Clock for Told {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(crate) struct Door {
    pub(crate) database: TestDatabase,
    pub(crate) sql: PgPool,
    pub(crate) project: Uuid,
    pub(crate) safe: Safe,
    pub(crate) telemetry: Telemetry,
    pub(crate) address: SocketAddr,
    clock: Arc<Told>,
    tokens: BTreeMap<String, String>,
    client: reqwest::Client,
    shutdown: CancellationToken,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A receiver without credentials.
pub(crate) fn open(name: &str, source: &str) -> DeclaredReceiver {
    DeclaredReceiver { name: name.into(), source: source.into(), credentials: Vec::new(), registry: None }
}

/// One that wants deliveries to be signed.
pub(crate) fn signed(name: &str, source: &str, credentials: &[&str]) -> DeclaredReceiver {
    let credentials = credentials.iter().map(|name| (*name).to_owned()).collect();
    DeclaredReceiver { credentials, ..open(name, source) }
}

/// One of the composed bodies.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// As GitHub and others sign.
pub(crate) fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

impl Door {
    pub(crate) async fn new(receivers: &[DeclaredReceiver]) -> Self {
        Self::with(receivers, webhook::parse, Limits::default()).await
    }

    /// With another reader, and other limits.
    pub(crate) async fn with(receivers: &[DeclaredReceiver], parse: http::hooks::Parse, limits: Limits) -> Self {
        let database = TestDatabase::new().await;
        let sql = PgPool::connect(&database.url).await.unwrap();
        let store = database.store.clone();
        let project = store.project_upsert(Uuid::from_u128(1), "acme", "shop").await.unwrap().id;
        let clock = Arc::new(Told(Mutex::new("2026-03-01T12:00:00Z".parse().unwrap())));
        let keys = Keyring::parse(&format!("2026:{}", "1c".repeat(32))).unwrap();
        let safe = Safe::new(store.clone(), Arc::new(keys), clock.clone(), Arc::new(SystemIds));
        safe.ready().await.unwrap();
        let telemetry = Telemetry::default();
        let hooks = Hooks::reading_with(parse, telemetry.clone(), limits.body);
        hooks.open(store, Some(safe.clone()), clock.clone(), Arc::new(SystemIds));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(http::serve(
            listener,
            http::router(telemetry.clone(), hooks, http::api::Api::new(telemetry.clone(), limits.body)),
            limits,
            shutdown.clone(),
        ));
        let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
        let tokens = BTreeMap::new();
        let mut door = Self { database, sql, project, safe, telemetry, address, clock, tokens, client, shutdown };
        door.declare(receivers).await;
        door
    }

    pub(crate) fn store(&self) -> &Store {
        &self.database.store
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn wait(&self, seconds: i64) {
        *self.clock.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    pub(crate) async fn declare(&mut self, receivers: &[DeclaredReceiver]) {
        let new: Vec<NewReceiver> = receivers
            .iter()
            .map(|declared| NewReceiver { id: SystemIds.next(), token: token().unwrap(), declared: declared.clone() })
            .collect();
        self.store().receivers_declare(self.project, &new, &Actor::Controller, self.now()).await.unwrap();
        self.look().await;
    }

    /// Reads the tokens that the receivers have now.
    pub(crate) async fn look(&mut self) {
        let all = self.store().receivers_list(self.project).await.unwrap();
        self.tokens = all.into_iter().map(|one| (one.declared.name, one.token)).collect();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("/hooks/{}", self.tokens[name])
    }

    pub(crate) async fn credential(&self, name: &str, value: &str) {
        let value = Plaintext::from(value.to_owned());
        let deposit = Deposit {
            name,
            kind: CredentialKind::Webhook,
            value: &value,
            hosts: Vec::new(),
            origin: "test".into(),
            expires_at: None,
            actor: Actor::Controller,
        };
        let owner = Owner { project: self.project, namespace: "acme", name: "shop" };
        self.safe.put(&owner, &deposit).await.unwrap();
    }

    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// Posts to a receiver; says the status.
    pub(crate) async fn post(&self, name: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        self.send(Method::POST, &self.path(name), headers, body).await.status().as_u16()
    }

    /// Writes bytes to the port, and reads what comes until it is closed.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(bytes).await.unwrap();
        let mut heard = Vec::new();
        _ = tokio::time::timeout(DEADLINE, connection.read_to_end(&mut heard)).await.expect("it is closed");
        String::from_utf8_lossy(&heard).into_owned()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.sql).await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.sql).await.unwrap();
    }

    /// Whether this sample is among the metrics.
    pub(crate) fn counted(&self, sample: &str) -> bool {
        self.telemetry.metrics.render().unwrap().lines().any(|line| line == sample)
    }
}
