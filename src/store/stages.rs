//! Stages, the targets that exist today.

use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::share::Share;

/// What deploys go to: a stage's row with the names around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Identity: what deploys call their target.
    pub id: Uuid,
    /// The project's identity.
    pub project_id: Uuid,
    /// The project's name.
    pub project: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes name.
    pub name: String,
    /// UID of the Kubernetes object.
    pub uid: String,
}

/// A stage to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStage {
    /// Identity, should it be new.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes name.
    pub name: String,
    /// UID of the Kubernetes object.
    pub uid: String,
}

/// What became of a target's row.
enum Written {
    Known(Uuid),
    NoProject,
    Taken,
}

impl Store {
    /// The identity of the stage's row, which is made, or revived with its history, if need be. A stage that moved to
    /// another project leaves its history with the old one. Writes nothing when nothing changed.
    pub async fn stage_upsert(&self, stage: &NewStage) -> Result<Uuid, StoreError> {
        let known = sqlx::query_scalar!(
            "SELECT id FROM stages
             WHERE project_id = $1 AND namespace = $2 AND name = $3 AND uid = $4 AND deleted_at IS NULL",
            stage.project_id,
            stage.namespace,
            stage.name,
            stage.uid
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if let Some(id) = known {
            return Ok(id);
        }
        self.target_upsert(stage, "stage").await
    }

    /// The identity of the row of a target of this kind. A name that had another kind before, and is free, changes it.
    pub(super) async fn target_upsert(&self, stage: &NewStage, kind: &str) -> Result<Uuid, StoreError> {
        match self.target_write(stage, kind).await.map_err(|error| self.fault(error))? {
            Written::Known(id) => Ok(id),
            Written::NoProject => Err(StoreError::not_found("project", &stage.project_id)),
            Written::Taken => Err(StoreError::Taken(format!(
                "namespace {} has {} of the name {} already: choose another name, as their Services have the same",
                stage.namespace,
                if kind == "stage" { "an Environment" } else { "a Stage" },
                stage.name
            ))),
        }
    }

    async fn target_write(&self, stage: &NewStage, kind: &str) -> Result<Written, sqlx::Error> {
        let mut all = self.pool.begin().await?;
        // Two who record the same new stage take turns, so that it gets one target.
        let project = sqlx::query_scalar!(
            "SELECT id FROM projects WHERE id = $1 AND leads($2, $3) FOR NO KEY UPDATE",
            stage.project_id,
            self.lease(),
            self.epoch()
        )
        .fetch_optional(&mut *all)
        .await?;
        if project.is_none() {
            return Ok(Written::NoProject);
        }
        let taken = sqlx::query_scalar!(
            r#"SELECT EXISTS (
                 SELECT FROM stages AS s JOIN targets AS t ON t.id = s.id
                 WHERE s.namespace = $1 AND s.name = $2 AND s.deleted_at IS NULL AND t.kind <> $3
             ) AS "taken!""#,
            stage.namespace,
            stage.name,
            kind
        )
        .fetch_one(&mut *all)
        .await?;
        if taken {
            return Ok(Written::Taken);
        }
        sqlx::query!(
            "UPDATE stages SET deleted_at = now()
             WHERE namespace = $1 AND name = $2 AND project_id <> $3 AND deleted_at IS NULL",
            stage.namespace,
            stage.name,
            stage.project_id
        )
        .execute(&mut *all)
        .await?;
        let id = sqlx::query_scalar!(
            "WITH known AS (
                 SELECT id FROM stages WHERE project_id = $2 AND namespace = $3 AND name = $4
             ), target AS (
                 INSERT INTO targets (id, project_id, kind)
                 SELECT $1, $2, $6 WHERE NOT EXISTS (SELECT FROM known)
             ), changed AS (
                 UPDATE targets SET kind = $6 FROM known WHERE targets.id = known.id AND kind <> $6
             )
             INSERT INTO stages (id, project_id, namespace, name, uid)
             VALUES (coalesce((SELECT id FROM known), $1), $2, $3, $4, $5)
             ON CONFLICT (project_id, namespace, name) DO UPDATE SET uid = excluded.uid, deleted_at = NULL
             RETURNING id",
            stage.id,
            stage.project_id,
            stage.namespace,
            stage.name,
            stage.uid,
            kind
        )
        .fetch_one(&mut *all)
        .await?;
        all.commit().await?;
        Ok(Written::Known(id))
    }

    /// Marks the stage deleted; its history stays, what was pending for it on the update list goes: nothing runs there that
    /// could be outdated. What was asked of it is refused, so that a later stage of its name does not do it. Already deleted or unknown is fine.
    pub async fn stage_soft_delete(&self, namespace: &str, name: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "WITH gone AS (
                 UPDATE stages SET deleted_at = now()
                 WHERE namespace = $1 AND name = $2 AND deleted_at IS NULL AND leads($3, $4)
                 RETURNING id, namespace || '/' || name AS host
             ), refused AS (
                 UPDATE requests AS r SET state = 'refused', message = 'the stage was deleted', settled_at = now()
                 FROM gone WHERE r.target_id = gone.id AND r.state = 'pending'
             )
             DELETE FROM image_updates AS u USING gone WHERE u.host = gone.host AND u.pending AND u.seen_by = 'policy'",
            namespace,
            name,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// A stage, unless it is deleted.
    pub async fn target_get(&self, id: Uuid) -> Result<Option<Target>, StoreError> {
        sqlx::query_as!(
            Target,
            "SELECT s.id, s.project_id, p.name AS project, s.namespace, s.name, s.uid
             FROM stages AS s JOIN projects AS p ON p.id = s.project_id
             WHERE s.id = $1 AND s.deleted_at IS NULL",
            id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// The stage of this name, unless there is none or it is deleted.
    pub async fn stage_get(&self, namespace: &str, name: &str) -> Result<Option<Target>, StoreError> {
        sqlx::query_as!(
            Target,
            "SELECT s.id, s.project_id, p.name AS project, s.namespace, s.name, s.uid
             FROM stages AS s JOIN projects AS p ON p.id = s.project_id
             WHERE s.namespace = $1 AND s.name = $2 AND s.deleted_at IS NULL",
            namespace,
            name
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// The stages of a namespace, or of one of its projects, by name, from the one behind `after` on.
    pub async fn stages_list(
        &self,
        namespace: &str,
        project: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Target>, StoreError> {
        sqlx::query_as!(
            Target,
            "SELECT s.id, s.project_id, p.name AS project, s.namespace, s.name, s.uid
             FROM stages AS s JOIN projects AS p ON p.id = s.project_id
             WHERE s.namespace = $1 AND s.name > coalesce($3, '') AND s.deleted_at IS NULL
                 AND ($2::text IS NULL OR p.name = $2)
             ORDER BY s.name LIMIT $4",
            namespace,
            project,
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Every stage that is not deleted, in this share.
    pub async fn targets_load(&self, share: &Share) -> Result<Vec<Target>, StoreError> {
        sqlx::query_as!(
            Target,
            "SELECT s.id, s.project_id, p.name AS project, s.namespace, s.name, s.uid
             FROM stages AS s JOIN projects AS p ON p.id = s.project_id
             WHERE s.deleted_at IS NULL AND in_share(s.namespace, $1, $2, $3)
             ORDER BY s.id",
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }
}
