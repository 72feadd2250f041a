//! What the database says about a stage becomes what is remembered of it.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use uuid::Uuid;

use super::memory::Memory;
use crate::{
    api::{Project, Stage},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        deploy::{
            ledger::{Entry, Finished, HookRun, Instance, Ledger, Undone, Veto},
            record,
            values::Screen,
        },
        error::Error,
    },
    store::{GoodDeploy, InstanceStatus, NewStage, Provenance, StoreError, StoredDeploy, TargetState},
};

/// The memory of a stage that was not known yet: its rows are made, or revived with their history. Takes the project
/// that it belongs to, because a name alone makes no row.
pub async fn open(ctx: &Context, stage: &Stage, project: &Project, key: &StageKey) -> Result<Box<Memory>, Error> {
    let project = ctx.store.project_upsert(ctx.ids.next(), &key.namespace, &project.name_any()).await?;
    let uid = stage.uid().unwrap_or_default();
    let new = NewStage {
        id: ctx.ids.next(),
        project_id: project.id,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid,
    };
    let target = ctx.store.stage_upsert(&new).await?;
    let mut memory = read(ctx, target).await?;
    forget_what_went(&mut memory, stage, ctx, key);
    ctx.lanes.tell(key);
    Ok(memory)
}

/// A stage that was deleted and made anew took along what served: only its history is left, and what it should run is
/// deployed again. A status that tells of a deploy, or a workload that is there, says that it was not so.
fn forget_what_went(memory: &mut Memory, stage: &Stage, ctx: &Context, key: &StageKey) {
    let newborn = stage.status.as_ref().is_none_or(|status| status.deploy.is_none());
    if newborn
        && ctx.index.stage(key).workloads().next().is_none()
        && let Some(ledger) = &mut memory.ledger
    {
        ledger.good = None;
    }
}

/// The ledger, read again if it was dropped. It is taken out: whoever ends well puts it back.
pub async fn ledger(ctx: &Context, memory: &mut Memory) -> Result<Ledger, Error> {
    if let Some(ledger) = memory.ledger.take() {
        Ok(ledger)
    } else {
        memory.compared = false;
        fresh(ctx, memory.target).await
    }
}

/// The ledger as the database has it now.
pub async fn fresh(ctx: &Context, target: Uuid) -> Result<Ledger, Error> {
    let read = read(ctx, target).await?;
    Ok(read.ledger.unwrap_or_default())
}

/// What the database says about a target.
pub async fn of_target(ctx: &Context, target: Uuid) -> Result<Box<Memory>, Error> {
    read(ctx, target).await
}

async fn read(ctx: &Context, target: Uuid) -> Result<Box<Memory>, Error> {
    match ctx.store.target_state_load(target).await? {
        Some(state) => Ok(Box::new(remember(state)?)),
        None => Err(StoreError::Conflict(format!("target {target} was deleted meanwhile")).into()),
    }
}

/// What is stored about a stage, as the leader remembers it.
pub fn remember(state: TargetState) -> Result<Memory, Error> {
    let mut hooks: BTreeMap<Uuid, BTreeMap<_, _>> = BTreeMap::new();
    for hook in state.hooks {
        let run = match hook.ok {
            None => HookRun::Running,
            Some(true) => HookRun::Succeeded,
            Some(false) => HookRun::Failed(hook.message.unwrap_or_default()),
        };
        hooks.entry(hook.deploy).or_default().insert((hook.phase, hook.name), run);
    }
    let mut entry = |stored: GoodDeploy| {
        let deploy = stored.stored.deploy;
        let deploy_rollback = deploy.rollback_of;
        let snapshot = record::read_snapshot(&deploy.snapshot, &stored.snapshot)?;
        let hooks = hooks.remove(&deploy.id).unwrap_or_default();
        Ok::<_, Error>(Entry {
            deploy,
            snapshot: snapshot.into(),
            request: stored.stored.request,
            provenance: Provenance {
                rollback_of: deploy_rollback,
                retry_of: stored.stored.retry_of,
                promoted_from: stored.stored.promoted_from,
                group: stored.stored.group,
                emergency: stored.stored.emergency,
            },
            hooks,
            refused: None,
            planned: None,
            screen: Screen::Clear,
        })
    };
    let good = state.good.map(&mut entry).transpose()?;
    let open: Vec<Entry> = state.open.into_iter().map(entry).collect::<Result<_, _>>()?;
    // Of an older snapshot, which is not loaded, the worst is assumed.
    let known: BTreeMap<String, bool> = open
        .iter()
        .chain(&good)
        .map(|entry: &Entry| (entry.deploy.snapshot.clone(), record::has_storage(&entry.snapshot)))
        .collect();
    let finished = |stored: StoredDeploy| Finished { images: stored.release.summary(), deploy: stored.deploy };
    let instance = |row: crate::store::Instance| {
        let instance = Instance {
            deploy: row.deploy,
            release: row.release,
            failed: row.status == InstanceStatus::Failed,
            storage: known.get(&row.snapshot).copied().unwrap_or(true),
            made: row.created_at,
        };
        (row.name, instance)
    };
    let veto = |row: crate::store::Veto| (row.release, Veto { deploy: row.deploy, reason: row.reason });
    let unready = good.as_ref().filter(|_| state.unready).map(|good: &Entry| good.deploy.id);
    let ledger = Ledger {
        open,
        history: state.finished.into_iter().map(finished).collect(),
        latest_request: state.latest.and_then(|latest| latest.request),
        good,
        undone: state.undone.map(|stored| Undone {
            snapshot: stored.deploy.snapshot,
            request: stored.request,
            why: stored.deploy.message,
        }),
        vetoed: state.vetoes.into_iter().map(veto).collect(),
        holds: state.holds,
        unready,
        instances: state.instances.into_iter().map(instance).collect(),
        readdressed: false,
        stale_files: false,
    };
    Ok(Memory::new(state.target.id, state.target.project_id, state.target.uid, ledger))
}
