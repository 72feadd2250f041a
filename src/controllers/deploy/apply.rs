//! Effects on the cluster: server-side applies that cost nothing where they hold already.

use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolumeClaim, Service},
    networking::v1::Ingress,
};

use super::{
    Target,
    ledger::Entry,
    plan::Planned,
    routes, values,
    workloads::{self, Expected},
};
use crate::{
    api::labels,
    cluster::{
        apply::Doomed,
        index::{Meta, StageChildren, StageKey, View},
    },
    controllers::{context::Context, error::Error},
    domain::deploy::State,
    render::{self, RouteObject, Scope, SecretManifest, ServiceManifests, gateway::HttpRoute},
};

/// Brings the instance's objects up to what its dependencies allow. Returns whether anything was written.
pub async fn instance(
    ctx: &Context,
    target: &Target<'_>,
    entry: &mut Entry,
    planned: &Planned,
    children: &StageChildren,
) -> Result<bool, Error> {
    let first = secrets(ctx, target, entry, planned, planned.manifests.secrets(), children).await?;
    Ok(first || carry_out(ctx, &due(planned, children, |_| true)).await?)
}

/// The same for what all instances share.
pub async fn shared(
    ctx: &Context,
    target: &Target<'_>,
    entry: &mut Entry,
    planned: &Planned,
    children: &StageChildren,
) -> Result<bool, Error> {
    let shared = planned.manifests.secrets_of(Scope::Stage);
    let first = secrets(ctx, target, entry, planned, shared, children).await?;
    Ok(first || carry_out(ctx, &due(planned, children, |service| service.scope == Scope::Stage)).await?)
}

/// Makes Secrets that are missing, and brings pull secrets up to today's credentials. Values are opened only if
/// something has to be written. Returns whether anything was.
pub async fn secrets(
    ctx: &Context,
    target: &Target<'_>,
    entry: &mut Entry,
    planned: &Planned,
    wanted: impl Iterator<Item = &SecretManifest>,
    children: &StageChildren,
) -> Result<bool, Error> {
    let due: Vec<&SecretManifest> = wanted
        .filter(|one| children.secret(one.name()).and_then(|view| view.meta.rendered.as_deref()) != one.rendered())
        .collect();
    if due.is_empty() {
        return Ok(false);
    }
    // What serves keeps what it has; nothing new starts without what it is to be pulled with.
    if let Some(name) = planned.unstored.first().filter(|_| entry.deploy.state != State::Success) {
        return Err(values::missing(&entry.snapshot.identity.project, name));
    }
    entry.screen = values::open(ctx, target, entry, planned).await?;
    for one in due {
        let mut filled = entry.screen.fill(one)?;
        let applied = ctx.writer.apply(&filled).await;
        values::wipe(&mut filled);
        applied.map_err(|error| entry.screen.error(error))?;
    }
    Ok(true)
}

/// What is to be written now.
#[derive(Debug, PartialEq)]
enum Due<'a> {
    /// Addresses come first, because pods are told them.
    Addresses(Vec<&'a Service>),
    /// Pods, with the claims and files that they mount.
    Pods(Vec<&'a ServiceManifests>),
}

/// Decides: Services, then, wave after wave, pods. Nothing while addresses are not known: pods that are told of them
/// later would start anew.
fn due<'a>(planned: &'a Planned, children: &StageChildren, wanted: impl Fn(&ServiceManifests) -> bool) -> Due<'a> {
    let services: Vec<&ServiceManifests> = planned.manifests.services().filter(|service| wanted(service)).collect();
    let addresses = services.iter().filter_map(|service| service.service.as_ref());
    let missing: Vec<&Service> = addresses
        .filter(|service| {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            children.service(name).and_then(|view| view.meta.rendered.as_deref()) != render::rendered(*service)
        })
        .collect();
    if !missing.is_empty() {
        return Due::Addresses(missing);
    }
    if services.iter().any(|service| service.addresses.iter().any(|name| planned.missing.contains(name))) {
        return Due::Pods(Vec::new());
    }
    let of = |service: &ServiceManifests| planned.expected.iter().find(|one| one.service == service.name);
    let expected: Vec<Expected> = services.iter().filter_map(|service| of(service)).cloned().collect();
    let frontier = workloads::frontier(&expected, children);
    let pods = expected.iter().filter(|one| one.wave <= frontier).filter(|one| {
        let view = children.workload(&one.workload);
        view.and_then(|view| view.meta.rendered.as_deref()) != Some(&one.rendered)
    });
    Due::Pods(pods.filter_map(|one| planned.manifests.service(&one.service)).collect())
}

async fn carry_out(ctx: &Context, due: &Due<'_>) -> Result<bool, Error> {
    match due {
        Due::Addresses(services) => {
            for service in services {
                ctx.writer.apply(*service).await?;
            }
            Ok(!services.is_empty())
        }
        Due::Pods(services) => {
            for service in services {
                workload(ctx, service).await?;
            }
            Ok(!services.is_empty())
        }
    }
}

async fn workload(ctx: &Context, service: &ServiceManifests) -> Result<(), Error> {
    let ServiceManifests {
        name: _,
        scope: _,
        revision: _,
        claims,
        config,
        secret: _,
        service: _,
        workload,
        addresses: _,
    } = service;
    for claim in claims {
        ctx.writer.apply(claim).await?;
    }
    if let Some(config) = config {
        ctx.writer.apply(config).await?;
    }
    ctx.writer.apply(workload).await?;
    Ok(())
}

/// Points the target's stable Services at the instance. Returns whether anything was written.
pub async fn traffic(ctx: &Context, planned: &Planned, children: &StageChildren) -> Result<bool, Error> {
    stable_services(ctx, &planned.traffic, children).await
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
    let at = entry.context(target, children);
    let wanted = routes::wanted(target, &entry.snapshot, &[&entry.deploy.instance], &at);
    if wanted.is_empty() {
        return Ok(false);
    }
    let mut stable = render::stage_services(&entry.snapshot, active, &at);
    stable.retain(|service| children.service(service.metadata.name.as_deref().unwrap_or_default()).is_none());
    stable.extend(routes::fallback_service(target, &entry.snapshot, &at));
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
    let mut of = vec![format!("{}={}", labels::STAGE, key.name)];
    of.extend(instance.map(|name| format!("{}={name}", labels::INSTANCE)));
    ctx.writer.delete_labelled::<PersistentVolumeClaim>(&key.namespace, &of, &[]).await?;
    ctx.writer.delete_labelled::<ConfigMap>(&key.namespace, &of, &[]).await?;
    Ok(())
}

/// Removes the target's routes that are no longer wanted: the declaration changed its kind or took it back. Routes of
/// instances go with their instance.
pub async fn prune_routes(
    ctx: &Context,
    target: &Target<'_>,
    entry: &Entry,
    children: &StageChildren,
) -> Result<(), Error> {
    let strays = children.services().any(|view| view.meta.service.is_none());
    let name = strays.then(|| render::names::fallback_service(&target.place.name));
    let fallback = name.and_then(|name| children.service(&name));
    if children.ingresses().next().is_none() && children.http_routes().next().is_none() && fallback.is_none() {
        return Ok(());
    }
    let at = entry.context(target, children);
    let wanted = routes::wanted(target, &entry.snapshot, &[], &at);
    let keep =
        |kind: fn(&RouteObject) -> bool, name: &str| wanted.iter().any(|one| kind(one.object()) && one.name() == name);
    let ingresses = children
        .ingresses()
        .map(|view| view.meta())
        .filter(|meta| meta.instance.is_none() && !keep(|one| matches!(one, RouteObject::Ingress(_)), &meta.name))
        .collect();
    delete::<Ingress>(ctx, &target.place, ingresses).await?;
    let routes = children
        .http_routes()
        .map(|view| view.meta())
        .filter(|meta| meta.instance.is_none() && !keep(|one| matches!(one, RouteObject::HttpRoute(_)), &meta.name))
        .collect();
    delete::<HttpRoute>(ctx, &target.place, routes).await?;
    // Last: until then an Ingress may lead there.
    let fallback = fallback.filter(|_| routes::fallback_service(target, &entry.snapshot, &at).is_none());
    delete::<Service>(ctx, &target.place, fallback.map(|view| &view.meta).into_iter().collect()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
