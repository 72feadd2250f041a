//! Logins with which nodes pull: one object for an instance's own services, and one for those that all instances share.
//!
//! Both have fixed names and are updated in place: another password is another content, and neither another deploy nor
//! another pod.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::LocalObjectReference;

use super::{
    meta::{self, Context, Copy},
    names,
    secret::{SecretContent, SecretManifest},
    snapshot::{Scope, ServiceSpec, Snapshot},
};
use crate::{api::labels, domain::image::Repository};

/// Logins for the services of one scope.
#[derive(Debug, Clone, PartialEq)]
pub struct PullSecret {
    /// Whether they are for the instance's own services, or for those that the stage's instances share.
    pub scope: Scope,
    /// The object.
    pub manifest: SecretManifest,
    /// Names of the credentials that its services want, stored or not.
    pub credentials: BTreeSet<String>,
}

/// The registry of a place in [`SecretContent::Logins`]: `ghcr.io` of `ghcr.io` and of `ghcr.io/acme/shop`.
pub fn registry_of(place: &str) -> &str {
    place.split('/').next().unwrap_or(place)
}

/// The object that a copy's pods name, whatever credentials are stored; none for an image that needs no login.
pub(super) fn reference(copy: &Copy<'_>) -> Option<Vec<LocalObjectReference>> {
    copy.service.pull_credential.as_ref()?;
    Some(vec![LocalObjectReference { name: names::pull_secret(&copy.snapshot.identity.stage, copy.instance()) }])
}

/// The objects of an instance: that of the shared services first, as they start first.
pub(super) fn secrets(snapshot: &Snapshot, instance: &str, ctx: &Context) -> Vec<PullSecret> {
    let scopes = [(Scope::Stage, None), (Scope::Instance, Some(instance))];
    let wanted = scopes.into_iter().filter(|(scope, _)| pulling(snapshot, *scope).next().is_some());
    wanted.map(|(_, instance)| secret(snapshot, instance, ctx)).collect()
}

/// The services of a scope whose images need a login, each with its credential.
fn pulling(snapshot: &Snapshot, scope: Scope) -> impl Iterator<Item = (&ServiceSpec, &str)> {
    let services = snapshot.services.iter().filter(move |service| service.scope == scope);
    services.filter_map(|service| Some((service, service.pull_credential.as_deref()?)))
}

/// The object of one instance, or of the services that the stage's instances share. A login whose credential nobody has
/// stored is left out: the images of other registries can be pulled all the same.
pub(super) fn secret(snapshot: &Snapshot, instance: Option<&str>, ctx: &Context) -> PullSecret {
    let scope = if instance.is_some() { Scope::Instance } else { Scope::Stage };
    let stage = &snapshot.identity.stage;
    let mut all = meta::shared_labels(snapshot);
    let word = match instance {
        Some(instance) => {
            all.insert(labels::INSTANCE.into(), instance.to_owned());
            labels::SCOPE_INSTANCE
        }
        None => labels::SCOPE_STAGE,
    };
    all.insert(labels::SCOPE.into(), word.to_owned());
    let metadata = meta::meta(snapshot, names::pull_secret(stage, instance), all, ctx);

    let mut logins = logins(snapshot, scope);
    let credentials = logins.values().cloned().collect();
    logins.retain(|_, credential| ctx.credentials.contains_key(credential));
    let versions: BTreeMap<&String, Option<&i64>> =
        logins.values().map(|name| (name, ctx.credentials.get(name))).collect();
    let manifest = SecretManifest::marked(metadata, SecretContent::Logins(logins.clone()), &(&logins, versions), ctx);
    PullSecret { scope, manifest, credentials }
}

/// The credential by registry; by repository where services of the scope name different ones for one registry.
fn logins(snapshot: &Snapshot, scope: Scope) -> BTreeMap<String, String> {
    let mut of_registry: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (service, credential) in pulling(snapshot, scope) {
        let image = snapshot.release.0.get(&service.name);
        let Some(repository) = image.and_then(|image| image.repository.parse::<Repository>().ok()) else {
            continue;
        };
        let place = format!("{}/{}", repository.registry(), repository.path());
        of_registry.entry(repository.registry().to_owned()).or_default().insert(place, credential.to_owned());
    }
    let mut logins = BTreeMap::new();
    for (registry, of_repository) in of_registry {
        let named: BTreeSet<&String> = of_repository.values().collect();
        match named.first() {
            Some(one) if named.len() == 1 => {
                logins.insert(registry, (*one).clone());
            }
            _ => logins.extend(of_repository),
        }
    }
    logins
}

#[cfg(test)]
mod tests;
