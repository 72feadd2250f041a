//! Deleting a stage: what it made goes, its history stays.

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Service, networking::v1::Ingress};
use kube::{ResourceExt as _, runtime::controller::Action};
use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{Stage, labels::FINALIZER},
    cluster::index::StageKey,
    controllers::{context::Context, deploy::apply, error::Error},
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
    drop(ctx.memories.take(key));
    let children = ctx.index.stage(key);
    apply::delete::<HttpRoute>(ctx, key, apply::metas(children.http_routes())).await?;
    apply::delete::<Ingress>(ctx, key, apply::metas(children.ingresses())).await?;
    apply::delete::<Deployment>(ctx, key, apply::metas(children.workloads())).await?;
    apply::delete::<Service>(ctx, key, apply::metas(children.services())).await?;
    apply::delete::<Job>(ctx, key, apply::metas(children.jobs())).await?;
    apply::delete_storage(ctx, key, None).await?;
    ctx.store.stage_soft_delete(&key.namespace, &key.name).await?;
    if ctx.index.stage(key).is_empty() {
        let others: Vec<&str> = stage.finalizers().iter().map(String::as_str).filter(|one| *one != FINALIZER).collect();
        ctx.writer.set_finalizers(stage, &others).await?;
        return Ok(Action::await_change());
    }
    Ok(Action::requeue(RECHECK))
}
