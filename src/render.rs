//! Pure rendering: a [`Snapshot`] in, Kubernetes objects out. No I/O, no clock, no randomness.
//!
//! Rendering is part of the contract with running clusters: an object that renders differently after an upgrade of
//! this program is written again, and a pod template that does restarts its pods. The golden manifests in
//! `snapshots/` show such a change to whoever makes it.
//!
//! How a deploy uses what is rendered: apply the Services of every wave, until [`Manifests::missing_addresses`] is empty;
//! then pull secrets; then claims, files, secrets and workloads, wave after wave. An object whose [`rendered`] mark is that of the one in the
//! cluster needs no write.

mod access;
mod check;
pub mod discovery;
pub mod gateway;
mod hook;
pub mod isolation;
mod meta;
pub mod names;
mod order;
mod overlay;
mod pod;
pub mod problem;
mod pull;
mod resolve;
mod route;
mod secret;
mod security;
pub mod snapshot;
mod volumes;
mod workload;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod laws;

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, PersistentVolumeClaim, Service},
};

pub use access::bindings;
pub use gateway::HttpRoute;
pub use hook::{HookManifests, hook};
pub use meta::{Context, Fallback, Published, RENDERED, rendered};
pub use problem::{Problem, Problems};
pub use pull::{PullSecret, registry_of};
pub use resolve::{missing_secrets, resolved_hook};
pub use route::{
    RouteObject, backend, fallback_service, instance_route, instance_url, other_routes, published, stage_route,
    stage_service, stage_services, stage_url,
};
pub use secret::{SecretContent, SecretManifest};
pub use snapshot::{Identity, Scope, ServiceSpec, Snapshot, SnapshotError};

use meta::Copy;

/// Everything that an instance consists of, the services that it shares with other instances included.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifests {
    /// Name of the instance.
    pub instance: String,
    /// Services that may start together, wave after wave: those of one wave must be ready before the next starts.
    pub waves: Vec<Wave>,
    /// Logins with which nodes pull the images of the shared services, and those of the instance's own. To be applied
    /// before any pod.
    pub pull: Vec<PullSecret>,
}

/// Services that may start together.
#[derive(Debug, Clone, PartialEq)]
pub struct Wave {
    /// The services, in the order in which they are declared.
    pub services: Vec<ServiceManifests>,
}

/// The objects of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceManifests {
    /// Name of the service in the project.
    pub name: String,
    /// Whether they belong to the instance, or to the stage and outlive it.
    pub scope: Scope,
    /// What pods that run exactly this carry as label [`crate::api::labels::SNAPSHOT`]: readiness of pods with another
    /// value says nothing about this deploy.
    pub revision: String,
    /// Claims for storage. Those with the label `stagekeeper.dev/scope: stage` outlive the instance.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Files that it mounts.
    pub config: Option<ConfigMap>,
    /// Values that it gets, to be filled in and applied before its pods.
    pub secret: Option<SecretManifest>,
    /// Its address; none without ports.
    pub service: Option<Service>,
    /// Its pods.
    pub workload: Deployment,
    /// Names of the Service objects whose addresses its pods are told.
    pub addresses: Vec<String>,
}

impl Manifests {
    /// Every service, wave after wave.
    pub fn services(&self) -> impl Iterator<Item = &ServiceManifests> {
        self.waves.iter().flat_map(|wave| &wave.services)
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&ServiceManifests> {
        self.services().find(|service| service.name == name)
    }

    /// Every Secret: pull secrets, and the values of services.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretManifest> {
        let values = self.services().filter_map(|service| service.secret.as_ref());
        self.pull.iter().map(|pull| &pull.manifest).chain(values)
    }

    /// Those of one scope.
    pub fn secrets_of(&self, scope: Scope) -> impl Iterator<Item = &SecretManifest> {
        let values = self.services().filter(move |service| service.scope == scope);
        let pull = self.pull.iter().filter(move |pull| pull.scope == scope).map(|pull| &pull.manifest);
        pull.chain(values.filter_map(|service| service.secret.as_ref()))
    }

    /// Names of the Service objects that pods are told of and whose addresses `ctx` did not know. As long as there
    /// are any, only Services are to be applied: the workloads would be rendered differently later and restart.
    pub fn missing_addresses(&self, ctx: &Context) -> Vec<&str> {
        let told = self.services().flat_map(|service| &service.addresses);
        let mut missing: Vec<&str> =
            told.map(String::as_str).filter(|name| !ctx.service_ips.contains_key(*name)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Names of the credentials that nodes are to pull with and that `ctx` does not know: nobody has stored them, and
    /// pull secrets are without their logins.
    pub fn missing_credentials(&self, ctx: &Context) -> Vec<&str> {
        let wanted = self.pull.iter().flat_map(|pull| &pull.credentials);
        let missing: BTreeSet<&str> =
            wanted.map(String::as_str).filter(|name| !ctx.credentials.contains_key(*name)).collect();
        missing.into_iter().collect()
    }
}

/// Renders everything that `instance` consists of. What its services share with other instances is rendered from this
/// snapshot too: of the instances of a stage, only the newest deploy's may write it, or they would undo each other.
///
/// # Errors
/// What is wrong with the snapshot; never for one that [`Snapshot::build`] made with this version of the program.
pub fn instance(snapshot: &Snapshot, instance: &str, ctx: &Context) -> Result<Manifests, Problems> {
    instance_of(snapshot, &snapshot.hash(), instance, ctx)
}

/// As [`instance`], for a caller who knows the snapshot's hash: finding it out is a good part of the work.
///
/// # Errors
/// What is wrong with the snapshot.
pub fn instance_of(snapshot: &Snapshot, hash: &str, instance: &str, ctx: &Context) -> Result<Manifests, Problems> {
    let order = order::waves(&snapshot.services).map_err(|circle| order::problem(&circle))?;
    let waves = order.into_iter().map(|wave| {
        let services = wave.into_iter().map(|service| {
            let copy = Copy::new(snapshot, service, instance);
            workload::manifests(&copy, instance, hash, ctx)
        });
        Ok(Wave { services: services.collect::<Result<_, Problems>>()? })
    });
    Ok(Manifests {
        instance: instance.to_owned(),
        waves: waves.collect::<Result<_, Problems>>()?,
        pull: pull::secrets(snapshot, instance, ctx),
    })
}
