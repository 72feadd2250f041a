//! Deleting a stage: what it made goes, its history stays.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Secret, Service},
    networking::v1::Ingress,
};
use kube::{ResourceExt as _, runtime::controller::Action};
use std::{collections::BTreeMap, time::Duration};

use super::{memory::Memory, recall};
use crate::{
    api::{Stage, labels::FINALIZER},
    cluster::index::StageKey,
    controllers::{
        context::{Context, Taken},
        deploy::{apply, record},
        error::Error,
    },
    domain::deploy::{State, stopped},
    render::gateway::HttpRoute,
};

/// How long children may take to go before the finalizer is looked at again; a child that goes triggers a pass anyway.
const RECHECK: Duration = Duration::from_secs(5);

/// Removes the children, closes what is open, marks the row, and lets the object go. Needs only the stage's identity,
/// never a valid spec; "already gone" is done.
pub async fn cleanup(stage: &Stage, key: &StageKey, ctx: &Context) -> Result<Action, Error> {
    if !stage.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    ctx.images.subscribe(&(key.namespace.to_string(), key.name.to_string()), &BTreeMap::new());
    match ctx.memories.take(key) {
        Taken::Lent => return Ok(Action::await_change()),
        Taken::Nothing => {}
        Taken::Memory(mut memory) => {
            if let Err(error) = stop(ctx, stage, key, &mut memory).await {
                ctx.memories.put(key.clone(), memory);
                return Err(error);
            }
        }
    }
    let gone = children(ctx, key).await?;
    ctx.store.stage_soft_delete(&key.namespace, &key.name).await?;
    if gone {
        let others: Vec<&str> = stage.finalizers().iter().map(String::as_str).filter(|one| *one != FINALIZER).collect();
        ctx.writer.set_finalizers(stage, &others).await?;
        return Ok(Action::await_change());
    }
    Ok(Action::requeue(RECHECK))
}

/// Removes whatever was made there. Says whether nothing is left.
pub async fn children(ctx: &Context, key: &StageKey) -> Result<bool, Error> {
    let children = ctx.index.stage(key);
    apply::delete::<HttpRoute>(ctx, key, apply::metas(children.http_routes())).await?;
    apply::delete::<Ingress>(ctx, key, apply::metas(children.ingresses())).await?;
    apply::delete::<Deployment>(ctx, key, apply::metas(children.workloads())).await?;
    apply::delete::<Service>(ctx, key, apply::metas(children.services())).await?;
    apply::delete::<Job>(ctx, key, apply::metas(children.jobs())).await?;
    apply::delete::<Secret>(ctx, key, apply::metas(children.secrets())).await?;
    apply::delete_storage(ctx, key, None).await?;
    Ok(ctx.index.stage(key).is_empty())
}

/// Ends what is under way, so that a stage of the same name begins with nothing open.
async fn stop(ctx: &Context, stage: &Stage, key: &StageKey, memory: &mut Memory) -> Result<(), Error> {
    let mut ledger = recall::ledger(ctx, memory).await?;
    let target = super::target(ctx, stage, None, key, memory);
    while let Some(entry) = ledger.open.first() {
        let from = entry.deploy.state;
        let why = || "the stage was deleted".to_owned();
        let (steps, close) = match from {
            State::Failed => (Vec::new(), Some(why())),
            _ => (vec![stopped(&entry.deploy, why())], None),
        };
        record::advance(ctx, &target, &mut ledger, 0, &steps, close, &record::Moved::default(), ctx.clock.now())
            .await?;
    }
    Ok(())
}
