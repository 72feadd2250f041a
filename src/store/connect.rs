//! Connecting: three tries at the start, a bounded pool after that, never a standby; and noticing that it is another server.

use std::{
    fmt,
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::watch, time::Instant};

use super::{
    epochs::Fence,
    error::{StoreError, cause},
    pool::Pool,
};

/// How the connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Waits between the three tries at the start.
    pub pauses: [Duration; 2],
    /// Longest time of one try, and longest wait for a connection of the pool.
    pub acquire: Duration,
    /// Longest time of one statement.
    pub statement: Duration,
    /// Connections that are kept ready.
    pub min_idle: u32,
    /// Connections at most.
    pub max: u32,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            pauses: [Duration::from_secs(1), Duration::from_secs(2)],
            acquire: Duration::from_secs(3),
            statement: Duration::from_secs(15),
            min_idle: 5,
            max: 25,
        }
    }
}

/// So much longer than its own limit the server may take for a statement.
const GRACE: Duration = Duration::from_secs(5);

/// For so long a disk counts as full after a write was refused for it: whoever wants to write tries again sooner.
const FULL: Duration = Duration::from_secs(6);

/// A connection that was idle for longer is asked whether it still lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The database. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: Pool,
    pub(super) fence: Option<Arc<Fence>>,
    pub(super) noted: Option<Arc<Value>>,
    pub(super) lost: Lost,
    /// When a write was last refused for want of room.
    pub(super) full: Lost,
    pub(super) server: Server,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("connections", &self.pool.size()).finish_non_exhaustive()
    }
}

/// When a connection was last found lost or read-only. Every connection made before is replaced when its turn
/// comes: after a failover the whole pool may point at the demoted server.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost(Arc<Mutex<Option<Instant>>>);

impl Lost {
    fn record(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn concerns(&self, age: Duration) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| age >= at.elapsed())
    }

    fn happened_within(&self, time: Duration) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < time)
    }
}

/// Which server process answers. A database goes back in time only with another one: a standby that was promoted, a backup
/// that was restored, a crash that lost what was not flushed yet.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<watch::Sender<Option<String>>>);

impl Server {
    /// Whether it is another one than before.
    fn met(&self, which: String) -> bool {
        self.0.send_if_modified(|known| {
            let new = known.as_ref() != Some(&which);
            *known = Some(which);
            new
        })
    }
}

impl Store {
    /// Connects with the usual limits: see [`Store::connect_with`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, &ConnectOptions::default()).await
    }

    /// Connects to `url` (`postgres://user:password@host:port/database`), trying three times. The error says what the last
    /// try met and where, never the credentials. Once connected, the pool reconnects by itself.
    pub async fn connect_with(url: &str, options: &ConnectOptions) -> Result<Self, StoreError> {
        let server = parse(url)?.application_name("stagekeeper");
        let mut tries = 0;
        loop {
            let met = match first_contact(&server, options).await {
                Ok(()) => return Ok(Self::over(server, options)),
                Err(met) => met,
            };
            let Some(pause) = options.pauses.get(tries) else {
                return Err(StoreError::Unavailable(format!(
                    "failed to connect to database after {} attempts: {met} ({})",
                    tries + 1,
                    place(&server)
                )));
            };
            tries += 1;
            tokio::time::sleep(*pause).await;
        }
    }

    /// Connects when there is something to be said, and not before: for who can do without. `max` connections at most.
    pub fn lazy(url: &str, max: u32) -> Result<Self, StoreError> {
        let server = parse(url)?.application_name("stagekeeper-edge");
        let options = ConnectOptions { min_idle: 0, max, ..ConnectOptions::default() };
        Ok(Self::over(server, &options))
    }

    fn over(server: PgConnectOptions, options: &ConnectOptions) -> Self {
        let lost = Lost::default();
        let (seen_lost, made_lost) = (lost.clone(), lost.clone());
        let answering = Server::default();
        let met = answering.clone();
        let statement = options.statement;
        let pool = PgPoolOptions::new()
            .max_connections(options.max)
            .min_connections(options.min_idle)
            .max_lifetime(Duration::from_mins(5))
            .idle_timeout(Duration::from_mins(10))
            .acquire_timeout(options.acquire)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let (met, lost) = (met.clone(), made_lost.clone());
                Box::pin(async move {
                    let greeted = greet(connection, statement).await;
                    let server = greeted.inspect_err(|error| {
                        tracing::warn!(error = cause(error), "a new connection to the database cannot be used");
                    })?;
                    if met.met(server) {
                        // Those to the one before may live on.
                        lost.record();
                    }
                    Ok(())
                })
            })
            .before_acquire(move |connection, about| {
                let lost = seen_lost.clone();
                Box::pin(async move {
                    if lost.concerns(about.age) {
                        return Ok(false);
                    }
                    if about.idle_for >= TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(server);
        Self {
            pool: Pool::new(pool, statement + GRACE),
            fence: None,
            noted: None,
            lost,
            full: Lost::default(),
            server: answering,
        }
    }

    /// Whether the database answers and can write. Says so soon, also when the server hangs.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let impatient = self.pool.within(self.pool.options().get_acquire_timeout());
        let server = sqlx::query!(
            r#"SELECT pg_is_in_recovery() AS "standby!", current_setting('transaction_read_only') = 'on' AS "read_only!""#
        )
        .fetch_one(&impatient)
        .await
        .map_err(|error| self.fault(error))?;
        if server.standby {
            self.lost.record();
            return Err(StoreError::Unavailable(STANDBY.into()));
        }
        if server.read_only {
            return Err(StoreError::Unwritable(READ_ONLY.into()));
        }
        if self.full.happened_within(FULL) {
            return Err(StoreError::Unwritable(NO_ROOM.into()));
        }
        Ok(())
    }

    /// Changes when another server process answers than before: what is remembered of the database may be more than it
    /// knows.
    pub fn servers(&self) -> watch::Receiver<Option<String>> {
        self.server.0.subscribe()
    }

    /// The same database, with these details in every entry of the audit log that updates, tags, credentials and secrets
    /// make: how what is written was asked for.
    #[must_use]
    pub fn noting(&self, details: Value) -> Self {
        Self { noted: Some(Arc::new(details)), ..self.clone() }
    }

    /// What is added to the details of an entry of the audit log.
    pub(super) fn noted(&self) -> Value {
        self.noted.as_deref().cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()))
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A connection of its own, outside the pool and without a statement timeout, for work that takes long.
    pub(super) async fn dedicated(&self) -> Result<PgConnection, StoreError> {
        let connection = self.pool.connect_options().connect().await;
        connection.map_err(|error| self.fault(error))
    }

    /// Types an error, and remembers when it means that connections are lost.
    pub(super) fn fault(&self, error: sqlx::Error) -> StoreError {
        let lost = match &error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(database) => {
                database.code().is_some_and(|code| code == "25006" || code.starts_with("57P") || code.starts_with("08"))
            }
            _ => false,
        };
        if lost {
            self.lost.record();
        }
        if error.as_database_error().and_then(|database| database.code()).as_deref() == Some("53100") {
            self.full.record();
        }
        error.into()
    }
}

/// Reads a URL; the error does not repeat it, because it may hold a password.
fn parse(url: &str) -> Result<PgConnectOptions, StoreError> {
    let invalid = |why: &str| {
        StoreError::Other(format!(
            "the database URL is not valid ({why}): expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"
        ))
    };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid("it does not begin with postgres://"));
    }
    PgConnectOptions::from_str(url).map_err(|error| invalid(&cause(&error)))
}

const STANDBY: &str = "the database is not available: the server is a read-only standby, point the URL at the primary";

const READ_ONLY: &str = "the database takes no writes: default_transaction_read_only is on";

const NO_ROOM: &str = "the database takes no writes: its disk was full a moment ago";

/// One try: can we log in, and may we write there?
async fn first_contact(server: &PgConnectOptions, options: &ConnectOptions) -> Result<(), String> {
    let contact = async {
        let mut connection = server.connect().await?;
        _ = greet(&mut connection, options.statement).await?;
        connection.close().await
    };
    match tokio::time::timeout(options.acquire, contact).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(cause(&error)),
        Err(_) => Err(format!("no answer within {:?}", options.acquire)),
    }
}

/// What every new connection goes through: refuses standbys, sets the statement timeout, and lets a plan serve for any arguments.
/// One round trip. Each of our queries is written so that one plan does, and a test holds them to that; the server by itself
/// would plan some of them again each time, at more cost than running them. Says which server process and database it is.
async fn greet(connection: &mut PgConnection, statement: Duration) -> Result<String, sqlx::Error> {
    let limit = statement.as_millis().to_string();
    let server = sqlx::query!(
        r#"SELECT pg_is_in_recovery() AS "standby!", set_config('statement_timeout', $1, false) AS "limit!",
                  set_config('plan_cache_mode', 'force_generic_plan', false) AS "plans!",
                  concat((SELECT oid FROM pg_database WHERE datname = current_database()), ' since ',
                         extract(epoch FROM pg_postmaster_start_time())) AS "process!""#,
        limit
    )
    .fetch_one(connection)
    .await?;
    if server.standby {
        return Err(sqlx::Error::Configuration(STANDBY.into()));
    }
    Ok(server.process)
}

/// Where a server is, for people; no user, no password.
fn place(server: &PgConnectOptions) -> String {
    let host = match server.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => server.get_host().to_owned(),
    };
    format!("{host}:{}/{}", server.get_port(), server.get_database().unwrap_or_default())
}
