//! Projects.

use uuid::Uuid;

use super::{Store, StoreError};

/// A project's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Identity.
    pub id: Uuid,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes name.
    pub name: String,
}

impl Store {
    /// The project of this name, made with `new_id` or revived if need be. Writes nothing when it is there.
    pub async fn project_upsert(&self, new_id: Uuid, namespace: &str, name: &str) -> Result<Project, StoreError> {
        if let Some(project) = self.project_get(namespace, name).await? {
            return Ok(project);
        }
        sqlx::query_as!(
            Project,
            "INSERT INTO projects (id, namespace, name) SELECT $1, $2, $3 WHERE leads($4, $5)
             ON CONFLICT (namespace, name) DO UPDATE SET deleted_at = NULL
             RETURNING id, namespace, name",
            new_id,
            namespace,
            name,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// The project of this name, unless there is none or it is deleted.
    pub async fn project_get(&self, namespace: &str, name: &str) -> Result<Option<Project>, StoreError> {
        sqlx::query_as!(
            Project,
            "SELECT id, namespace, name FROM projects WHERE namespace = $1 AND name = $2 AND deleted_at IS NULL",
            namespace,
            name
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// The projects of a namespace by name, from the one behind `after` on.
    pub async fn projects_list(
        &self,
        namespace: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Project>, StoreError> {
        sqlx::query_as!(
            Project,
            "SELECT id, namespace, name FROM projects
             WHERE namespace = $1 AND name > coalesce($2, '') AND deleted_at IS NULL ORDER BY name LIMIT $3",
            namespace,
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Marks the project deleted; its history stays. Already deleted or unknown is fine.
    pub async fn project_soft_delete(&self, namespace: &str, name: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE projects SET deleted_at = now() WHERE namespace = $1 AND name = $2 AND deleted_at IS NULL",
            namespace,
            name
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }
}
