//! Which stages begin together, so that they hear of each other. What counts is in the database; here is only who has to
//! look again, and what the gates of each member said last.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use uuid::Uuid;

use super::trigger::Triggers;
use crate::cluster::index::StageKey;

/// The groups that are under way.
#[derive(Debug)]
pub struct Groups {
    known: Mutex<HashMap<Uuid, Known>>,
    news: AtomicU64,
    triggers: Triggers,
}

#[derive(Debug, Default)]
struct Known {
    members: Vec<StageKey>,
    said: HashMap<StageKey, Said>,
    /// Its outcome was looked at, and nothing has happened since.
    quiet: bool,
}

/// What the gates of a member said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// All of its own are open.
    Ready,
    /// What it waits for.
    Waits(String),
}

impl Groups {
    /// No group is under way.
    pub fn new(triggers: Triggers) -> Self {
        Self { known: Mutex::default(), news: AtomicU64::new(0), triggers }
    }

    /// A member says what its gates said. The others hear of it if that is news.
    pub fn say(&self, group: Uuid, members: &[StageKey], who: &StageKey, said: Said) {
        let news = {
            let mut all = self.lock();
            let known = all.entry(group).or_default();
            known.members = members.to_vec();
            known.said.insert(who.clone(), said.clone()) != Some(said)
        };
        if news {
            self.wake(members, Some(who));
        }
    }

    /// What a member said last, if it has.
    pub fn said(&self, group: Uuid, who: &StageKey) -> Option<Said> {
        self.lock().get(&group)?.said.get(who).cloned()
    }

    /// Asks for another pass of one of them.
    pub fn call(&self, who: &StageKey) {
        self.triggers.stage(who);
    }

    /// How often something has happened to a member of any group: asked for before a look at the database, so that what
    /// happens meanwhile is not missed.
    pub fn news(&self) -> u64 {
        self.news.load(Ordering::SeqCst)
    }

    /// The outcome was looked at in the database, after there had been so much news, and is not decided yet.
    pub fn looked(&self, group: Uuid, members: Vec<StageKey>, news: u64) {
        let mut all = self.lock();
        let known = all.entry(group).or_default();
        known.members = members;
        known.quiet = self.news() == news;
    }

    /// Whether the outcome was looked at, and nothing has happened since.
    pub fn is_quiet(&self, group: Uuid) -> bool {
        self.lock().get(&group).is_some_and(|known| known.quiet)
    }

    /// Something has happened to a member that the others have to look at.
    pub fn changed(&self, group: Uuid, who: &StageKey) {
        let members = {
            let mut all = self.lock();
            self.news.fetch_add(1, Ordering::SeqCst);
            let Some(known) = all.get_mut(&group) else { return };
            known.quiet = false;
            known.members.clone()
        };
        self.wake(&members, Some(who));
    }

    /// A member has succeeded: the outcome is looked at once more in its next pass, whenever that is.
    pub fn advanced(&self, group: Uuid) {
        let mut all = self.lock();
        self.news.fetch_add(1, Ordering::SeqCst);
        if let Some(known) = all.get_mut(&group) {
            known.quiet = false;
        }
    }

    /// They have begun: each goes on by itself.
    pub fn begun(&self, group: Uuid, members: &[StageKey]) {
        if let Some(known) = self.lock().get_mut(&group) {
            known.said.clear();
        }
        self.wake(members, None);
    }

    /// Nothing of the group is left to look at.
    pub fn forget(&self, group: Uuid) {
        self.lock().remove(&group);
    }

    fn wake(&self, members: &[StageKey], but: Option<&StageKey>) {
        for member in members.iter().filter(|member| Some(*member) != but) {
            self.triggers.stage(member);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
