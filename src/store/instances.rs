//! Instances: the running copies of releases.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::release::ReleaseId;

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceStatus {
    /// Its workloads run.
    Running,
    /// Its workloads are scaled to zero.
    Stopped,
    /// Its deploy failed.
    Failed,
    /// Its objects are being deleted.
    Removing,
    /// Its objects are gone. The row stays for history, and is no longer listed.
    Removed,
}

impl InstanceStatus {
    /// The word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for InstanceStatus {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Running, Self::Stopped, Self::Failed, Self::Removing, Self::Removed]
            .into_iter()
            .find(|status| status.word() == word)
            .ok_or_else(|| format!("`{word}` is not an instance status"))
    }
}

/// A change of one instance, stored with the step of the deploy that causes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceChange {
    /// The instance's name.
    pub name: String,
    /// What it does now.
    pub status: InstanceStatus,
    /// The deploy whose release it runs from now on: makes the row if there is none. `None` leaves that as it is, and
    /// changes nothing when there is no row.
    pub deploy: Option<Uuid>,
}

/// An instance that has not been removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The target it belongs to.
    pub target: Uuid,
    /// Its name, unique in the target.
    pub name: String,
    /// The deploy whose release and snapshot it runs.
    pub deploy: Uuid,
    /// That deploy's release.
    pub release: ReleaseId,
    /// That deploy's snapshot.
    pub snapshot: String,
    /// What it does.
    pub status: InstanceStatus,
    /// When it was first recorded.
    pub created_at: Timestamp,
}

struct InstanceRow {
    target_id: Uuid,
    name: String,
    deploy_id: Uuid,
    release_id: String,
    snapshot_hash: String,
    status: String,
    created_at: SqlTimestamp,
}

impl TryFrom<InstanceRow> for Instance {
    type Error = StoreError;

    fn try_from(row: InstanceRow) -> Result<Self, StoreError> {
        Ok(Self {
            status: (row.status.parse()).map_err(|why: String| StoreError::corrupt("instance", &row.name, &why))?,
            target: row.target_id,
            name: row.name,
            deploy: row.deploy_id,
            release: ReleaseId(row.release_id),
            snapshot: row.snapshot_hash,
            created_at: row.created_at.to_jiff(),
        })
    }
}

/// Changes as columns, for `UNNEST`.
pub(super) struct ChangeColumns<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) deploys: Vec<Option<Uuid>>,
    pub(super) statuses: Vec<&'static str>,
}

impl<'a> From<&'a [InstanceChange]> for ChangeColumns<'a> {
    fn from(changes: &'a [InstanceChange]) -> Self {
        Self {
            names: changes.iter().map(|change| change.name.as_str()).collect(),
            deploys: changes.iter().map(|change| change.deploy).collect(),
            statuses: changes.iter().map(|change| change.status.word()).collect(),
        }
    }
}

impl Store {
    /// Changes instances of a target outside a deploy's step: when the kept one is removed, for example. Writes nothing
    /// for what is so already.
    pub async fn instances_change(
        &self,
        target: Uuid,
        changes: &[InstanceChange],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let columns = ChangeColumns::from(changes);
        sqlx::query!(
            "WITH change AS (
                 SELECT * FROM UNNEST($2::text[], $3::uuid[], $4::text[]) AS c (name, deploy_id, status)
                 WHERE (SELECT leads($6, $7))
             ), held AS (
                 INSERT INTO instances (target_id, name, deploy_id, status)
                 SELECT $1, name, deploy_id, status FROM change WHERE deploy_id IS NOT NULL AND status <> 'removed'
                 ON CONFLICT (target_id, name) DO UPDATE
                 SET deploy_id = excluded.deploy_id, status = excluded.status, deleted_at = NULL
                 WHERE instances.deleted_at IS NOT NULL
                     OR (instances.deploy_id, instances.status) <> (excluded.deploy_id, excluded.status)
             )
             UPDATE instances
             SET status = CASE change.status WHEN 'removed' THEN 'removing' ELSE change.status END,
                 deleted_at = CASE change.status WHEN 'removed' THEN $5::timestamptz END
             FROM change
             WHERE instances.target_id = $1 AND instances.name = change.name AND instances.deleted_at IS NULL
                 AND (change.deploy_id IS NULL OR change.status = 'removed') AND instances.status <> change.status",
            target,
            &columns.names[..] as _,
            &columns.deploys[..] as _,
            &columns.statuses[..] as _,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// The instances of a target that have not been removed, oldest first.
    pub async fn instances_list(&self, target: Uuid) -> Result<Vec<Instance>, StoreError> {
        self.instances_of(&self.pool, &[target]).await
    }

    pub(super) async fn instances_of(
        &self,
        executor: impl PgExecutor<'_>,
        targets: &[Uuid],
    ) -> Result<Vec<Instance>, StoreError> {
        let rows = sqlx::query_as!(
            InstanceRow,
            r#"SELECT i.target_id, i.name, i.deploy_id, d.release_id, d.snapshot_hash, i.status,
                      i.created_at AS "created_at: SqlTimestamp"
               FROM instances AS i JOIN deploys AS d ON d.id = i.deploy_id
               WHERE i.target_id = ANY ($1) AND i.deleted_at IS NULL
               ORDER BY i.target_id, i.created_at, i.name"#,
            targets
        )
        .fetch_all(executor)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(Instance::try_from).collect()
    }
}
