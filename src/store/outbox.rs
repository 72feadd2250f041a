//! What is to be told outside: stored first, sent from here, and sent again until it arrived.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Project, Store, StoreError, text::storable};
use crate::domain::share::Share;

/// After a text was sent, the next one under the same key waits so long: what changes quickly is told once.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// What kind of thing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// The comment in a pull request.
    Comment,
    /// The status of a commit.
    Status,
}

impl MessageKind {
    /// The word for it in SQL.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::Status => "status",
        }
    }
}

impl FromStr for MessageKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = [Self::Comment, Self::Status].into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| format!("`{word}` is no kind of message"))
    }
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    /// Its identity, should it be new.
    pub id: Uuid,
    /// Whose it is.
    pub project: Uuid,
    /// What it is.
    pub kind: MessageKind,
    /// What it is about: there is one message of a kind about it.
    pub key: String,
    /// What is told.
    pub payload: serde_json::Value,
}

/// Something that is due to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its identity.
    pub id: Uuid,
    /// Whose it is.
    pub project: Project,
    /// What it is.
    pub kind: MessageKind,
    /// What it is about.
    pub key: String,
    /// What is told.
    pub payload: serde_json::Value,
    /// Counts texts: settling it needs that.
    pub version: i64,
    /// How often this text was tried in vain.
    pub attempts: i32,
}

impl Store {
    /// Has something told, `wait` from now at the earliest. The same again changes nothing, another text takes the place of
    /// one that was not sent. Says whether there is something new to tell.
    pub async fn outbox_put(&self, new: &NewMessage, wait: SignedDuration, now: Timestamp) -> Result<bool, StoreError> {
        let next = now.saturating_add(wait).unwrap_or(now);
        let done = sqlx::query!(
            "INSERT INTO outbox AS known (id, project_id, kind, key, payload, next_at)
             SELECT $1, $2, $3, $4, $5, $6::timestamptz WHERE leads($8, $9)
             ON CONFLICT (kind, key) DO UPDATE
             SET payload = excluded.payload, version = known.version + 1, attempts = 0, error = '',
                 next_at = coalesce(known.next_at, greatest(excluded.next_at, known.sent_at + $7::float8 * interval '1 second'))
             WHERE known.payload IS DISTINCT FROM excluded.payload",
            new.id,
            new.project,
            new.kind.word(),
            new.key,
            new.payload,
            next.to_sqlx() as SqlTimestamp,
            PAUSE.as_secs_f64(),
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }

    /// What is due for projects of this share, the longest overdue first.
    pub async fn outbox_due(&self, share: &Share, now: Timestamp, limit: i64) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query!(
            "SELECT outbox.id, project_id, namespace, name, kind, key, payload, version, attempts
             FROM outbox JOIN projects ON projects.id = project_id
             WHERE next_at <= $1 AND in_share(namespace, $2, $4, $5)
             ORDER BY next_at, outbox.id LIMIT $3",
            now.to_sqlx() as SqlTimestamp,
            share.listed(),
            limit,
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| {
            Ok(Message {
                kind: row.kind.parse().map_err(|why: String| StoreError::corrupt("message", &row.id, &why))?,
                id: row.id,
                project: Project { id: row.project_id, namespace: row.namespace, name: row.name },
                key: row.key,
                payload: row.payload,
                version: row.version,
                attempts: row.attempts,
            })
        });
        rows.collect()
    }

    /// When the next message is due, for projects of this share.
    pub async fn outbox_next(&self, share: &Share) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT next_at AS "next_at!: SqlTimestamp"
               FROM outbox JOIN projects ON projects.id = project_id
               WHERE next_at IS NOT NULL AND in_share(namespace, $1, $2, $3)
               ORDER BY next_at LIMIT 1"#,
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(row.map(|row| row.next_at.to_jiff()))
    }

    /// A message arrived. A later text of it is still to be sent.
    pub async fn outbox_sent(&self, id: Uuid, version: i64, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE outbox SET sent_at = $3::timestamptz, error = '',
                 next_at = CASE WHEN version = $2 THEN NULL ELSE greatest(next_at, $3 + $4::float8 * interval '1 second') END
             WHERE id = $1 AND leads($5, $6)",
            id,
            version,
            now.to_sqlx() as SqlTimestamp,
            PAUSE.as_secs_f64(),
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// A message did not arrive; it is tried again at `next`, or never, until there is another text. A later text is tried
    /// then too.
    pub async fn outbox_failed(
        &self,
        id: Uuid,
        version: i64,
        error: &str,
        next: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let error = storable(error);
        sqlx::query!(
            "UPDATE outbox SET attempts = attempts + 1, error = $3,
                 next_at = CASE WHEN version = $2 THEN $4 ELSE coalesce($4, next_at) END
             WHERE id = $1 AND leads($5, $6)",
            id,
            version,
            error.as_ref(),
            next.map(|at| at.to_sqlx()) as Option<SqlTimestamp>,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Deletes at most `limit` messages that were settled and are older than `before`, the oldest first; says how many went.
    pub async fn outbox_prune(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM outbox WHERE id = ANY(ARRAY(
                 SELECT id FROM outbox WHERE next_at IS NULL AND updated_at < $1 AND (SELECT leads($3, $4))
                 ORDER BY updated_at, id LIMIT $2))",
            before.to_sqlx() as SqlTimestamp,
            limit,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }
}
