//! The sweep: namespaces that were made for environments which are not there any more, and rows of such environments. Nothing
//! is left behind because something happened in the wrong order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Environment, labels},
    cluster::index::StageKey,
    controllers::context::Context,
    domain::share::Share,
    render::isolation,
    store::StoreError,
};

/// How often is looked. Costs no request while there is nothing to do.
const EVERY: Duration = Duration::from_secs(10);

/// How long a namespace must have had no environment before it goes: watches do not tell everything at the same moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many namespaces go at a time: should it be wrong about what is left behind, somebody has time to see it.
const AT_A_TIME: usize = 10;

/// How often rows are compared with what there is: only an object that was taken away by force leaves one.
const ROWS_EVERY: u64 = 360;

/// Looks again and again until `stop`, once all environments of the share are `listed`.
pub async fn run(ctx: Arc<Context>, share: Arc<Share>, mut listed: watch::Receiver<bool>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        known = listed.wait_for(|listed| *listed) => if known.is_err() { return },
    }
    let mut suspects: HashMap<String, Timestamp> = HashMap::new();
    let mut looks = 0_u64;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !ctx.term.leader.is_leader() {
            continue;
        }
        namespaces(&ctx, &mut suspects).await;
        if looks.is_multiple_of(ROWS_EVERY)
            && let Err(error) = rows(&ctx, &share).await
        {
            tracing::warn!(%error, "rows of environments could not be compared with what there is");
        }
        looks += 1;
    }
}

/// Removes namespaces without an environment.
async fn namespaces(ctx: &Context, suspects: &mut HashMap<String, Timestamp>) {
    let Some(all) = &ctx.namespaces else { return };
    let now = ctx.clock.now();
    let orphans: HashMap<String, String> = all
        .state()
        .into_iter()
        .filter(|found| found.metadata.deletion_timestamp.is_none() && is_orphan(ctx, &found.metadata))
        .filter_map(|found| Some((found.name_any(), found.uid()?)))
        .collect();
    ctx.telemetry.metrics.set_orphans(orphans.len());
    suspects.retain(|name, _| orphans.contains_key(name));
    let mut removed = 0;
    for (name, uid) in orphans {
        let since = *suspects.entry(name.clone()).or_insert(now);
        if since.saturating_add(PATIENCE).is_ok_and(|due| due > now) || removed == AT_A_TIME {
            continue;
        }
        removed += 1;
        match ctx.writer.delete_namespace(&name, &uid).await {
            Ok(()) => tracing::warn!(namespace = name, "removed a namespace whose environment is gone"),
            Err(error) => {
                tracing::warn!(namespace = name, %error, "a namespace whose environment is gone cannot be removed");
            }
        }
    }
}

/// Closes the rows of environments whose object is gone.
async fn rows(ctx: &Context, share: &Share) -> Result<(), StoreError> {
    for (namespace, name, uid) in ctx.store.environments_living(share).await? {
        let found = ctx.environments.get(&ObjectRef::<Environment>::new(&name).within(&namespace));
        if found.is_some() {
            continue;
        }
        tracing::warn!(namespace, name, uid, "an environment is gone without a word; its row is closed");
        ctx.store.environment_ended(&namespace, &name, ctx.clock.now()).await?;
        ctx.store.stage_soft_delete(&namespace, &name).await?;
        let key = StageKey::new(namespace, name);
        ctx.lives.forget(&key);
        ctx.memories.forget(&key);
    }
    Ok(())
}

/// Whether the environment that a namespace was made for is not there any more.
fn is_orphan(ctx: &Context, namespace: &kube::core::ObjectMeta) -> bool {
    let label = |key: &str| namespace.labels.as_ref().and_then(|labels| labels.get(key));
    let uid = namespace.annotations.as_ref().and_then(|annotations| annotations.get(isolation::UID));
    let (Some(home), Some(name), Some(uid)) = (label(labels::HOME), label(labels::ENVIRONMENT), uid) else {
        return false;
    };
    if label(labels::MANAGED_BY).map(String::as_str) != Some(labels::FIELD_MANAGER) {
        return false;
    }
    let found = ctx.environments.get(&ObjectRef::<Environment>::new(name).within(home));
    found.is_none_or(|found| found.metadata.uid.as_ref() != Some(uid))
}
