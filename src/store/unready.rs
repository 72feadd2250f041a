//! When what serves a target lost its readiness: written down once when it is lost, and once when it is back.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Store, StoreError};

impl Store {
    /// What this deploy brought is not ready any more. Changes nothing if that is known.
    pub async fn unready_begin(&self, deploy: Uuid, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO unready (deploy_id, since) SELECT $1, $2 WHERE leads($3, $4)
             ON CONFLICT (deploy_id) DO UPDATE SET since = excluded.since, until = NULL WHERE unready.until IS NOT NULL",
            deploy,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// It is ready again. Changes nothing if that is known.
    pub async fn unready_end(&self, deploy: Uuid, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE unready SET until = greatest(since, $2) WHERE deploy_id = $1 AND until IS NULL AND leads($3, $4)",
            deploy,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Those of these deploys that lost their readiness and do not have it back.
    pub(super) async fn unready_of(
        &self,
        executor: impl PgExecutor<'_>,
        deploys: &[Uuid],
    ) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query_scalar!("SELECT deploy_id FROM unready WHERE deploy_id = ANY ($1) AND until IS NULL", deploys)
            .fetch_all(executor)
            .await
            .map_err(|error| self.fault(error))
    }
}
