//! The memory of child objects: one watch per kind, each object reduced at once to a small view.
//!
//! A reconcile reads its stage's children from here and asks the API server nothing. Replies to our own writes are
//! merged in as well ([`super::apply::Writer`] does that), so what is read is never older than what was written.

mod children;
mod feed;
mod memory;
mod trigger;
mod view;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use children::{InstanceChildren, StageChildren};
pub use trigger::Triggers;
pub use view::{
    Because, Condition, ContainerView, Exit, JobView, Kind, MESSAGE_CHARS, Meta, PodPhase, PodView, RouteView,
    SecretView, ServiceView, StageKey, View, WorkloadView,
};

use super::anew::RELIST;
use super::error::ApiError;
use memory::{Coverage, Memory};
use wire::Seen;

/// A watch that has been silent or failing for longer than this is reported. Whoever asks for it every few seconds knows
/// within half a minute.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(25);

/// Which namespaces are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them, with one watch per kind. Needs cluster-wide permission.
    #[default]
    Cluster,
    /// These only, with one watch per kind and namespace.
    Namespaces(Vec<String>),
}

/// The memory of child objects. Cheap to clone; all clones are the same memory.
#[derive(Clone)]
pub struct Index(Arc<Shared>);

struct Shared {
    relist: Duration,
    memory: Mutex<Memory>,
    pulses: Mutex<Vec<Pulse>>,
    triggers: Arc<trigger::Queue>,
    synced: watch::Sender<bool>,
}

/// The state of one feed's connection.
#[derive(Debug, Clone)]
struct Pulse {
    listed: bool,
    heard: Instant,
    trouble: Option<ApiError>,
}

/// A watch that does not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kind that is watched.
    pub kind: Kind,
    /// The namespace; none when the whole cluster is watched.
    pub namespace: Option<String>,
    /// For how long nothing has been heard.
    pub silent_for: Duration,
    /// The last error, if there was one.
    pub error: Option<ApiError>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing heard of {}", self.kind.plural())?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in namespace {namespace}")?;
        }
        write!(f, " for {} s", self.silent_for.as_secs())?;
        self.error.as_ref().map_or(Ok(()), |err| write!(f, ": {err}"))
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("synced", &self.is_synced()).finish_non_exhaustive()
    }
}

impl Index {
    /// An empty memory. It fills when [`Index::run`] runs.
    pub fn new(scope: &Scope) -> Self {
        Self::relisting(scope, RELIST)
    }

    /// The same, with everything listed anew after so long.
    pub fn relisting(scope: &Scope, relist: Duration) -> Self {
        let namespaces = match scope {
            Scope::Cluster => vec![None],
            Scope::Namespaces(names) => names.iter().map(|ns| Some(ns.as_str().into())).collect(),
        };
        let coverages: Vec<_> = Kind::ALL
            .into_iter()
            .flat_map(|kind| namespaces.iter().map(move |ns: &Option<Box<str>>| (kind, ns.clone())))
            .map(|(kind, namespace)| Coverage { kind, namespace })
            .collect();
        let pulse = Pulse { listed: false, heard: Instant::now(), trouble: None };
        Self(Arc::new(Shared {
            relist,
            pulses: Mutex::new(vec![pulse; coverages.len()]),
            synced: watch::Sender::new(coverages.is_empty()),
            memory: Mutex::new(Memory::new(coverages)),
            triggers: Arc::default(),
        }))
    }

    /// Keeps the memory up to date. Never ends by itself; dropping the future stops every watch.
    pub async fn run(&self, client: Client) {
        let mut feeds = JoinSet::new();
        let coverages: Vec<Coverage> = self.memory().coverages().cloned().collect();
        for (at, coverage) in coverages.into_iter().enumerate() {
            let feed = feed::Feed::new(self.clone(), client.clone(), at, coverage);
            feeds.spawn(feed.follow());
        }
        while let Some(ended) = feeds.join_next().await {
            if let Err(err) = ended {
                tracing::error!(error = %err, "a watch of child objects has died: what it covers is not seen any more");
            }
        }
        std::future::pending::<()>().await;
    }

    /// The children of a stage as they are known now. Later news does not change what was handed out.
    pub fn stage(&self, key: &StageKey) -> Arc<StageChildren> {
        self.memory().stage(key).cloned().unwrap_or_default()
    }

    /// All stages that have children, in no particular order; among them those whose Stage no longer exists.
    pub fn keys(&self) -> Vec<StageKey> {
        self.memory().keys().cloned().collect()
    }

    /// The stages whose children change from now on.
    pub fn triggers(&self) -> Triggers {
        Triggers(self.0.triggers.clone())
    }

    /// Whether there is such an object, and it is ours.
    pub(super) fn knows(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.memory().knows(kind, namespace, name)
    }

    /// Every kind has been listed once. Before that, an absent child means nothing.
    pub fn is_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits until [`Index::is_synced`].
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives as long as this index.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// The watches that have been silent or failing for longer than [`SILENCE_LIMIT`]; none when all is well.
    pub fn troubles(&self) -> Vec<Trouble> {
        let coverages: Vec<Coverage> = self.memory().coverages().cloned().collect();
        let pulses = self.pulses();
        let silent = coverages.into_iter().zip(pulses.iter()).filter_map(|(coverage, pulse)| {
            let silent_for = pulse.heard.elapsed();
            (silent_for > SILENCE_LIMIT).then(|| Trouble {
                kind: coverage.kind,
                namespace: coverage.namespace.map(Into::into),
                silent_for,
                error: pulse.trouble.clone(),
            })
        });
        silent.collect()
    }

    /// There are no [`Index::troubles`].
    pub fn is_healthy(&self) -> bool {
        self.pulses().iter().all(|pulse| pulse.heard.elapsed() <= SILENCE_LIMIT)
    }

    /// Merges the API server's reply to an apply.
    pub(super) fn wrote(&self, kind: Kind, reply: &str) -> Result<(), serde_json::Error> {
        if let Some(seen) = wire::read(kind, reply)? {
            let changed = self.memory().wrote(kind, seen);
            self.trigger(&changed);
        }
        Ok(())
    }

    /// Merges the API server's word that an object is gone.
    pub(super) fn deleted(&self, kind: Kind, namespace: &str, name: &str, uid: &str) {
        let changed = self.memory().deleted(kind, namespace, name, uid);
        self.trigger(&changed);
    }

    fn listed(&self, feed: usize, version: u64, list: Vec<Seen>) {
        let changed = self.memory().listed(feed, version, list);
        self.first_list_done(feed);
        self.trigger(&changed);
    }

    /// The cluster does not serve the kind: there is nothing to list, and the feed looks again later.
    fn not_served(&self, feed: usize, recheck: Duration) {
        self.pulses()[feed].heard = Instant::now() + recheck;
        let changed = self.memory().forget(feed);
        self.first_list_done(feed);
        self.trigger(&changed);
    }

    fn first_list_done(&self, feed: usize) {
        let all = {
            let mut pulses = self.pulses();
            pulses[feed].listed = true;
            pulses.iter().all(|pulse| pulse.listed)
        };
        if all {
            self.0.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        }
    }

    fn saw(&self, feed: usize, seen: Seen) {
        let changed = self.memory().saw(feed, seen);
        self.trigger(&changed);
    }

    fn saw_deleted(&self, feed: usize, seen: &Seen) {
        let changed = self.memory().saw_deleted(feed, seen);
        self.trigger(&changed);
    }

    fn reached(&self, feed: usize, version: u64) {
        self.memory().reached(feed, version);
    }

    fn heard(&self, feed: usize) {
        let pulse = &mut self.pulses()[feed];
        pulse.heard = Instant::now();
        pulse.trouble = None;
    }

    fn troubled(&self, feed: usize, err: ApiError) {
        self.pulses()[feed].trouble = Some(err);
    }

    fn trigger(&self, changed: &[StageKey]) {
        for key in changed {
            self.0.triggers.push(key);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pulses(&self) -> MutexGuard<'_, Vec<Pulse>> {
        self.0.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
