//! Retention: old deploys go with everything that they wrote, as long as nothing needs them.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use crate::store::{Store, StoreError};

impl Store {
    /// Deletes at most `limit` finished deploys that were made before `before`, with their transitions, logs and hook runs,
    /// and the releases and snapshots that nothing else uses; says how many deploys went. What stays however old it is:
    /// the latest deploy of a target, what it could go back to, and what an instance runs.
    pub async fn deploys_prune(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        self.prune(before, limit).await.map_err(|error| self.fault(error))
    }

    async fn prune(&self, before: Timestamp, limit: i64) -> Result<u64, sqlx::Error> {
        let mut all = self.pool.begin().await?;
        let gone = sqlx::query!(
            "WITH old AS (
                 SELECT d.id FROM deploys AS d
                 WHERE d.created_at < $1 AND d.finished_at IS NOT NULL AND (SELECT leads($3, $4))
                     AND EXISTS (
                         SELECT FROM deploys AS later
                         WHERE later.target_id = d.target_id AND later.sequence > d.sequence)
                     AND (d.state <> 'success' OR EXISTS (
                         SELECT FROM deploys AS good
                         WHERE good.target_id = d.target_id AND good.sequence > d.sequence AND good.state = 'success'
                             AND NOT EXISTS (
                                 SELECT FROM vetoes AS v
                                 WHERE v.target_id = good.target_id AND v.release_id = good.release_id
                                     AND v.lifted_at IS NULL)))
                     AND NOT EXISTS (
                         SELECT FROM instances AS i WHERE i.deploy_id = d.id AND i.deleted_at IS NULL)
                 ORDER BY d.created_at, d.id LIMIT $2
             )
             DELETE FROM deploys USING old WHERE deploys.id = old.id
             RETURNING deploys.project_id, deploys.release_id, deploys.snapshot_hash",
            before.to_sqlx() as SqlTimestamp,
            limit,
            self.lease(),
            self.epoch()
        )
        .fetch_all(&mut *all)
        .await?;
        let projects: Vec<Uuid> = gone.iter().map(|row| row.project_id).collect();
        let releases: Vec<String> = gone.iter().map(|row| row.release_id.clone()).collect();
        let snapshots: Vec<String> = gone.iter().map(|row| row.snapshot_hash.clone()).collect();
        sqlx::query!(
            "DELETE FROM releases USING UNNEST($1::uuid[], $2::text[]) AS gone (project_id, id)
             WHERE releases.project_id = gone.project_id AND releases.id = gone.id AND NOT EXISTS (
                 SELECT FROM deploys AS d WHERE d.project_id = gone.project_id AND d.release_id = gone.id)",
            &projects,
            &releases
        )
        .execute(&mut *all)
        .await?;
        sqlx::query!(
            "DELETE FROM snapshots USING UNNEST($1::uuid[], $2::text[]) AS gone (project_id, hash)
             WHERE snapshots.project_id = gone.project_id AND snapshots.hash = gone.hash AND NOT EXISTS (
                 SELECT FROM deploys AS d WHERE d.project_id = gone.project_id AND d.snapshot_hash = gone.hash)",
            &projects,
            &snapshots
        )
        .execute(&mut *all)
        .await?;
        all.commit().await?;
        Ok(gone.len() as u64)
    }
}
