//! What the controllers need to know about targets: a fixed number of queries, however many targets there are.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{DeployRow, StoredDeploy};
use crate::{
    domain::deploy::State,
    store::{HookRun, Instance, Store, StoreError, Target, Veto},
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
    /// The last deploys that are finished, newest first: at most [`FINISHED`].
    pub finished: Vec<StoredDeploy>,
    /// What the latest deploy went back from, when it is a rollback.
    pub undone: Option<StoredDeploy>,
    /// Hooks of the open deploys and of the good one that have begun.
    pub hooks: Vec<HookRun>,
    /// Instances that have not been removed, oldest first.
    pub instances: Vec<Instance>,
    /// Vetoes that hold.
    pub vetoes: Vec<Veto>,
}

/// How many finished deploys of a target are loaded.
pub const FINISHED: i64 = 5;

/// A deploy with what it is rendered from, such as the last one that succeeded and whose release is not vetoed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodDeploy {
    /// The deploy.
    pub stored: StoredDeploy,
    /// Its snapshot as JSON text: a fraction of the memory of a parsed one, and needed only for a rollback.
    pub snapshot: String,
}

impl Store {
    /// Every stage that is not deleted, in these namespaces or in all, with its deploys: for the start of a leader. One
    /// consistent view.
    pub async fn targets_state_load(
        &self,
        namespaces: Option<&[String]>,
    ) -> Result<Vec<TargetState>, StoreError> {
        let targets = self.targets_load(namespaces).await?;
        self.states_of(targets).await
    }

    /// One stage with its deploys, unless it is deleted: after a conflict.
    pub async fn target_state_load(&self, id: Uuid) -> Result<Option<TargetState>, StoreError> {
        let target = self.target_get(id).await?;
        Ok(self.states_of(target.into_iter().collect()).await?.pop())
    }

    /// The last deploy of a target that succeeded before `sequence` and whose release is not vetoed: what to go back to
    /// from a deploy that went bad after its success.
    pub async fn deploy_good_before(
        &self,
        target: Uuid,
        sequence: i64,
    ) -> Result<Option<GoodDeploy>, StoreError> {
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
        let Some(good) = good else { return Ok(None) };
        let stored = StoredDeploy::try_from(good)?;
        let id = stored.deploy.id;
        let snapshot = self.snapshots_of(&self.pool, &[id]).await?.remove(&id);
        Ok(Some(GoodDeploy {
            snapshot: snapshot.ok_or_else(|| without_snapshot(id))?,
            stored,
        }))
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
        let vetoes = self.vetoes_of(&mut *view, &ids).await?;
        let deploys = self.deploys_that_matter(&mut view, &ids).await?;
        let instances = self.instances_of(&mut *view, &ids).await?;
        let good: Vec<Uuid> = last_good(&deploys, &vetoes).into_values().collect();
        let with_snapshot: Vec<Uuid> = (good.iter().copied())
            .chain(
                deploys
                    .iter()
                    .filter(|stored| !stored.deploy.is_closed())
                    .map(|stored| stored.deploy.id),
            )
            .collect();
        let snapshots = self.snapshots_of(&mut *view, &with_snapshot).await?;
        let finished = self.deploys_finished(&mut view, &ids).await?;
        let undone = self.deploys_undone(&mut view, &deploys).await?;
        let open: BTreeMap<Uuid, Uuid> = deploys
            .iter()
            .filter(|stored| !stored.deploy.is_closed() || good.contains(&stored.deploy.id))
            .map(|stored| (stored.deploy.id, stored.deploy.target))
            .collect();
        let open_ids: Vec<Uuid> = open.keys().copied().collect();
        let hooks = self.hooks_of(&mut *view, &open_ids).await?;
        view.commit().await.map_err(|error| self.fault(error))?;

        let mut states: BTreeMap<Uuid, TargetState> = targets
            .into_iter()
            .map(|target| (target.id, TargetState::of(target)))
            .collect();
        let whole = |stored: &StoredDeploy| {
            let id = stored.deploy.id;
            let snapshot = snapshots
                .get(&id)
                .cloned()
                .ok_or_else(|| without_snapshot(id))?;
            Ok::<_, StoreError>(GoodDeploy {
                stored: stored.clone(),
                snapshot,
            })
        };
        for stored in deploys {
            let Some(state) = states.get_mut(&stored.deploy.target) else {
                continue;
            };
            if good.contains(&stored.deploy.id) {
                state.good = Some(whole(&stored)?);
            }
            if !stored.deploy.is_closed() {
                state.open.push(whole(&stored)?);
            }
            state.undone = stored
                .deploy
                .rollback_of
                .and_then(|id| undone.get(&id).cloned());
            state.latest = Some(stored);
        }
        for stored in finished {
            if let Some(state) = states.get_mut(&stored.deploy.target) {
                state.finished.push(stored);
            }
        }
        for hook in hooks {
            let target = open.get(&hook.deploy);
            if let Some(state) = target.and_then(|target| states.get_mut(target)) {
                state.hooks.push(hook);
            }
        }
        for instance in instances {
            if let Some(state) = states.get_mut(&instance.target) {
                state.instances.push(instance);
            }
        }
        for veto in vetoes {
            if let Some(state) = states.get_mut(&veto.target) {
                state.vetoes.push(veto);
            }
        }
        Ok(states.into_values().collect())
    }

    /// The open, the latest and the last good deploys of each target, by target and sequence.
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
                     (SELECT l.id FROM deploys AS l WHERE l.target_id = t.id ORDER BY l.sequence DESC LIMIT 1)
                     UNION ALL
                     (SELECT g.id FROM deploys AS g
                      WHERE g.target_id = t.id AND g.state = 'success' AND NOT EXISTS (
                          SELECT FROM vetoes AS v
                          WHERE v.target_id = t.id AND v.release_id = g.release_id AND v.lifted_at IS NULL)
                      ORDER BY g.sequence DESC LIMIT 1)
                 ) AS pick)
             ORDER BY d.target_id, d.sequence",
            targets
        )
        .fetch_all(view)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredDeploy::try_from).collect()
    }

    /// The last finished deploys of each target, newest first.
    async fn deploys_finished(
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
                     SELECT f.id FROM deploys AS f
                     WHERE f.target_id = t.id AND f.finished_at IS NOT NULL
                     ORDER BY f.sequence DESC LIMIT $2) AS pick)
             ORDER BY d.target_id, d.sequence DESC",
            targets,
            FINISHED
        )
        .fetch_all(view)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredDeploy::try_from).collect()
    }

    /// The deploys that any of `deploys` went back from, by id.
    async fn deploys_undone(
        &self,
        view: &mut PgConnection,
        deploys: &[StoredDeploy],
    ) -> Result<BTreeMap<Uuid, StoredDeploy>, StoreError> {
        let ids: Vec<Uuid> = deploys
            .iter()
            .filter_map(|stored| stored.deploy.rollback_of)
            .collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows: Vec<DeployRow> = super::deploys!("deploys AS d WHERE d.id = ANY ($1)", &ids)
            .fetch_all(view)
            .await
            .map_err(|error| self.fault(error))?;
        let read = |row: DeployRow| Ok((row.id, StoredDeploy::try_from(row)?));
        rows.into_iter().map(read).collect()
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

/// By target, the last of `deploys` (in order of sequence) that succeeded and is not vetoed.
fn last_good(deploys: &[StoredDeploy], vetoes: &[Veto]) -> BTreeMap<Uuid, Uuid> {
    let is_vetoed = |stored: &StoredDeploy| {
        vetoes.iter().any(|veto| {
            veto.target == stored.deploy.target && veto.release == stored.deploy.release
        })
    };
    deploys
        .iter()
        .filter(|stored| stored.deploy.state == State::Success && !is_vetoed(stored))
        .map(|stored| (stored.deploy.target, stored.deploy.id))
        .collect()
}

fn without_snapshot(deploy: Uuid) -> StoreError {
    StoreError::corrupt("deploy", &deploy, "its snapshot is missing")
}

impl TargetState {
    fn of(target: Target) -> Self {
        Self {
            target,
            latest: None,
            good: None,
            open: Vec::new(),
            finished: Vec::new(),
            undone: None,
            hooks: Vec::new(),
            instances: Vec::new(),
            vetoes: Vec::new(),
        }
    }
}
