//! What is remembered of each child object: plain data, a few hundred bytes each.

use std::fmt;
use std::net::IpAddr;

/// A stage by namespace and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageKey {
    /// The namespace.
    pub namespace: Box<str>,
    /// The stage's name.
    pub name: Box<str>,
}

impl StageKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for StageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for StageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kinds that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `v1` Service.
    Service,
    /// `v1` Pod.
    Pod,
    /// `batch/v1` Job.
    Job,
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `gateway.networking.k8s.io/v1` `HTTPRoute`.
    HttpRoute,
    /// `v1` Secret, of which only the metadata is ever read.
    Secret,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Deployment, Self::Service, Self::Pod, Self::Job, Self::Ingress, Self::HttpRoute, Self::Secret];

    /// The API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Deployment => "apps",
            Self::Service | Self::Pod | Self::Secret => "",
            Self::Job => "batch",
            Self::Ingress => "networking.k8s.io",
            Self::HttpRoute => "gateway.networking.k8s.io",
        }
    }

    /// The kind's name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::Job => "Job",
            Self::Ingress => "Ingress",
            Self::HttpRoute => "HTTPRoute",
            Self::Secret => "Secret",
        }
    }

    /// The kind's name in paths and RBAC.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::Service => "services",
            Self::Pod => "pods",
            Self::Job => "jobs",
            Self::Ingress => "ingresses",
            Self::HttpRoute => "httproutes",
            Self::Secret => "secrets",
        }
    }

    /// Whether a cluster may do without it.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::HttpRoute)
    }

    /// Whether the operator may do without the right to it: whoever uses neither secrets nor private images need not
    /// give it.
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Secret)
    }

    /// Finds a watched kind by group and name.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.name() == name)
    }
}

/// What all views have: identity, and what our labels and annotations say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// The object's name.
    pub name: Box<str>,
    /// The object's identity: differs when the same name was made again.
    pub uid: Box<str>,
    /// The instance; none on what all instances of a stage share.
    pub instance: Option<Box<str>>,
    /// The project's service.
    pub service: Option<Box<str>>,
    /// Hash of the snapshot that it was rendered from.
    pub snapshot: Option<Box<str>>,
    /// The deploy that made or last changed it.
    pub deploy: Option<Box<str>>,
    /// Hash of the rendered manifest that was last applied.
    pub rendered: Option<Box<str>>,
    /// It is being deleted.
    pub deleting: bool,
}

/// Why something is so: a word for programs and a sentence for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Because {
    /// One `CamelCase` word.
    pub reason: Box<str>,
    /// One or more sentences, at most [`MESSAGE_CHARS`] characters.
    pub message: Box<str>,
}

/// Longest message kept in a view, in characters.
pub const MESSAGE_CHARS: usize = 500;

/// A condition of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its status is `True`.
    pub holds: bool,
    /// Why.
    pub because: Because,
}

/// A Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadView {
    /// Identity and marks.
    pub meta: Meta,
    /// Counts changes of the spec.
    pub generation: i64,
    /// The generation that the numbers below are about.
    pub observed_generation: i64,
    /// Replicas asked for.
    pub desired: u32,
    /// Pods of any revision.
    pub replicas: u32,
    /// Pods of the newest revision.
    pub updated: u32,
    /// Ready pods.
    pub ready: u32,
    /// Pods ready for long enough.
    pub available: u32,
    /// The condition `Progressing`.
    pub progressing: Option<Box<Condition>>,
    /// The condition `ReplicaFailure`, if it holds: pods cannot be made, for quota or admission.
    pub replica_failure: Option<Box<Because>>,
}

impl WorkloadView {
    /// The numbers are about the newest spec, and all pods are of its revision and ready.
    pub fn is_ready(&self) -> bool {
        self.observed_generation >= self.generation
            && self.updated >= self.desired
            && self.replicas == self.updated
            && self.ready >= self.desired
    }
}

/// The phase of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// Bound to a node, all containers made.
    Running,
    /// All containers ended well.
    Succeeded,
    /// A container ended badly and is not restarted, or the pod was evicted.
    Failed,
}

/// A Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Identity and marks.
    pub meta: Meta,
    /// The Job that it belongs to.
    pub job: Option<Box<str>>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// A node has been chosen.
    pub scheduled: bool,
    /// Its phase.
    pub phase: PodPhase,
    /// The condition `Ready`.
    pub ready: bool,
    /// Why no node fits.
    pub unschedulable: Option<Box<str>>,
    /// Why the whole pod failed: `Evicted`, `DeadlineExceeded`, ….
    pub failure: Option<Box<Because>>,
    /// Its containers, init containers first, in the spec's order. Empty until the node reports them.
    pub containers: Box<[ContainerView]>,
}

impl PodView {
    /// Every container has its image.
    pub fn is_pulled(&self) -> bool {
        !self.containers.is_empty() && self.containers.iter().all(|c| c.pulled)
    }
}

/// A container of a pod.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of a machine")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub name: Box<str>,
    /// It is an init container.
    pub init: bool,
    /// The node has its image.
    pub pulled: bool,
    /// It runs now.
    pub running: bool,
    /// It is ready.
    pub ready: bool,
    /// How often it was restarted.
    pub restarts: u32,
    /// Why it does not run yet or again.
    pub waiting: Option<Box<Because>>,
    /// How it ended, if it is not running.
    pub exit: Option<Exit>,
    /// How its previous run ended.
    pub last_exit: Option<Exit>,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ….
    pub reason: Box<str>,
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Identity and marks.
    pub meta: Meta,
    /// The instance that its selector names: where its traffic goes.
    pub selects: Option<Box<str>>,
    /// Its address; none if it is headless.
    pub cluster_ip: Option<IpAddr>,
    /// Port names and numbers, in the spec's order; an unnamed port has an empty name.
    pub ports: Box<[(Box<str>, u16)]>,
}

/// A Job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobView {
    /// Identity and marks.
    pub meta: Meta,
    /// The moment of a deploy that it runs at.
    pub hook: Option<Box<str>>,
    /// The name of the hook.
    pub hook_name: Option<Box<str>>,
    /// Pods that run now.
    pub active: u32,
    /// Pods that ended well.
    pub succeeded: u32,
    /// Pods that ended badly.
    pub failed: u32,
    /// It has ended well.
    pub complete: bool,
    /// It has ended badly, and why.
    pub failure: Option<Box<Because>>,
}

/// An Ingress or `HTTPRoute`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteView {
    /// Identity and marks.
    pub meta: Meta,
    /// Ingress: an address was assigned. `HTTPRoute`: every gateway that it names accepts its newest spec and finds
    /// its backends.
    pub accepted: bool,
    /// What is missing, if whoever serves it has said so.
    pub problem: Option<Box<Because>>,
}

/// A Secret, without anything of what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretView {
    /// Identity and marks.
    pub meta: Meta,
}

/// Has identity and marks.
pub trait View: Clone + PartialEq {
    /// Identity and marks.
    fn meta(&self) -> &Meta;
}

macro_rules! view {
    ($($name:ident),*) => { $(impl View for $name {
        fn meta(&self) -> &Meta {
            &self.meta
        }
    })* };
}
view!(WorkloadView, PodView, ServiceView, JobView, RouteView, SecretView);
