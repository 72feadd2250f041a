//! What the controllers need to know about targets: a fixed number of queries, however many targets there are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{DeployRow, StoredDeploy};
use crate::{
    domain::{deploy::State, release::ReleaseId, share::Share},
    store::{Hold, HookRun, Instance, Store, StoreError, Target, Veto},
};

/// A target with everything about its deploys that a decision may need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    /// The target.
    pub target: Target,
    /// The deploy with the highest sequence.
    pub latest: Option<StoredDeploy>,
    /// What a rollback goes back to.
    pub good: Option<GoodDeploy>,
    /// Deploys that are not finished, in order, each with its snapshot as JSON text.
    pub open: Vec<GoodDeploy>,
    /// The last deploys that are finished, newest first: at most five.
    pub finished: Vec<StoredDeploy>,
    /// What the latest deploy went back from, when it is a rollback.
    pub undone: Option<StoredDeploy>,
    /// Hooks of the open deploys and of the good one that have begun.
    pub hooks: Vec<HookRun>,
    /// Instances that have not been removed, oldest first.
    pub instances: Vec<Instance>,
    /// Vetoes that hold.
    pub vetoes: Vec<Veto>,
    /// What keeps policies away.
    pub holds: Vec<Hold>,
    /// What `good` brought has lost its readiness.
    pub unready: bool,
}

/// How many finished deploys of a target are loaded.
const FINISHED: i64 = 5;

/// A deploy with what it is rendered from, such as the last one that succeeded and whose release is not vetoed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodDeploy {
    /// The deploy.
    pub stored: StoredDeploy,
    /// Its snapshot as JSON text: a fraction of the memory of a parsed one, and needed only for a rollback.
    pub snapshot: String,
}

impl Store {
    /// Every stage that is not deleted, in this share, with its deploys: for the start of a leader. One
    /// consistent view.
    pub async fn targets_state_load(&self, share: &Share) -> Result<Vec<TargetState>, StoreError> {
        let targets = self.targets_load(share).await?;
        self.states_of(targets).await
    }

    /// One stage with its deploys, unless it is deleted: after a conflict.
    pub async fn target_state_load(&self, id: Uuid) -> Result<Option<TargetState>, StoreError> {
        let target = self.target_get(id).await?;
        Ok(self.states_of(target.into_iter().collect()).await?.pop())
    }

    /// The last deploy of a target that succeeded before `sequence` and whose release is not vetoed: what to go back to
    /// from a deploy that went bad after its success.
    pub async fn deploy_good_before(&self, target: Uuid, sequence: i64) -> Result<Option<GoodDeploy>, StoreError> {
        let good = super::deploys!(
            "deploys AS d
             WHERE d.target_id = $1 AND d.sequence < $2 AND d.state = 'success' AND NOT EXISTS (
                 SELECT FROM vetoes AS v
                 WHERE v.target_id = d.target_id AND v.release_id = d.release_id AND v.lifted_at IS NULL)
             ORDER BY d.sequence DESC LIMIT 1",
            target,
            sequence
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        self.whole(good).await
    }

    /// The last good deploy before `sequence` that ran something else than `snapshot`.
    pub async fn deploy_previous(
        &self,
        target: Uuid,
        sequence: i64,
        snapshot: &str,
    ) -> Result<Option<GoodDeploy>, StoreError> {
        let found = super::deploys!(
            "deploys AS d
             WHERE d.target_id = $1 AND d.sequence < $2 AND d.state = 'success' AND d.snapshot_hash <> $3
                 AND NOT EXISTS (
                     SELECT FROM vetoes AS v
                     WHERE v.target_id = d.target_id AND v.release_id = d.release_id AND v.lifted_at IS NULL)
             ORDER BY d.sequence DESC LIMIT 1",
            target,
            sequence,
            snapshot
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        self.whole(found).await
    }

    /// What served a target at an instant: the last that had succeeded by then.
    pub async fn deploy_good_at(&self, target: Uuid, at: Timestamp) -> Result<Option<GoodDeploy>, StoreError> {
        let found = super::deploys!(
            "deploys AS d
             WHERE d.target_id = $1 AND d.state = 'success' AND d.finished_at <= $2
             ORDER BY d.sequence DESC LIMIT 1",
            target,
            at.to_sqlx() as SqlTimestamp
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        self.whole(found).await
    }

    /// A deploy with its snapshot.
    pub async fn deploy_whole(&self, id: Uuid) -> Result<Option<GoodDeploy>, StoreError> {
        let found = super::deploys!("deploys AS d WHERE d.id = $1", id)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        self.whole(found).await
    }

    async fn whole(&self, row: Option<DeployRow>) -> Result<Option<GoodDeploy>, StoreError> {
        let Some(row) = row else { return Ok(None) };
        let stored = StoredDeploy::try_from(row)?;
        let snapshots = self.snapshots_of(&self.pool, &[stored.deploy.id]).await?;
        with_snapshot(&stored, &snapshots).map(Some)
    }

    async fn states_of(&self, targets: Vec<Target>) -> Result<Vec<TargetState>, StoreError> {
        let ids: Vec<Uuid> = targets.iter().map(|target| target.id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut view = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
            .map_err(|error| self.fault(error))?;
        let deploys = self.deploys_that_matter(&mut view, &ids).await?;
        let mut deploys = grouped(deploys, |stored| stored.deploy.target);
        let vetoes = self.vetoes_of(&mut *view, &ids).await?;
        let mut vetoes = grouped(vetoes, |veto| veto.target);
        let holds = self.holds_of(&mut *view, &ids).await?;
        let mut holds = grouped(holds, |hold| hold.target);
        let instances = self.instances_of(&mut *view, &ids).await?;
        let mut instances = grouped(instances, |instance| instance.target);
        let whole: Vec<Uuid> = deploys
            .iter()
            .flat_map(|(target, deploys)| {
                let vetoes = vetoes.get(target).map_or(&[][..], Vec::as_slice);
                open(deploys).chain(last_good(deploys, vetoes))
            })
            .map(|stored| stored.deploy.id)
            .collect();
        let snapshots = self.snapshots_of(&mut *view, &whole).await?;
        let hooks = self.hooks_of(&mut *view, &whole).await?;
        let unready = self.unready_of(&mut *view, &whole).await?;
        let mut hooks = grouped(hooks, |hook| hook.deploy);
        view.commit().await.map_err(|error| self.fault(error))?;

        targets
            .into_iter()
            .map(|target| {
                let deploys = deploys.remove(&target.id).unwrap_or_default();
                let vetoes = vetoes.remove(&target.id).unwrap_or_default();
                let instances = instances.remove(&target.id).unwrap_or_default();
                let holds = holds.remove(&target.id).unwrap_or_default();
                let with_snapshot = |stored: &StoredDeploy| with_snapshot(stored, &snapshots);
                let good = last_good(&deploys, &vetoes);
                Ok(TargetState {
                    unready: good.is_some_and(|good| unready.contains(&good.deploy.id)),
                    good: good.map(with_snapshot).transpose()?,
                    open: open(&deploys).map(with_snapshot).collect::<Result<_, _>>()?,
                    hooks: open(&deploys)
                        .chain(good)
                        .flat_map(|stored| hooks.remove(&stored.deploy.id).unwrap_or_default())
                        .collect(),
                    finished: finished(&deploys).cloned().collect(),
                    undone: undone(&deploys).cloned(),
                    latest: deploys.into_iter().next_back(),
                    target,
                    instances,
                    vetoes,
                    holds,
                })
            })
            .collect()
    }

    /// By target and sequence: the open deploys of each target, the last finished ones, the last good one, and the one
    /// that the latest went back from.
    async fn deploys_that_matter(
        &self,
        view: &mut PgConnection,
        targets: &[Uuid],
    ) -> Result<Vec<StoredDeploy>, StoreError> {
        let rows: Vec<DeployRow> = super::deploys!(
            "deploys AS d
             WHERE d.id IN (
                 SELECT pick.id
                 FROM UNNEST($1::uuid[]) AS t (id)
                 CROSS JOIN LATERAL (
                     (SELECT o.id FROM deploys AS o WHERE o.target_id = t.id AND o.finished_at IS NULL)
                     UNION ALL
                     (SELECT f.id FROM deploys AS f
                      WHERE f.target_id = t.id AND f.finished_at IS NOT NULL ORDER BY f.sequence DESC LIMIT $2)
                     UNION ALL
                     (SELECT l.rollback_of FROM deploys AS l
                      WHERE l.target_id = t.id ORDER BY l.sequence DESC LIMIT 1)
                     UNION ALL
                     (SELECT g.id FROM deploys AS g
                      WHERE g.target_id = t.id AND g.state = 'success' AND NOT EXISTS (
                          SELECT FROM vetoes AS v
                          WHERE v.target_id = t.id AND v.release_id = g.release_id AND v.lifted_at IS NULL)
                      ORDER BY g.sequence DESC LIMIT 1)
                 ) AS pick)
             ORDER BY d.target_id, d.sequence",
            targets,
            FINISHED
        )
        .fetch_all(view)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredDeploy::try_from).collect()
    }

    async fn snapshots_of(
        &self,
        executor: impl PgExecutor<'_>,
        deploys: &[Uuid],
    ) -> Result<BTreeMap<Uuid, String>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT d.id, s.content::text AS "content!"
               FROM deploys AS d JOIN snapshots AS s ON s.project_id = d.project_id AND s.hash = d.snapshot_hash
               WHERE d.id = ANY ($1)"#,
            deploys
        )
        .fetch_all(executor)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|row| (row.id, row.content)).collect())
    }
}

fn grouped<T>(rows: Vec<T>, key: impl Fn(&T) -> Uuid) -> BTreeMap<Uuid, Vec<T>> {
    let mut groups: BTreeMap<Uuid, Vec<T>> = BTreeMap::new();
    for row in rows {
        groups.entry(key(&row)).or_default().push(row);
    }
    groups
}

// What follows reads the deploys of one target, in order of sequence.

fn open(deploys: &[StoredDeploy]) -> impl Iterator<Item = &StoredDeploy> {
    deploys.iter().filter(|stored| !stored.deploy.is_closed())
}

fn finished(deploys: &[StoredDeploy]) -> impl Iterator<Item = &StoredDeploy> {
    let closed = deploys.iter().rev();
    let closed = closed.filter(|stored| stored.deploy.is_closed());
    closed.take(usize::try_from(FINISHED).unwrap_or(usize::MAX))
}

fn undone(deploys: &[StoredDeploy]) -> Option<&StoredDeploy> {
    // Who goes back by hand makes a hold, and says to resume.
    let by_itself = deploys.last().filter(|latest| latest.request.is_none());
    let undone = by_itself?.deploy.rollback_of?;
    deploys.iter().find(|stored| stored.deploy.id == undone)
}

fn last_good<'a>(deploys: &'a [StoredDeploy], vetoes: &[Veto]) -> Option<&'a StoredDeploy> {
    let is_vetoed = |release: &ReleaseId| vetoes.iter().any(|veto| veto.release == *release);
    deploys.iter().rev().find(|stored| stored.deploy.state == State::Success && !is_vetoed(&stored.deploy.release))
}

fn with_snapshot(stored: &StoredDeploy, snapshots: &BTreeMap<Uuid, String>) -> Result<GoodDeploy, StoreError> {
    let id = stored.deploy.id;
    let snapshot = snapshots.get(&id).cloned();
    Ok(GoodDeploy {
        snapshot: snapshot.ok_or_else(|| StoreError::corrupt("deploy", &id, "its snapshot is missing"))?,
        stored: stored.clone(),
    })
}
