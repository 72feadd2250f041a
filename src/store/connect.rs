//! Connecting: three tries at the start, a bounded pool after that, never a standby.

use std::{
    fmt,
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::Instant;

use super::{
    epochs::Fence,
    error::{StoreError, cause},
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

/// A connection that was idle for longer is asked whether it still lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The database. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: PgPool,
    pub(super) fence: Option<Arc<Fence>>,
    pub(super) noted: Option<Arc<Value>>,
    pub(super) lost: Lost,
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
        let seen_lost = lost.clone();
        let statement = options.statement;
        let pool = PgPoolOptions::new()
            .max_connections(options.max)
            .min_connections(options.min_idle)
            .max_lifetime(Duration::from_mins(5))
            .idle_timeout(Duration::from_mins(10))
            .acquire_timeout(options.acquire)
            .test_before_acquire(false)
            .after_connect(move |connection, _| Box::pin(greet(connection, statement)))
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
        Self { pool, fence: None, noted: None, lost }
    }

    /// Whether the database answers and can write.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let standby = sqlx::query_scalar!(r#"SELECT pg_is_in_recovery() AS "standby!""#)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        if standby {
            self.lost.record();
            return Err(StoreError::Unavailable(STANDBY.into()));
        }
        Ok(())
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

/// One try: can we log in, and may we write there?
async fn first_contact(server: &PgConnectOptions, options: &ConnectOptions) -> Result<(), String> {
    let contact = async {
        let mut connection = server.connect().await?;
        greet(&mut connection, options.statement).await?;
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
/// would plan some of them again each time, at more cost than running them.
async fn greet(connection: &mut PgConnection, statement: Duration) -> Result<(), sqlx::Error> {
    let limit = statement.as_millis().to_string();
    let server = sqlx::query!(
        r#"SELECT pg_is_in_recovery() AS "standby!", set_config('statement_timeout', $1, false) AS "limit!",
                  set_config('plan_cache_mode', 'force_generic_plan', false) AS "plans!""#,
        limit
    )
    .fetch_one(connection)
    .await?;
    if server.standby {
        return Err(sqlx::Error::Configuration(STANDBY.into()));
    }
    Ok(())
}

/// Where a server is, for people; no user, no password.
fn place(server: &PgConnectOptions) -> String {
    let host = match server.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => server.get_host().to_owned(),
    };
    format!("{host}:{}/{}", server.get_port(), server.get_database().unwrap_or_default())
}
