//! A database for one test: a copy of a migrated template on the server that `STAGEKEEPER_TEST_POSTGRES` names.
//!
//! ```text
//! let database = TestDatabase::new().await;
//! database.store.ping().await.unwrap();
//! ```
#![expect(clippy::expect_used, reason = "a test stops where its ground is missing")]

use std::{
    env, fs,
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::store::{ConnectOptions, Store};

/// A migrated database of its own, dropped with this value; kept when the test panics, to be looked at.
pub struct TestDatabase {
    /// Where it is.
    pub url: String,
    /// The store over it.
    pub store: Store,
    server: String,
    name: String,
}

impl TestDatabase {
    /// Copies the template, making it first if no test has done so since the migrations changed.
    pub async fn new() -> Self {
        Self::on(&server()).await
    }

    /// The same on another server than the one that all tests share.
    pub async fn on(server: &str) -> Self {
        let template = template(server).await;
        let name = fresh_name();
        let mut admin = admin(server).await;
        // A killed test may have left one of the same name.
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = url_of(server, &name);
        let store = Store::connect_with(&url, &limits()).await;
        Self { store: store.expect("the database that was just made"), url, server: server.to_owned(), name }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the test's database is kept: psql {}", self.url);
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        // `drop` cannot wait for futures, and the test's runtime must not be blocked on.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut admin = admin(&server).await;
                run(&mut admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        dropped.join().expect("dropping the test's database");
    }
}

/// Few connections, and no waiting before another try.
fn limits() -> ConnectOptions {
    ConnectOptions {
        pauses: [Duration::ZERO; 2],
        acquire: Duration::from_secs(30),
        min_idle: 0,
        max: 12,
        ..ConnectOptions::default()
    }
}

/// The server that all tests share.
pub fn server() -> String {
    env::var("STAGEKEEPER_TEST_POSTGRES")
        .expect("STAGEKEEPER_TEST_POSTGRES is not set: `make test` starts a Postgres and sets it")
}

/// The URL of another database on a server.
fn url_of(server: &str, name: &str) -> String {
    let (place, _) = server.rsplit_once('/').expect("a URL with a database");
    format!("{place}/{name}")
}

fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("stagekeeper_test_{}_{count}", process::id())
}

async fn admin(server: &str) -> PgConnection {
    PgConnection::connect(server).await.expect("the server, such as the one that STAGEKEEPER_TEST_POSTGRES names")
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The name of the migrated template for the migrations as they are now. It is migrated under another name and renamed,
/// so that nobody ever copies half of it; an advisory lock lets one test program at a time look.
async fn template(server: &str) -> String {
    let name = format!("stagekeeper_template_{}", migrations_hash());
    let mut admin = admin(server).await;
    run(&mut admin, "SELECT pg_advisory_lock(7254183390)").await;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut admin)
        .await
        .expect("the list of databases");
    if !exists {
        let half = format!("{name}_half");
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {half} WITH (FORCE)")).await;
        run(&mut admin, &format!("CREATE DATABASE {half}")).await;
        let store = Store::connect_with(&url_of(server, &half), &limits()).await.expect("the template");
        store.migrate_up().await.expect("the migrations");
        store.close().await;
        run(&mut admin, &format!("ALTER DATABASE {half} RENAME TO {name}")).await;
        run(&mut admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    }
    admin.close().await.expect("closing frees the lock");
    name
}

fn migrations_hash() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the migrations").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).expect("a migration"));
    }
    hex::encode(&hash.finalize()[..6])
}
