//! Releases and snapshots, both addressed by their content: writing one twice is writing it once.

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::release::{Release, ReleaseId};

impl Store {
    /// Stores a release. Deploys store their own; this is for releases that nothing has deployed yet.
    pub async fn release_put(&self, project_id: Uuid, release: &Release) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO releases (project_id, id, images) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            project_id,
            release.id().0,
            Json(release) as _
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// The releases of a project whose hash begins with `prefix`, at most ten.
    pub async fn releases_find(&self, project: Uuid, prefix: &str) -> Result<Vec<(ReleaseId, Release)>, StoreError> {
        let hexadecimal = |letter: char| matches!(letter, '0'..='9' | 'a'..='f');
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(hexadecimal) {
            return Ok(Vec::new());
        }
        let rows = sqlx::query!(
            r#"SELECT id, images AS "images: Json<Release>" FROM releases
               WHERE project_id = $1 AND id >= $2 AND id <= rpad($2, 64, 'f') ORDER BY id LIMIT 10"#,
            project,
            prefix
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|row| (ReleaseId(row.id), row.images.0)).collect())
    }

    /// Stores a snapshot under its content hash. Deploys store their own.
    pub async fn snapshot_put(&self, project_id: Uuid, hash: &str, content: &Value) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO snapshots (project_id, hash, content) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            project_id,
            hash,
            content
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// What a deploy is rendered from.
    pub async fn deploy_snapshot_get(&self, deploy: Uuid) -> Result<Option<Value>, StoreError> {
        sqlx::query_scalar!(
            "SELECT s.content
             FROM deploys AS d JOIN snapshots AS s ON s.project_id = d.project_id AND s.hash = d.snapshot_hash
             WHERE d.id = $1",
            deploy
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// The snapshot with this content hash.
    pub async fn snapshot_get(&self, project_id: Uuid, hash: &str) -> Result<Option<Value>, StoreError> {
        sqlx::query_scalar!("SELECT content FROM snapshots WHERE project_id = $1 AND hash = $2", project_id, hash)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.fault(error))
    }
}
