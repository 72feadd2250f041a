//! What is read of an object's JSON: only the fields that a view needs, everything else is skipped while parsing.
//!
//! Every field is optional, so that no object can stop the watch that delivers it.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::view::{
    Because, Condition, ContainerView, Exit, JobView, Kind, MESSAGE_CHARS, Meta, PodPhase, PodView, RouteView,
    ServiceView, StageKey, WorkloadView,
};
use crate::cluster::cut;

/// An object as it was seen at one resource version.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) stage: StageKey,
    pub(super) version: u64,
    pub(super) view: AnyView,
}

/// A view of some kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AnyView {
    Workload(WorkloadView),
    Pod(PodView),
    Service(ServiceView),
    Job(JobView),
    Ingress(RouteView),
    HttpRoute(RouteView),
}

impl AnyView {
    pub(super) fn meta(&self) -> &Meta {
        match self {
            Self::Workload(v) => &v.meta,
            Self::Pod(v) => &v.meta,
            Self::Service(v) => &v.meta,
            Self::Job(v) => &v.meta,
            Self::Ingress(v) | Self::HttpRoute(v) => &v.meta,
        }
    }
}

/// A kind as it comes from the API server.
pub(super) trait Wire: DeserializeOwned + Clone + Send + 'static {
    fn head(&self) -> &Head;

    fn view(self) -> AnyView;

    /// None for an object that does not belong to a stage.
    fn reduce(self) -> Option<Seen> {
        let head = self.head();
        let stage = head.labels.as_ref()?.stage.clone()?;
        let stage = StageKey { namespace: head.namespace.clone()?, name: stage };
        let version = head.version();
        Some(Seen { stage, version, view: self.view() })
    }
}

/// Reads an object of a known kind; none if it does not belong to a stage.
pub(super) fn read(kind: Kind, json: &str) -> Result<Option<Seen>, serde_json::Error> {
    fn of<W: Wire>(json: &str) -> Result<Option<Seen>, serde_json::Error> {
        serde_json::from_str::<W>(json).map(W::reduce)
    }
    match kind {
        Kind::Deployment => of::<Deployment>(json),
        Kind::Service => of::<Service>(json),
        Kind::Pod => of::<Pod>(json),
        Kind::Job => of::<Job>(json),
        Kind::Ingress => of::<Ingress>(json),
        Kind::HttpRoute => of::<HttpRoute>(json),
    }
}

/// `metadata`, less what nobody reads: managed fields alone are often half of an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head {
    name: Box<str>,
    namespace: Option<Box<str>>,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: Option<i64>,
    deletion_timestamp: Option<Box<str>>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

impl Head {
    /// Resource versions are decimal numbers that grow with each write to the kind.
    pub(super) fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }

    pub(super) fn resource_version(&self) -> &str {
        &self.resource_version
    }

    fn generation(&self) -> i64 {
        self.generation.unwrap_or(0)
    }

    fn meta(self) -> Meta {
        let labels = self.labels.unwrap_or_default();
        let annotations = self.annotations.unwrap_or_default();
        Meta {
            name: self.name,
            uid: self.uid,
            instance: labels.instance,
            service: labels.service,
            snapshot: labels.snapshot,
            deploy: labels.deploy.or(annotations.deploy),
            rendered: annotations.rendered,
            deleting: self.deletion_timestamp.is_some(),
        }
    }
}

// serde wants literals here; a test holds them to the constants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "stagekeeper.dev/stage")]
    stage: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/instance")]
    instance: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/service")]
    service: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/snapshot")]
    snapshot: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/deploy")]
    deploy: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/hook")]
    hook: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/hook-name")]
    hook_name: Option<Box<str>>,
    #[serde(rename = "batch.kubernetes.io/job-name")]
    job: Option<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "stagekeeper.dev/rendered")]
    rendered: Option<Box<str>>,
    /// What may change without a reason to write the object is no label.
    #[serde(rename = "stagekeeper.dev/deploy")]
    deploy: Option<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireCondition {
    r#type: Box<str>,
    status: Box<str>,
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
    observed_generation: Option<i64>,
}

impl WireCondition {
    fn holds(&self) -> bool {
        &*self.status == "True"
    }

    fn because(&self) -> Because {
        because(self.reason.as_deref(), self.message.as_deref())
    }
}

fn because(reason: Option<&str>, message: Option<&str>) -> Because {
    Because {
        reason: reason.unwrap_or_default().into(),
        message: cut(message.unwrap_or_default(), MESSAGE_CHARS).into(),
    }
}

fn find<'a>(conditions: Option<&'a Vec<WireCondition>>, name: &str) -> Option<&'a WireCondition> {
    conditions?.iter().find(|c| &*c.r#type == name)
}

fn count(n: Option<i64>) -> u32 {
    n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// `apps/v1` Deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Deployment {
    metadata: Head,
    spec: DeploymentSpec,
    status: Option<DeploymentStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    replicas: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeploymentStatus {
    observed_generation: Option<i64>,
    replicas: Option<i64>,
    updated_replicas: Option<i64>,
    ready_replicas: Option<i64>,
    available_replicas: Option<i64>,
    conditions: Option<Vec<WireCondition>>,
}

impl Wire for Deployment {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let status = self.status.unwrap_or_default();
        let condition = |name| find(status.conditions.as_ref(), name);
        AnyView::Workload(WorkloadView {
            generation: self.metadata.generation(),
            meta: self.metadata.meta(),
            observed_generation: status.observed_generation.unwrap_or(0),
            desired: self.spec.replicas.map_or(1, |n| count(Some(n))),
            replicas: count(status.replicas),
            updated: count(status.updated_replicas),
            ready: count(status.ready_replicas),
            available: count(status.available_replicas),
            progressing: condition("Progressing")
                .map(|c| Box::new(Condition { holds: c.holds(), because: c.because() })),
            replica_failure: condition("ReplicaFailure").filter(|c| c.holds()).map(|c| Box::new(c.because())),
        })
    }
}

/// `v1` Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    metadata: Head,
    spec: PodSpec,
    status: Option<PodStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<Box<str>>,
    init_containers: Option<Vec<Named>>,
    containers: Option<Vec<Named>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: Box<str>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Option<Box<str>>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
    conditions: Option<Vec<WireCondition>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Box<str>,
    ready: bool,
    restart_count: Option<i64>,
    #[serde(rename = "imageID")]
    image_id: Option<Box<str>>,
    state: Option<ContainerState>,
    last_state: Option<ContainerState>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<serde::de::IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    exit_code: i32,
    reason: Option<Box<str>>,
}

impl Terminated {
    fn exit(&self) -> Exit {
        Exit { code: self.exit_code, reason: self.reason.clone().unwrap_or_default() }
    }
}

impl ContainerStatus {
    fn view(self, init: bool) -> ContainerView {
        let state = self.state.unwrap_or_default();
        let last = self.last_state.unwrap_or_default();
        let waiting = state.waiting.map(|w| because(w.reason.as_deref(), w.message.as_deref()));
        let pulled = self.image_id.is_some_and(|id| !id.is_empty())
            || state.running.is_some()
            || state.terminated.is_some()
            || last.terminated.is_some()
            || waiting.as_ref().is_some_and(|w| comes_after_the_pull(&w.reason));
        ContainerView {
            name: self.name,
            init,
            pulled,
            running: state.running.is_some(),
            ready: self.ready,
            restarts: count(self.restart_count),
            waiting: waiting.map(Box::new),
            exit: state.terminated.as_ref().map(Terminated::exit),
            last_exit: last.terminated.as_ref().map(Terminated::exit),
        }
    }
}

/// The kubelet pulls first; these are its complaints about what it does next.
fn comes_after_the_pull(reason: &str) -> bool {
    matches!(
        reason,
        "CrashLoopBackOff"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "PreCreateHookError"
            | "PreStartHookError"
            | "PostStartHookError"
            | "RunContainerError"
    )
}

/// The node reports containers in an order of its own.
fn containers(spec: Option<Vec<Named>>, mut status: Vec<ContainerStatus>, init: bool) -> Vec<ContainerView> {
    let order: Vec<Named> = spec.unwrap_or_default();
    status.sort_by_key(|s| order.iter().position(|named| named.name == s.name));
    status.into_iter().map(|s| s.view(init)).collect()
}

impl Wire for Pod {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let status = self.status.unwrap_or_default();
        let condition = |name| find(status.conditions.as_ref(), name);
        let phase = match status.phase.as_deref() {
            Some("Running") => PodPhase::Running,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            _ => PodPhase::Pending,
        };
        let unschedulable = condition("PodScheduled")
            .filter(|c| !c.holds() && c.reason.as_deref() == Some("Unschedulable"))
            .map(|c| cut(c.message.as_deref().unwrap_or_default(), MESSAGE_CHARS).into());
        let ready = condition("Ready").is_some_and(WireCondition::holds);
        let mut views = containers(self.spec.init_containers, status.init_container_statuses.unwrap_or_default(), true);
        views.extend(containers(self.spec.containers, status.container_statuses.unwrap_or_default(), false));
        let failure = (phase == PodPhase::Failed && status.reason.is_some())
            .then(|| Box::new(because(status.reason.as_deref(), status.message.as_deref())));
        AnyView::Pod(PodView {
            job: self.metadata.labels.as_ref().and_then(|l| l.job.clone()),
            meta: self.metadata.meta(),
            ip: ip(status.pod_ip.as_deref()),
            scheduled: self.spec.node_name.is_some_and(|name| !name.is_empty()),
            phase,
            ready,
            unschedulable,
            failure,
            containers: views.into(),
        })
    }
}

/// `v1` Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    metadata: Head,
    spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    selector: Option<Labels>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Box<str>>,
    ports: Option<Vec<ServicePort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ServicePort {
    name: Option<Box<str>>,
    port: u16,
}

/// `None` is what a headless Service has for an address.
fn ip(text: Option<&str>) -> Option<IpAddr> {
    text.and_then(|text| text.parse().ok())
}

impl Wire for Service {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let ports = self.spec.ports.unwrap_or_default();
        AnyView::Service(ServiceView {
            meta: self.metadata.meta(),
            selects: self.spec.selector.and_then(|s| s.instance),
            cluster_ip: ip(self.spec.cluster_ip.as_deref()),
            ports: ports.into_iter().map(|p| (p.name.unwrap_or_default(), p.port)).collect(),
        })
    }
}

/// `batch/v1` Job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Job {
    metadata: Head,
    status: Option<JobStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct JobStatus {
    active: Option<i64>,
    succeeded: Option<i64>,
    failed: Option<i64>,
    conditions: Option<Vec<WireCondition>>,
}

impl Wire for Job {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(mut self) -> AnyView {
        let status = self.status.unwrap_or_default();
        let condition = |name| find(status.conditions.as_ref(), name).filter(|c| c.holds());
        let labels = self.metadata.labels.as_mut();
        let (hook, hook_name) = labels.map_or((None, None), |l| (l.hook.take(), l.hook_name.take()));
        AnyView::Job(JobView {
            meta: self.metadata.meta(),
            hook,
            hook_name,
            active: count(status.active),
            succeeded: count(status.succeeded),
            failed: count(status.failed),
            complete: condition("Complete").is_some(),
            failure: condition("Failed").map(|c| Box::new(c.because())),
        })
    }
}

/// `networking.k8s.io/v1` Ingress.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ingress {
    metadata: Head,
    status: Option<IngressStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IngressStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<serde::de::IgnoredAny>>,
}

impl Wire for Ingress {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let addresses = self.status.and_then(|s| s.load_balancer).and_then(|lb| lb.ingress);
        AnyView::Ingress(RouteView {
            meta: self.metadata.meta(),
            accepted: addresses.is_some_and(|a| !a.is_empty()),
            problem: None,
        })
    }
}

/// `gateway.networking.k8s.io/v1` `HTTPRoute`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpRoute {
    metadata: Head,
    spec: HttpRouteSpec,
    status: Option<HttpRouteStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpRouteSpec {
    parent_refs: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct HttpRouteStatus {
    parents: Option<Vec<RouteParent>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct RouteParent {
    conditions: Option<Vec<WireCondition>>,
}

impl RouteParent {
    /// `Accepted` and `ResolvedRefs`, as far as they are about the newest spec.
    fn verdicts(&self, generation: i64) -> impl Iterator<Item = &WireCondition> {
        self.conditions
            .iter()
            .flatten()
            .filter(|c| matches!(&*c.r#type, "Accepted" | "ResolvedRefs"))
            .filter(move |c| c.observed_generation.is_none_or(|seen| seen >= generation))
    }
}

impl Wire for HttpRoute {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let generation = self.metadata.generation();
        let asked = self.spec.parent_refs.map_or(0, |refs| refs.len());
        let parents = self.status.and_then(|s| s.parents).unwrap_or_default();
        let accepting = parents
            .iter()
            .filter(|p| {
                p.verdicts(generation).any(|c| &*c.r#type == "Accepted")
                    && p.verdicts(generation).all(WireCondition::holds)
            })
            .count();
        let refusal = parents.iter().flat_map(|p| p.verdicts(generation)).find(|c| !c.holds());
        AnyView::HttpRoute(RouteView {
            meta: self.metadata.meta(),
            accepted: accepting > 0 && accepting >= asked,
            problem: refusal.map(|c| Box::new(c.because())),
        })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
