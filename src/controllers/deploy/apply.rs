//! Effects on the cluster: server-side applies that cost nothing where they hold already.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};

use super::{
    Target,
    ledger::Entry,
    observe::{self, Planned},
    routes, workloads,
};
use crate::{
    api::labels,
    cluster::{
        apply::Doomed,
        index::{Meta, StageChildren, StageKey, View},
    },
    controllers::{context::Context, error::Error},
    render::{self, ServiceManifests},
};

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
        for service in missing {
            ctx.writer.apply(service).await?;
        }
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
            children.workload(name).and_then(|view| view.meta.rendered.as_deref())
                != render::rendered(&service.workload)
        })
        .collect();
    let any = !due.is_empty();
    for service in due {
        workload(ctx, service).await?;
    }
    Ok(any)
}

async fn workload(ctx: &Context, service: &ServiceManifests) -> Result<(), Error> {
    let ServiceManifests { name: _, scope: _, revision: _, claims, config, service: _, workload, addresses: _ } =
        service;
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
pub async fn traffic(
    ctx: &Context,
    target: &Target<'_>,
    entry: &Entry,
    children: &StageChildren,
) -> Result<bool, Error> {
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
pub async fn delete<K>(ctx: &Context, key: &StageKey, objects: Vec<&Meta>) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()>,
{
    for meta in objects {
        if !meta.deleting {
            let doomed = Doomed { namespace: &key.namespace, name: &meta.name, uid: Some(&meta.uid) };
            ctx.writer.delete::<K>(doomed).await?;
        }
    }
    Ok(())
}

/// Identities of the objects.
pub fn metas<'a, V: View + 'a>(views: impl Iterator<Item = &'a V>) -> Vec<&'a Meta> {
    views.map(View::meta).collect()
}

/// Deletes claims and files of one instance, or of the whole stage.
pub async fn delete_storage(ctx: &Context, key: &StageKey, instance: Option<&str>) -> Result<(), Error> {
    let mut of = vec![(labels::STAGE, &*key.name)];
    of.extend(instance.map(|name| (labels::INSTANCE, name)));
    ctx.writer.delete_labelled::<PersistentVolumeClaim>(&key.namespace, &of).await?;
    ctx.writer.delete_labelled::<ConfigMap>(&key.namespace, &of).await?;
    Ok(())
}
