//! Databases without a schema, and servers that a test may stop.

use std::time::Duration;

use sqlx::PgPool;
use stagekeeper::store::{ConnectOptions, Store};

use crate::postgres::TestDatabase;
pub(crate) use crate::postgres_server::Server;

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

/// Limits under which a test need not wait long.
pub(crate) fn quick() -> ConnectOptions {
    ConnectOptions { pauses: [Duration::from_millis(1); 2], min_idle: 1, max: 4, ..ConnectOptions::default() }
}
