//! What every pass shares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::runtime::reflector::{ObjectRef, Store as Reflected};
use tokio::sync::mpsc;

use super::{backoff::Backoff, images::ImageBook, stage::memory::Memory};
use crate::{
    api::{Project, Stage},
    cluster::{
        apply::Writer,
        events::Events,
        index::{Index, StageKey},
        lease::Leader,
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
    pub trigger: Trigger,
    /// This term.
    pub term: Term,
    /// What is remembered of each stage between passes.
    pub memories: Memories,
}

/// A term of leadership.
#[derive(Clone)]
pub struct Term {
    /// Fences every write: larger than any epoch before.
    pub epoch: i64,
    /// Whether the term still lasts.
    pub leader: Leader,
}

/// Asks for another pass of a stage or project.
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

    /// Another pass of a stage. Nothing happens when the term is over.
    pub fn stage(&self, key: &StageKey) {
        let _ = self.stages.send(ObjectRef::new(&key.name).within(&key.namespace));
    }

    /// Another pass of a project.
    pub fn project(&self, namespace: &str, name: &str) {
        let _ = self.projects.send(ObjectRef::new(name).within(namespace));
    }
}

/// What is remembered of each stage. One pass at a time has a stage's memory: the runtime never runs two of the same
/// object, so taking it out and putting it back needs no lock in between.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<StageKey, Memory>>);

impl Memories {
    /// Takes a stage's memory.
    pub fn take(&self, key: &StageKey) -> Option<Memory> {
        self.lock().remove(key)
    }

    /// Puts it back.
    pub fn put(&self, key: StageKey, memory: Memory) {
        self.lock().insert(key, memory);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<StageKey, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
