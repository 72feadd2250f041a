//! What the database says about one target's deploys, kept in memory by the leader.
//!
//! Only this process writes while it leads, and every write is compare-and-set: a copy that is out of date loses the
//! race, is dropped and read again. Nothing is decided from it that the database would not confirm.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use litemap::LiteMap;
use uuid::Uuid;

use super::{Target, plan::Planned, routes, values::Screen};
use crate::{
    cluster::index::{ServiceView, StageChildren},
    domain::{
        deploy::{Deploy, Phase, Problem, State},
        plan::Known,
        release::{Release, ReleaseId},
    },
    render::{self, Snapshot},
    store::{Hold, Provenance},
};

/// How many finished deploys are kept for the status.
const HISTORY: usize = 5;

/// A deploy with what it is rendered from.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its row.
    pub deploy: Deploy,
    /// What it is rendered from.
    pub snapshot: Arc<Snapshot>,
    /// The explicit request behind it.
    pub request: Option<String>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Its hooks, as far as they have begun.
    pub hooks: BTreeMap<(Phase, String), HookRun>,
    /// What the cluster refused when it was asked last.
    pub refused: Option<Problem>,
    /// What it was rendered to last, and with what.
    pub planned: Option<Box<(render::Context, Arc<Planned>)>>,
    /// Its opened values, while it is under way: what is told about it passes through here.
    pub screen: Screen,
}

impl Entry {
    /// The images it runs.
    pub fn release(&self) -> &Release {
        &self.snapshot.release
    }

    /// Whether somebody asked for it, who waits for an answer.
    pub fn is_asked(&self) -> bool {
        self.request.as_deref().is_some_and(|request| request.starts_with("request:"))
    }

    /// What rendering takes besides the snapshot: addresses and credentials as they are known now.
    pub fn context(&self, target: &Target<'_>, children: &StageChildren) -> render::Context {
        let address = |view: &ServiceView| Some((view.meta.name.to_string(), view.cluster_ip?.to_string()));
        render::Context {
            owner: target.owner.clone(),
            deploy: self.deploy.id,
            service_ips: children.services().filter_map(address).collect(),
            credentials: target.logins.clone(),
            edge: render::published(&self.snapshot, target.route, target.hosts, target.fallback.is_some()),
            fallback: target.fallback.filter(|_| target.dozes || !routes::answers(children)).cloned(),
        }
    }
}

/// How far a hook is, durably: what has ended is never run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookRun {
    /// It was begun.
    Running,
    /// It ended well.
    Succeeded,
    /// It did not; the sentence says how.
    Failed(String),
}

/// An instance that was made and not yet seen removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The last deploy that made or updated it.
    pub deploy: Uuid,
    /// Its release.
    pub release: ReleaseId,
    /// Whether the deploy failed or was stopped.
    pub failed: bool,
    /// Whether it may have claims or files of its own to remove.
    pub storage: bool,
    /// When it was made.
    pub made: Timestamp,
}

/// A release that failed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veto {
    /// The deploy that failed; a person may have said so without one.
    pub deploy: Option<Uuid>,
    /// Why.
    pub reason: String,
}

/// What the newest deploy went back from, when it is a rollback: not tried again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// Snapshot of the deploy that was undone.
    pub snapshot: String,
    /// The explicit request behind it.
    pub request: Option<String>,
    /// Why it was undone, unless it collapsed.
    pub why: Option<String>,
}

/// A finished deploy, for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its row.
    pub deploy: Deploy,
    /// Its images, for people.
    pub images: String,
}

/// What the database says about one target.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Deploys that are not closed, by sequence.
    pub open: Vec<Entry>,
    /// The last closed deploys, newest first.
    pub history: VecDeque<Finished>,
    /// The request behind the newest of all deploys.
    pub latest_request: Option<String>,
    /// The last deploy that succeeded.
    pub good: Option<Entry>,
    /// What the newest deploy went back from.
    pub undone: Option<Undone>,
    /// Releases that are not tried again by themselves.
    pub vetoed: BTreeMap<ReleaseId, Veto>,
    /// What keeps policies away, oldest first; some may have expired.
    pub holds: Vec<Hold>,
    /// The deploy that brought what serves, where that is written down as having lost its readiness.
    pub unready: Option<Uuid>,
    /// Instances by name.
    pub instances: LiteMap<String, Instance>,
    /// A Service of the good instance was lost and made again with another address: whoever is told it is applied again.
    pub readdressed: bool,
    /// A release has taken the place of another, whose files may be left. Not stored: what a crash leaves goes with the
    /// next release.
    pub stale_files: bool,
}

impl Ledger {
    /// The deploy with the highest sequence.
    pub fn latest(&self) -> Option<&Deploy> {
        let open = self.open.last().map(|entry| &entry.deploy);
        let closed = self.history.front().map(|finished| &finished.deploy);
        open.into_iter().chain(closed).max_by_key(|deploy| deploy.sequence)
    }

    /// Whether the ledger tells anything of this deploy.
    pub fn knows(&self, deploy: Uuid) -> bool {
        let whole = self.open.iter().chain(&self.good).map(|entry| entry.deploy.id);
        let finished = self.history.iter().map(|finished| finished.deploy.id);
        whole.chain(finished).chain(self.instances.values().map(|row| row.deploy)).any(|id| id == deploy)
    }

    /// The sequence of the next deploy.
    pub fn next_sequence(&self) -> i64 {
        self.latest().map_or(1, |deploy| deploy.sequence + 1)
    }

    /// What the planner wants to know. `vetoed` is borrowed from [`Self::vetoed_ids`].
    pub fn known<'a>(&'a self, vetoed: &'a BTreeSet<ReleaseId>) -> Known<'a> {
        Known {
            latest: self.latest(),
            latest_request: self.latest_request.as_deref(),
            good: self.good.as_ref().map(|entry| &entry.deploy),
            vetoed,
        }
    }

    /// The vetoed releases.
    pub fn vetoed_ids(&self) -> BTreeSet<ReleaseId> {
        self.vetoed.keys().cloned().collect()
    }

    /// The images on their way, or else the ones that serve: what policies move on from. What is on its way counts,
    /// because a registry that is slow to answer must not look like a wish for what was before.
    pub fn current_release(&self) -> Option<&Release> {
        let on_its_way = self.open.last().filter(|entry| entry.deploy.state != State::Failed);
        on_its_way.or(self.good.as_ref()).or(self.open.last()).map(Entry::release)
    }

    /// The first hold that counts at `now`.
    pub fn held(&self, now: Timestamp) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.expires_at.is_none_or(|end| end > now))
    }

    /// Nothing is under way: what would be looked at next in hours is neither kept rendered nor opened until then, and nothing
    /// keeps the room of what was.
    pub fn rest(&mut self) {
        if let (true, Some(good)) = (self.open.is_empty(), &mut self.good) {
            good.planned = None;
            good.screen = Screen::Clear;
            self.open.shrink_to_fit();
            self.history.shrink_to_fit();
            // A copy has no more room than it needs.
            self.instances = self.instances.clone();
        }
    }

    /// A deploy was made.
    pub fn made(&mut self, entry: Entry) {
        self.latest_request.clone_from(&entry.request);
        self.open.push(entry);
    }

    /// The deploy at `position` of the open ones was closed as it now stands.
    pub fn closed(&mut self, position: usize) -> Entry {
        let entry = self.open.remove(position);
        let images = entry.release().summary();
        let after = self.history.iter().position(|other| other.deploy.sequence < entry.deploy.sequence);
        self.history.insert(after.unwrap_or(self.history.len()), Finished { deploy: entry.deploy.clone(), images });
        self.history.truncate(HISTORY);
        entry
    }
}
