//! The keys that wrap data keys: their ids, what each has to open, and which rows use it.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::crypto::{KeyId, Sealed, Wrapped};

/// What is known of a key. Nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    /// Its id.
    pub id: KeyId,
    /// What it sealed when it was first used.
    pub canary: Sealed,
    /// Since when it has been known.
    pub created_at: Timestamp,
    /// When it was retired, if it was.
    pub retired_at: Option<Timestamp>,
    /// How many rows it is needed for.
    pub rows: i64,
}

/// A table whose rows hold sealed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedTable {
    /// What Stagekeeper logs in with.
    Credentials,
    /// What workloads get, a row for each version.
    SecretVersions,
}

impl SealedTable {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Credentials, Self::SecretVersions];

    /// Its name, which is part of what its values are bound to.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::SecretVersions => "secret_versions",
        }
    }
}

/// A row whose data key is to be wrapped anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRow {
    /// The row.
    pub id: Uuid,
    /// Its data key as it is wrapped now.
    pub wrapped: Wrapped,
}

/// A sealed value with what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// Where it is.
    pub table: SealedTable,
    /// The row.
    pub id: Uuid,
    /// Namespace of its project.
    pub namespace: String,
    /// Name of its project.
    pub project: String,
    /// Its name; that of a secret is `SERVICE/NAME`, without a service for one that is for all.
    pub name: String,
    /// How many times it was written.
    pub version: i64,
    /// Its value.
    pub sealed: Sealed,
}

/// What became of a key that was to be retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// It is retired.
    Done,
    /// That many rows still use it.
    InUse(i64),
}

struct KeyRow {
    id: String,
    canary_wrapped: Vec<u8>,
    canary_body: Vec<u8>,
    created_at: SqlTimestamp,
    retired_at: Option<SqlTimestamp>,
    rows: i64,
}

impl TryFrom<KeyRow> for EncryptionKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let id = key_id(&row.id)?;
        Ok(Self {
            canary: Sealed { wrapped: Wrapped { key: id.clone(), bytes: row.canary_wrapped }, body: row.canary_body },
            id,
            created_at: row.created_at.to_jiff(),
            retired_at: row.retired_at.map(SqlTimestamp::to_jiff),
            rows: row.rows,
        })
    }
}

/// A key id as it is stored.
pub(super) fn key_id(text: &str) -> Result<KeyId, StoreError> {
    text.parse().map_err(|why| StoreError::corrupt("encryption key", text, &why))
}

impl Store {
    /// Every key that was ever used, the oldest first. Installations have a handful.
    pub async fn encryption_keys_list(&self) -> Result<Vec<EncryptionKey>, StoreError> {
        let rows = sqlx::query_as!(
            KeyRow,
            r#"SELECT id, canary_wrapped, canary_body, created_at AS "created_at: SqlTimestamp",
                      retired_at AS "retired_at: SqlTimestamp",
                      (SELECT count(*) FROM credentials WHERE key_id = encryption_keys.id)
                          + (SELECT count(*) FROM secret_versions WHERE key_id = encryption_keys.id) AS "rows!"
               FROM encryption_keys ORDER BY created_at, id"#
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(EncryptionKey::try_from).collect()
    }

    /// Remembers a key with what it sealed; false when one of this id is remembered already, whichever it is.
    pub async fn encryption_key_add(&self, canary: &Sealed, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "INSERT INTO encryption_keys (id, canary_wrapped, canary_body, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO NOTHING",
            canary.key().as_str(),
            canary.wrapped.bytes,
            canary.body,
            now.to_sqlx() as SqlTimestamp
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }

    /// Retires a key that no row uses. From then on no row can begin to.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    pub async fn encryption_key_retire(&self, id: &KeyId, now: Timestamp) -> Result<Retirement, StoreError> {
        let mut work = self.pool.begin().await.map_err(|error| self.fault(error))?;
        // The lock keeps out whoever is about to write a row with this key: its trigger looks at this row.
        let found = sqlx::query_scalar!("SELECT 1 FROM encryption_keys WHERE id = $1 FOR UPDATE", id.as_str())
            .fetch_optional(&mut *work)
            .await
            .map_err(|error| self.fault(error))?;
        if found.is_none() {
            return Err(StoreError::not_found("encryption key", id));
        }
        let rows = sqlx::query_scalar!(
            r#"SELECT (SELECT count(*) FROM credentials WHERE key_id = $1)
                   + (SELECT count(*) FROM secret_versions WHERE key_id = $1) AS "rows!""#,
            id.as_str()
        )
        .fetch_one(&mut *work)
        .await
        .map_err(|error| self.fault(error))?;
        if rows > 0 {
            return Ok(Retirement::InUse(rows));
        }
        sqlx::query!(
            "UPDATE encryption_keys SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL",
            id.as_str(),
            now.to_sqlx() as SqlTimestamp
        )
        .execute(&mut *work)
        .await
        .map_err(|error| self.fault(error))?;
        work.commit().await.map_err(|error| self.fault(error))?;
        Ok(Retirement::Done)
    }
}
