//! What every pass shares.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use kube::runtime::reflector::{ObjectRef, Store as Reflected};
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    images::{ImageBook, Subscriber},
    project::PROJECT,
    stage::memory::Memory,
};
use crate::{
    api::{Project, Stage},
    cluster::{
        apply::Writer,
        events::Events,
        index::{Index, StageKey},
        lease::LeaseHandle,
    },
    domain::clock::{Clock, Ids},
    store::Store,
    telemetry::Telemetry,
};

/// What every pass of a leader's term shares.
pub struct Context {
    /// Reads that are not watched: logs and events of failed pods.
    pub client: kube::Client,
    /// The one way to write to the cluster.
    pub writer: Writer,
    /// The database.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identities.
    pub ids: Arc<dyn Ids>,
    /// Children of stages.
    pub index: Index,
    /// Projects, as watched.
    pub projects: Reflected<Project>,
    /// Stages, as watched.
    pub stages: Reflected<Stage>,
    /// What registries say.
    pub images: Arc<ImageBook>,
    /// Kubernetes Events.
    pub events: Events,
    /// Metrics and readiness.
    pub telemetry: Telemetry,
    /// Retry delays.
    pub backoff: Backoff,
    /// Asks for another pass.
    pub trigger: Triggers,
    /// This term.
    pub term: Term,
    /// What is remembered of each stage between passes.
    pub memories: Arc<Memories>,
    /// Passes that may run at once.
    pub concurrency: u16,
}

/// A term of leadership.
#[derive(Clone)]
pub struct Term {
    /// Fences every write: larger than any epoch before.
    pub epoch: i64,
    /// Whether the term still lasts.
    pub leader: LeaseHandle,
}

/// Asks for another pass of a stage or project in one set of namespaces.
#[derive(Debug, Clone)]
pub struct Trigger {
    stages: mpsc::UnboundedSender<ObjectRef<Stage>>,
    projects: mpsc::UnboundedSender<ObjectRef<Project>>,
}

impl Trigger {
    /// The asking end of two queues that the controllers read. The queues are drained at once into the controllers'
    /// own, which hold each object at most once.
    pub fn new(
        stages: mpsc::UnboundedSender<ObjectRef<Stage>>,
        projects: mpsc::UnboundedSender<ObjectRef<Project>>,
    ) -> Self {
        Self { stages, projects }
    }
}

/// Asks for another pass of any stage or project.
#[derive(Debug, Clone)]
pub struct Triggers(Arc<HashMap<String, Trigger>>);

impl Triggers {
    /// From triggers by namespace; the empty name stands for all others.
    pub fn new(by_namespace: HashMap<String, Trigger>) -> Self {
        Self(Arc::new(by_namespace))
    }

    /// Another pass of a stage. Nothing happens when the term is over.
    pub fn stage(&self, key: &StageKey) {
        if let Some(trigger) = self.of(&key.namespace) {
            let _ = trigger.stages.send(ObjectRef::new(&key.name).within(&key.namespace));
        }
    }

    /// Another pass of whoever asked a registry something.
    pub fn subscriber(&self, (namespace, name): &Subscriber) {
        match name.strip_prefix(PROJECT) {
            None => self.stage(&StageKey::new(namespace.as_str(), name.as_str())),
            Some(project) => {
                if let Some(trigger) = self.of(namespace) {
                    let _ = trigger.projects.send(ObjectRef::new(project).within(namespace));
                }
            }
        }
    }

    fn of(&self, namespace: &str) -> Option<&Trigger> {
        self.0.get(namespace).or_else(|| self.0.get(""))
    }
}

/// What is remembered of each stage. One pass at a time has a stage's memory: the runtime never runs two of the same
/// object, so taking it out and putting it back needs no lock in between.
#[derive(Default)]
pub struct Memories {
    by_stage: Mutex<HashMap<StageKey, Memory>>,
    unwritten: AtomicUsize,
}

impl Memories {
    /// Takes a stage's memory.
    pub fn take(&self, key: &StageKey) -> Option<Memory> {
        let memory = self.lock().remove(key)?;
        if memory.unwritten_since.is_some() {
            self.unwritten.fetch_sub(1, Ordering::Relaxed);
        }
        Some(memory)
    }

    /// Puts it back.
    pub fn put(&self, key: StageKey, memory: Memory) {
        if memory.unwritten_since.is_some() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        self.lock().insert(key, memory);
    }

    /// How many stages have changes that their status does not tell yet, less those whose pass runs now.
    pub fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<StageKey, Memory>> {
        self.by_stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
