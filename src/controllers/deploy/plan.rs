//! An instance as it should be.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};

use super::workloads::Expected;
use crate::render::{self, Manifests, Problems, Scope, Snapshot};

/// An instance as it should be: rendered, with what is looked for in the cluster.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Everything it consists of.
    pub manifests: Manifests,
    /// What its workloads look like once applied.
    pub expected: Vec<Expected>,
    /// The target's stable Services, leading to it.
    pub traffic: Vec<Service>,
    /// Names of the Services whose addresses pods need and that do not exist yet.
    pub missing: Vec<String>,
    /// Names of the credentials that nodes are to pull with and that nobody has stored.
    pub unstored: Vec<String>,
}

/// Renders the instance of a snapshot with this hash.
pub fn plan(snapshot: &Snapshot, hash: &str, instance: &str, ctx: &render::Context) -> Result<Planned, Problems> {
    let manifests = render::instance_of(snapshot, hash, instance, ctx)?;
    let missing = manifests.missing_addresses(ctx).into_iter().map(str::to_owned).collect();
    let unstored = manifests.missing_credentials(ctx).into_iter().map(str::to_owned).collect();
    let expected = manifests
        .waves
        .iter()
        .enumerate()
        .flat_map(|(wave, services)| services.services.iter().map(move |service| (wave, service)))
        .map(|(wave, service)| Expected {
            service: service.name.clone(),
            workload: service.workload.metadata.name.clone().unwrap_or_default(),
            rendered: render::rendered(&service.workload).unwrap_or_default().to_owned(),
            revision: service.revision.clone(),
            replicas: replicas(&service.workload),
            wave,
            shared: service.scope == Scope::Stage,
        })
        .collect();
    let traffic = render::stage_services(snapshot, Some(instance), ctx);
    Ok(Planned { manifests, expected, traffic, missing, unstored })
}

impl Planned {
    /// Whether it would be rendered the same with these addresses and credentials in place of those: most addresses are
    /// nothing that its pods are told.
    pub fn same_with(&self, these: &render::Context, those: &render::Context) -> bool {
        let mut told = self.manifests.services().flat_map(|service| &service.addresses);
        these.owner == those.owner
            && these.deploy == those.deploy
            && these.credentials == those.credentials
            && these.edge == those.edge
            && told.all(|name| these.service_ips.get(name) == those.service_ips.get(name))
    }
}

fn replicas(workload: &Deployment) -> u32 {
    let declared = workload.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    u32::try_from(declared).unwrap_or_default()
}
