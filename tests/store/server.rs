//! Postgres servers that a test may stop, and databases without a schema.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::PgPool;
use stagekeeper::store::{ConnectOptions, Store};

use crate::postgres::TestDatabase;

/// A database without a schema.
pub(crate) struct Empty {
    pub(crate) store: Store,
    pub(crate) sql: PgPool,
    pub(crate) url: String,
    /// Dropped last: takes the database along.
    _database: TestDatabase,
}

impl Empty {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        database.store.migrate_down(0).await.unwrap();
        let sql = PgPool::connect(&database.url).await.unwrap();
        sqlx::raw_sql("DROP TABLE _sqlx_migrations").execute(&sql).await.unwrap();
        Self { store: database.store.clone(), sql, url: database.url.clone(), _database: database }
    }
}

/// A server of its own. Stopped and removed with this value.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// Makes and starts one.
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stagekeeper-postgres-{}-{count}", process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&server.folder));
        }
        run(server
            .program("initdb")
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8", "-D"])
            .arg(server.data()));
        server.resume();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:hunter2@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it again.
    pub(crate) fn resume(&self) {
        let options =
            format!("-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off", self.port, self.folder.display());
        run(self
            .program("pg_ctl")
            .args(["start", "-w", "-s", "-o", &options, "-l"])
            .arg(self.folder.join("log"))
            .arg("-D")
            .arg(self.data()));
    }

    /// Ends it as `kill -9` would: nothing is answered, nothing is flushed.
    pub(crate) fn crash(&self) {
        self.stop("immediate");
    }

    /// Makes it a read-only standby, as a failover does to the old primary.
    pub(crate) fn demote(&self) {
        self.stop("fast");
        fs::write(self.data().join("standby.signal"), "").unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(self.data().join("standby.signal")));
        }
        self.resume();
    }

    /// Makes it the primary again, without a restart.
    pub(crate) fn promote(&self) {
        run(self.program("pg_ctl").args(["promote", "-w", "-s", "-D"]).arg(self.data()));
    }

    fn stop(&self, mode: &str) {
        run(self.program("pg_ctl").args(["stop", "-w", "-s", "-m", mode, "-D"]).arg(self.data()));
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A program of the server; Postgres refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let path = programs().join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(&self.folder);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl").args(["stop", "-w", "-s", "-m", "immediate", "-D"]).arg(self.data()).output();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.starts_with(b"0\n")
}

/// Where Debian puts them.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("Postgres is not installed: hack/deps installs it")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().expect("Postgres is not installed: hack/deps installs it")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let log = Path::new("log");
    let log = fs::read_to_string(command.get_current_dir().unwrap_or(log).join("log"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        log.unwrap_or_default()
    );
}

/// Limits under which a test need not wait long.
pub(crate) fn quick() -> ConnectOptions {
    ConnectOptions { pauses: [Duration::from_millis(1); 2], min_idle: 1, max: 4, ..ConnectOptions::default() }
}
