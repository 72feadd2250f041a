//! What every pass shares.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use kube::runtime::reflector::Store as Reflected;

use super::{
    asked::Asked,
    backoff::Backoff,
    images::ImageBook,
    lanes::Lanes,
    stage::memory::Memory,
    trigger::Triggers,
    vault::{ProjectName, Vault},
};
use crate::{
    api::{Project, Stage},
    cluster::{
        apply::Writer,
        events::Events,
        index::{Index, StageKey},
        lease::LeaseHandle,
        originals::Originals,
    },
    domain::clock::{Clock, Ids},
    safe::Safe,
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
    /// What projects have in the safe, without values.
    pub vault: Arc<Vault>,
    /// The safe; none without keys.
    pub safe: Option<Safe>,
    /// Secrets that projects copy from.
    pub originals: Arc<Originals>,
    /// Called with a project whose credentials or secrets have changed.
    pub on_vault: Arc<dyn Fn(&ProjectName) + Send + Sync>,
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
    /// Which stages take their releases from which.
    pub lanes: Arc<Lanes>,
    /// What people ask of stages.
    pub asked: Arc<Asked>,
    /// What is remembered of each stage between passes.
    pub memories: Arc<Memories>,
    /// The address people reach this installation at, without a slash at the end.
    pub public_url: Option<Arc<str>>,
    /// Passes that may run at once.
    pub concurrency: u16,
    /// Among them, those that begin the work of deploys that were asked for.
    pub starts: usize,
}

impl Context {
    /// A project's credentials or secrets have changed: whoever it concerns has to know.
    pub fn changed(&self, project: &ProjectName) {
        (self.on_vault)(project);
    }
}

/// A term of leadership.
#[derive(Clone)]
pub struct Term {
    /// Fences every write: larger than any epoch before.
    pub epoch: i64,
    /// Whether the term still lasts.
    pub leader: LeaseHandle,
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
