//! Effects on the cluster: server-side applies that cost nothing where they hold already.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;

use super::{
    Target,
    ledger::Entry,
    observe::{self, Planned},
    routes, workloads,
};
use crate::{
    cluster::{apply::Doomed, index::{Meta, StageChildren}},
    controllers::{context::Context, error::Error},
    render::{self, ServiceManifests},
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

/// Points the target's stable Services at the instance of `entry`. Returns whether anything was written.
pub async fn traffic(ctx: &Context, target: &Target<'_>, entry: &Entry, children: &StageChildren) -> Result<bool, Error> {
    let at = observe::context(entry, &target.owner, children);
    let wanted = render::stage_services(&entry.snapshot, Some(&entry.deploy.instance), &at);
    stable_services(ctx, &wanted, children).await
}

/// Makes the routes that the target wants for the instance of `entry`, and the stable Services that they lead to if
/// there are none yet. Returns whether anything was written.
pub async fn routes(
    ctx: &Context,
    target: &Target<'_>,
    entry: &Entry,
    active: Option<&str>,
    children: &StageChildren,
) -> Result<bool, Error> {
    let at = observe::context(entry, &target.owner, children);
    let wanted = routes::wanted(target.route, &entry.snapshot, &[&entry.deploy.instance], &at);
    if wanted.is_empty() {
        return Ok(false);
    }
    let mut stable = render::stage_services(&entry.snapshot, active, &at);
    stable.retain(|service| children.service(service.metadata.name.as_deref().unwrap_or_default()).is_none());
    let mut any = stable_services(ctx, &stable, children).await?;
    for one in &wanted {
        if !one.holds(children) {
            one.apply(ctx).await?;
            any = true;
        }
    }
    Ok(any)
}

async fn stable_services(ctx: &Context, wanted: &[Service], children: &StageChildren) -> Result<bool, Error> {
    let mut any = false;
    for object in wanted {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if children.service(name).and_then(|view| view.meta.rendered.as_deref()) != render::rendered(object) {
            ctx.writer.apply(object).await?;
            any = true;
        }
    }
    Ok(any)
}

/// Deletes the objects that are not being deleted already.
pub async fn delete<'a, K>(ctx: &Context, target: &Target<'_>, metas: impl Iterator<Item = &'a Meta>) -> Result<bool, Error>
where
    K: kube::Resource<DynamicType = ()>,
{
    let mut any = false;
    for meta in metas.filter(|meta| !meta.deleting) {
        let doomed = Doomed { namespace: &target.key.namespace, name: &meta.name, uid: Some(&meta.uid) };
        ctx.writer.delete::<K>(doomed).await?;
        any = true;
    }
    Ok(any)
}
