//! Approvals: who agreed that a release may come to a target.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::{actor::Actor, release::ReleaseId};

/// That somebody agrees to a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApproval {
    /// Identity.
    pub id: Uuid,
    /// The release, by its digests.
    pub release: ReleaseId,
    /// Who.
    pub actor: Actor,
    /// Why, in their words.
    pub reason: String,
    /// Whether it is certain that it was they.
    pub verified: bool,
    /// When.
    pub at: Timestamp,
    /// Until when it counts.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub withdrawn_at: Option<Timestamp>,
}

impl Store {
    /// The approvals of a target, newest first; `before` is the last of the page before.
    pub async fn approvals_page(
        &self,
        target: Uuid,
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<StoredApproval>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT id, release_id, actor, reason, verified, at AS "at: SqlTimestamp",
                      expires_at AS "expires_at: SqlTimestamp", withdrawn_at AS "withdrawn_at: SqlTimestamp"
               FROM approvals
               WHERE target_id = $1 AND at <= coalesce($2, 'infinity'::timestamptz) AND (at, id) < (
                   coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
               ORDER BY at DESC, id DESC LIMIT $4"#,
            target,
            before.map(|(at, _)| at.to_sqlx()) as Option<SqlTimestamp>,
            before.map(|(_, id)| id),
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| {
            Ok(StoredApproval {
                actor: row.actor.parse().map_err(|why| StoreError::corrupt("approval", &row.id, &why))?,
                id: row.id,
                release: ReleaseId(row.release_id),
                reason: row.reason,
                verified: row.verified,
                at: row.at.to_jiff(),
                expires_at: row.expires_at.map(SqlTimestamp::to_jiff),
                withdrawn_at: row.withdrawn_at.map(SqlTimestamp::to_jiff),
            })
        });
        rows.collect()
    }
}
