//! What every pass shares.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{core::PartialObjectMeta, runtime::reflector::Store as Reflected};

use super::{
    asked::Asked,
    backoff::Backoff,
    beginnings::Beginnings,
    environment::known::Lives,
    groups::Groups,
    images::ImageBook,
    lanes::Lanes,
    previews::PreviewBook,
    stage::memory::Memory,
    trigger::Triggers,
    vault::{ProjectName, Vault},
};
use crate::{
    api::{Environment, Project, Stage, StageStatus},
    cluster::{
        apply::Writer,
        events::Events,
        index::{Index, StageKey},
        lease::Mandate,
        originals::Originals,
    },
    domain::clock::{Clock, Ids},
    render::Fallback,
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
    /// Environments, as watched.
    pub environments: Reflected<Environment>,
    /// Namespaces that were made for environments, as watched; none where the operator may not make any.
    pub namespaces: Option<Reflected<PartialObjectMeta<Namespace>>>,
    /// What is known of the lives of environments.
    pub lives: Arc<Lives>,
    /// Where environments are reached.
    pub preview_url: Option<Arc<reqwest::Url>>,
    /// The Service of the built-in proxy, if the operator was told which it is.
    pub edge_service: Option<Arc<Fallback>>,
    /// The namespace that the operator runs in.
    pub namespace: Arc<str>,
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
    /// Which stages begin together.
    pub groups: Arc<Groups>,
    /// How previews for pull requests stand.
    pub previews: Arc<PreviewBook>,
    /// What people ask of stages.
    pub asked: Arc<Asked>,
    /// Deploys that began lately, and who lets others begin first.
    pub beginnings: Arc<Beginnings>,
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
    pub leader: Mandate,
}

/// What is remembered of each stage. One pass at a time has a stage's memory: the runtime never runs two of the same
/// object, so taking it out and putting it back needs no lock in between. A pass of another stage may borrow it meanwhile.
pub struct Memories {
    known: Mutex<Known>,
    unwritten: AtomicUsize,
    triggers: Triggers,
}

#[derive(Default)]
struct Known {
    /// Each in its own place: a table has up to twice the room that it needs.
    by_stage: HashMap<StageKey, Box<Memory>>,
    /// Those that another stage's pass has, and whether their own was turned away meanwhile.
    lent: HashMap<StageKey, bool>,
    /// Who wanted to borrow what a pass had.
    wanted: HashMap<StageKey, HashSet<StageKey>>,
}

/// What there is to take.
pub enum Taken {
    /// The memory.
    Memory(Box<Memory>),
    /// Nothing is remembered.
    Nothing,
    /// Another stage's pass has it; this stage is asked for again when it is given back.
    Lent,
}

impl Memories {
    /// Nothing is remembered yet.
    pub fn new(triggers: Triggers) -> Self {
        Self { known: Mutex::default(), unwritten: AtomicUsize::new(0), triggers }
    }

    /// Takes a stage's memory.
    pub fn take(&self, key: &StageKey) -> Taken {
        let mut known = self.lock();
        if let Some(turned_away) = known.lent.get_mut(key) {
            *turned_away = true;
            return Taken::Lent;
        }
        let Some(memory) = known.by_stage.remove(key) else {
            return Taken::Nothing;
        };
        self.counted(&memory, -1);
        Taken::Memory(memory)
    }

    /// The watch shows this status: where it is what was written last, one copy is enough.
    pub fn shown(&self, key: &StageKey, status: Option<&StageStatus>) {
        if let Some(memory) = self.lock().by_stage.get_mut(key) {
            memory.shown(status);
        }
    }

    /// What was remembered is of another life.
    pub fn forget(&self, key: &StageKey) {
        if let Some(memory) = self.lock().by_stage.remove(key) {
            self.counted(&memory, -1);
        }
    }

    /// Puts it back.
    pub fn put(&self, key: StageKey, memory: Box<Memory>) {
        self.counted(&memory, 1);
        let wanted = {
            let mut known = self.lock();
            let wanted = known.wanted.remove(&key);
            known.by_stage.insert(key, memory);
            wanted
        };
        for by in wanted.into_iter().flatten() {
            self.triggers.stage(&by);
        }
    }

    /// Takes the memories of other stages, all of them or none: they come back with [`Self::give_back`].
    ///
    /// # Errors
    /// A stage whose memory is not there now, as its own pass has it: `by` is asked for again when it is put back.
    pub fn lend(&self, keys: &[StageKey], by: &StageKey) -> Result<Vec<(StageKey, Box<Memory>)>, StageKey> {
        let mut known = self.lock();
        if let Some(absent) = keys.iter().find(|key| !known.by_stage.contains_key(key)) {
            known.wanted.entry(absent.clone()).or_default().insert(by.clone());
            return Err(absent.clone());
        }
        let mut lent = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(memory) = known.by_stage.remove(key) {
                self.counted(&memory, -1);
                known.lent.insert(key.clone(), false);
                lent.push((key.clone(), memory));
            }
        }
        Ok(lent)
    }

    /// Puts back what was borrowed. Stages whose pass was turned away meanwhile are asked for again.
    pub fn give_back(&self, lent: Vec<(StageKey, Box<Memory>)>) {
        for (key, memory) in lent {
            let turned_away = self.lock().lent.remove(&key);
            self.put(key.clone(), memory);
            if turned_away == Some(true) {
                self.triggers.stage(&key);
            }
        }
    }

    /// How many stages have changes that their status does not tell yet, less those whose pass runs now.
    pub fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::Relaxed)
    }

    fn counted(&self, memory: &Memory, by: i8) {
        match (memory.unwritten_since, by) {
            (None, _) => 0,
            (Some(_), ..0) => self.unwritten.fetch_sub(1, Ordering::Relaxed),
            (Some(_), _) => self.unwritten.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
