//! Vetoes: releases that failed on a target and are not tried there again by themselves.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::{actor::Actor, release::ReleaseId};

/// A veto to be recorded; target and release come from the deploy that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVeto {
    /// Identity.
    pub id: Uuid,
    /// Why, in one sentence.
    pub reason: String,
}

/// A veto that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    /// Identity.
    pub id: Uuid,
    /// Where it holds.
    pub target: Uuid,
    /// What is not to run there.
    pub release: ReleaseId,
    /// The deploy that showed why; a person may know without one.
    pub deploy: Option<Uuid>,
    /// Why, in one sentence.
    pub reason: String,
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

struct VetoRow {
    id: Uuid,
    target_id: Uuid,
    release_id: String,
    deploy_id: Option<Uuid>,
    reason: String,
    actor: String,
    at: SqlTimestamp,
}

impl TryFrom<VetoRow> for Veto {
    type Error = StoreError;

    fn try_from(row: VetoRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            target: row.target_id,
            release: ReleaseId(row.release_id),
            deploy: row.deploy_id,
            reason: row.reason,
            actor: (row.actor.parse()).map_err(|why| StoreError::corrupt("veto", &row.id, &why))?,
            at: row.at.to_jiff(),
        })
    }
}

impl Store {
    /// Lifts the veto of a release on a target, if there is one, and says whether there was.
    pub async fn veto_lift(
        &self,
        target: Uuid,
        release: &ReleaseId,
        actor: &Actor,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let lifted = sqlx::query!(
            "UPDATE vetoes SET lifted_at = $4, lifted_by = $3
             WHERE target_id = $1 AND release_id = $2 AND lifted_at IS NULL AND leads($5, $6)",
            target,
            release.0,
            actor.to_string(),
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(lifted.rows_affected() > 0)
    }

    pub(super) async fn vetoes_of(
        &self,
        executor: impl PgExecutor<'_>,
        targets: &[Uuid],
    ) -> Result<Vec<Veto>, StoreError> {
        let rows = sqlx::query_as!(
            VetoRow,
            r#"SELECT id, target_id, release_id, deploy_id, reason, actor, at AS "at: SqlTimestamp"
               FROM vetoes WHERE target_id = ANY ($1) AND lifted_at IS NULL ORDER BY target_id, at"#,
            targets
        )
        .fetch_all(executor)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(Veto::try_from).collect()
    }
}
