//! Pods and their containers.

use serde::Deserialize;

use super::{AnyView, Head, Wire, WireCondition, because, count, find, ip};
use crate::cluster::{
    cut,
    index::view::{ContainerView, Exit, MESSAGE_CHARS, PodPhase, PodView},
};

/// `v1` Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct Pod {
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
