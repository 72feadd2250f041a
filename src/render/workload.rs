//! The objects of one copy of a service: Service and Deployment.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{self, PodTemplateSpec, ServicePort, ServiceSpec as V1ServiceSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    ServiceManifests, discovery,
    meta::{self, Context, Copy},
    names, pod,
    problem::Problems,
    secret,
    snapshot::{Port, Scope},
    volumes,
};
use crate::{api::labels, domain::deploy::Strategy};

/// Seconds after which Kubernetes calls a rollout stuck; only evidence, the deploy has deadlines of its own.
const PROGRESS_DEADLINE: i32 = 600;

/// Everything of one copy. `hash` is the snapshot's.
pub(super) fn manifests(
    copy: &Copy<'_>,
    instance: &str,
    hash: &str,
    ctx: &Context,
) -> Result<ServiceManifests, Problems> {
    let known = discovery::known_to(copy, instance);
    let mut template = pod::template(copy, &known, &ctx.service_ips)?;
    // An instance's pods carry the snapshot, so that the readiness of the pods before says nothing about this
    // deploy. The shared copy's carry what they are, so that a deploy that does not change them does not restart them.
    let revision = match copy.service.scope {
        Scope::Instance => names::revision(hash),
        Scope::Stage => names::revision(&meta::content_hash(&template)),
    };
    let pod_labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    pod_labels.insert(labels::SNAPSHOT.into(), revision.clone());
    Ok(ServiceManifests {
        name: copy.service.name.clone(),
        scope: copy.service.scope,
        claims: volumes::claims(copy, ctx),
        config: volumes::config(copy, ctx),
        secret: secret::values(copy, ctx),
        service: service(copy, ctx),
        workload: deployment(copy, template, &revision, ctx),
        addresses: known.into_iter().map(|address| address.object).collect(),
        revision,
    })
}

fn deployment(copy: &Copy<'_>, template: PodTemplateSpec, revision: &str, ctx: &Context) -> Deployment {
    let mut all = copy.workload_labels();
    all.insert(labels::SNAPSHOT.into(), revision.to_owned());
    let deployment = Deployment {
        metadata: meta::meta(copy.snapshot, copy.name(), all, ctx),
        spec: Some(DeploymentSpec {
            replicas: Some(copy.service.replicas),
            selector: LabelSelector { match_labels: Some(copy.selector()), match_expressions: None },
            strategy: Some(strategy(copy)),
            template,
            // The way back is a stored snapshot, not an old ReplicaSet.
            revision_history_limit: Some(0),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE),
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    meta::marked(deployment, ctx)
}

/// Pod by pod without ever having less than wanted; all at once where the stage says so, or where two pods at a time
/// would fight over a claim.
fn strategy(copy: &Copy<'_>) -> DeploymentStrategy {
    let all_at_once = copy.snapshot.strategy == Strategy::Recreate;
    if all_at_once || volumes::are_exclusive(copy.service) {
        return DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None };
    }
    DeploymentStrategy {
        type_: Some("RollingUpdate".into()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::String("25%".into())),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

/// The copy's own Service; none without ports.
fn service(copy: &Copy<'_>, ctx: &Context) -> Option<v1::Service> {
    let metadata = copy.meta(copy.name(), ctx);
    cluster_ip(metadata, &copy.service.ports, copy.selector(), ctx)
}

/// A Service over these ports; none without ports.
pub(super) fn cluster_ip(
    metadata: ObjectMeta,
    ports: &[Port],
    selector: BTreeMap<String, String>,
    ctx: &Context,
) -> Option<v1::Service> {
    let ports: Vec<ServicePort> = ports
        .iter()
        .map(|port| ServicePort {
            name: Some(port.name.clone()),
            port: port.port,
            protocol: Some("TCP".into()),
            target_port: Some(IntOrString::String(port.name.clone())),
            ..ServicePort::default()
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    let service = v1::Service {
        metadata,
        spec: Some(V1ServiceSpec {
            type_: Some("ClusterIP".into()),
            ports: Some(ports),
            selector: Some(selector),
            ..V1ServiceSpec::default()
        }),
        status: None,
    };
    Some(meta::marked(service, ctx))
}
