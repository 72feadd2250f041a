//! How the parts of an application find each other.
//!
//! A pod of an instance is told the addresses of its own instance's services and of those that the stage's instances
//! share, never those of another instance. It gets them twice: as variables, and as entries of its hosts file that map
//! the service's plain name and its DNS name to the cluster address, so that nothing depends on cluster DNS.
//!
//! The shared copy of a service is told only what it depends on: whatever else joins or leaves the project must not
//! restart a database.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, HostAlias};

use super::{
    meta::Copy,
    snapshot::{Scope, ServiceSpec, Snapshot},
};

/// Prefix of every variable that is set here; the project's own variables may not begin with it.
pub const PREFIX: &str = "STAGEKEEPER_";

/// Where one service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Name of the service in the project.
    service: String,
    /// Name of the Service object.
    pub(super) object: String,
    /// DNS name, without the cluster's domain, which nobody here knows.
    host: String,
    port: i32,
}

/// Addresses of the services with ports that `wanted` chooses.
pub(super) fn addresses(snapshot: &Snapshot, instance: &str, wanted: impl Fn(&ServiceSpec) -> bool) -> Vec<Address> {
    let chosen = snapshot.services.iter().filter(|service| wanted(service));
    let address = |service: &ServiceSpec| {
        let object = Copy::new(snapshot, service, instance).name();
        Some(Address {
            service: service.name.clone(),
            host: format!("{object}.{}.svc", snapshot.identity.namespace),
            object,
            port: service.ports.first()?.port,
        })
    };
    let mut addresses: Vec<Address> = chosen.filter_map(address).collect();
    addresses.sort_by(|a, b| a.service.cmp(&b.service));
    addresses
}

/// What a copy of a service is told.
pub(super) fn known_to(copy: &Copy<'_>, instance: &str) -> Vec<Address> {
    let own = &copy.service.name;
    addresses(copy.snapshot, instance, |other| match copy.service.scope {
        Scope::Instance => other.name != *own,
        Scope::Stage => copy.service.depends_on.contains(&other.name),
    })
}

/// The variables: who this is and where the others are.
pub(super) fn env(snapshot: &Snapshot, instance: Option<&str>, known: &[Address]) -> Vec<EnvVar> {
    let mut env = vec![variable("PROJECT", &snapshot.identity.project), variable("STAGE", &snapshot.identity.stage)];
    if let Some(instance) = instance {
        env.push(variable("INSTANCE", instance));
        env.push(variable("RELEASE", snapshot.release.id().short()));
    }
    for address in known {
        let name = address.service.to_uppercase().replace('-', "_");
        env.push(variable(&format!("SERVICE_{name}_HOST"), &address.host));
        let port = address.port.to_string();
        env.push(variable(&format!("SERVICE_{name}_PORT"), &port));
    }
    env
}

/// A variable with our prefix.
pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: format!("{PREFIX}{name}"), value: Some(value.to_owned()), value_from: None }
}

/// The entries of the hosts file, as far as cluster addresses are known.
pub(super) fn host_aliases(known: &[Address], service_ips: &BTreeMap<String, String>) -> Option<Vec<HostAlias>> {
    let aliases = known.iter().filter_map(|address| {
        Some(HostAlias {
            ip: service_ips.get(&address.object)?.clone(),
            hostnames: Some(vec![address.service.clone(), address.host.clone()]),
        })
    });
    let aliases: Vec<HostAlias> = aliases.collect();
    (!aliases.is_empty()).then_some(aliases)
}
