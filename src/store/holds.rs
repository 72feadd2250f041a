//! Holds: what keeps policies away from a target.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::{actor::Actor, release::Release};

/// A hold that has not been lifted. One that has expired counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Identity.
    pub id: Uuid,
    /// Where.
    pub target: Uuid,
    /// Whose it is.
    pub owner: String,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when; none is until somebody resumes.
    pub expires_at: Option<Timestamp>,
    /// The release that was left, where going back made the hold: something newer than it ends the hold.
    pub from: Option<Release>,
    /// Hash of the snapshot that the declarations made of the release gone back to.
    pub settled_on: Option<String>,
    /// Tags and digests that were declared for services.
    pub declared: Option<BTreeMap<String, String>>,
}

impl Hold {
    /// Whether going back made it: it ends by itself with something newer. One that somebody asked for does not.
    pub const fn is_of_rollback(&self) -> bool {
        self.from.is_some() || self.settled_on.is_some() || self.declared.is_some()
    }
}

pub(super) struct HoldRow {
    id: Uuid,
    target_id: Uuid,
    owner: String,
    actor: String,
    reason: String,
    at: SqlTimestamp,
    expires_at: Option<SqlTimestamp>,
    from_images: Option<Json<Release>>,
    settled_on: Option<String>,
    declared: Option<Json<BTreeMap<String, String>>>,
}

impl TryFrom<HoldRow> for Hold {
    type Error = StoreError;

    fn try_from(row: HoldRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            target: row.target_id,
            owner: row.owner,
            actor: row.actor.parse().map_err(|why| StoreError::corrupt("hold", &row.id, &why))?,
            reason: row.reason,
            at: row.at.to_jiff(),
            expires_at: row.expires_at.map(SqlTimestamp::to_jiff),
            from: row.from_images.map(|images| images.0),
            settled_on: row.settled_on,
            declared: row.declared.map(|declared| declared.0),
        })
    }
}

impl Store {
    /// The holds of a target that have not been lifted, oldest first.
    pub async fn holds_list(&self, target: Uuid) -> Result<Vec<Hold>, StoreError> {
        self.holds_of(&self.pool, &[target]).await
    }

    pub(super) async fn holds_of(
        &self,
        executor: impl PgExecutor<'_>,
        targets: &[Uuid],
    ) -> Result<Vec<Hold>, StoreError> {
        let rows = sqlx::query_as!(
            HoldRow,
            r#"SELECT id, target_id, owner, actor, reason, at AS "at: _", expires_at AS "expires_at: _",
                      from_images AS "from_images: _", settled_on, declared AS "declared: _"
               FROM holds WHERE target_id = ANY ($1) AND lifted_at IS NULL ORDER BY target_id, at, id"#,
            targets
        )
        .fetch_all(executor)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(Hold::try_from).collect()
    }

    /// Ends one hold of a target, or every one that a rollback made, because something else was asked for. Says how many
    /// there were.
    pub async fn holds_lift(
        &self,
        target: Uuid,
        only: Option<Uuid>,
        actor: &Actor,
        because: &str,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let lifted = sqlx::query!(
            "UPDATE holds SET lifted_at = $4, lifted_by = $2, lifted_because = $3
             WHERE target_id = $1 AND lifted_at IS NULL
                 AND CASE WHEN $7::uuid IS NULL
                     THEN from_images IS NOT NULL OR settled_on IS NOT NULL OR declared IS NOT NULL ELSE id = $7 END
                 AND leads($5, $6)",
            target,
            actor.to_string(),
            because,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch(),
            only
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(lifted.rows_affected())
    }
}
