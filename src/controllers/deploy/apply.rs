//! Effects on the cluster: server-side applies that cost nothing where they hold already.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{
    observe::{self, Planned},
    routes::Wanted,
    workloads,
};
use crate::{
    cluster::index::StageChildren,
    controllers::{context::Context, error::Error},
    render::{self, ServiceManifests, Snapshot},
};

/// Calls at a time for one target: enough for projects of several services, few enough to be fair to others.
const AT_ONCE: usize = 4;

/// Brings the instance's objects up to what its dependencies allow. Returns whether anything was written.
///
/// Services come first, because pods are told their addresses; then, wave after wave, claims and files before the pods
/// that mount them.
pub async fn instance(ctx: &Context, planned: &Planned, children: &StageChildren) -> Result<bool, Error> {
    let missing: Vec<_> = planned
        .manifests
        .services()
        .filter_map(|service| service.service.as_ref())
        .filter(|service| {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            children.service(name).and_then(|view| view.meta.rendered.as_deref()) != render::rendered(*service)
        })
        .collect();
    if !missing.is_empty() {
        stream::iter(missing).map(|service| ctx.writer.apply(service)).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        return Ok(true);
    }
    if planned.lacks_addresses {
        return Ok(false);
    }
    let frontier = workloads::frontier(&planned.expected, children);
    let due: Vec<&ServiceManifests> = planned
        .manifests
        .waves
        .iter()
        .take(frontier + 1)
        .flat_map(|wave| &wave.services)
        .filter(|service| {
            let name = service.workload.metadata.name.as_deref().unwrap_or_default();
            children.workload(name).and_then(|view| view.meta.rendered.as_deref()) != render::rendered(&service.workload)
        })
        .collect();
    let any = !due.is_empty();
    stream::iter(due).map(|service| workload(ctx, service)).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(any)
}

async fn workload(ctx: &Context, service: &ServiceManifests) -> Result<(), Error> {
    let ServiceManifests { name: _, scope: _, revision: _, claims, config, service: _, workload, addresses: _ } = service;
    for claim in claims {
        ctx.writer.apply(claim).await?;
    }
    if let Some(config) = config {
        ctx.writer.apply(config).await?;
    }
    ctx.writer.apply(workload).await?;
    Ok(())
}

/// Points the target's stable Services at `instance`. Returns whether anything was written.
pub async fn traffic(
    ctx: &Context,
    snapshot: &Snapshot,
    instance: &str,
    owner: &OwnerReference,
    children: &StageChildren,
) -> Result<bool, Error> {
    let mut any = false;
    for service in observe::routed(snapshot) {
        let object = render::stage::service(snapshot, service, instance, owner);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let seen = children.service(name);
        if seen.and_then(|view| view.meta.rendered.as_deref()) != render::rendered(&object) {
            ctx.writer.apply(&object).await?;
            any = true;
        }
    }
    Ok(any)
}

/// Makes the routes that are wanted. Returns whether anything was written.
pub async fn routes(ctx: &Context, wanted: &[Wanted], children: &StageChildren) -> Result<bool, Error> {
    let mut any = false;
    for one in wanted {
        if one.view(children).and_then(|view| view.meta.rendered.as_deref()) != one.rendered() {
            one.apply(&ctx.writer).await?;
            any = true;
        }
    }
    Ok(any)
}
