//! Which stages take their releases from which, so that they hear of each other.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::trigger::Triggers;
use crate::cluster::index::StageKey;

/// Who follows whom. Every stage says so itself in each of its passes.
#[derive(Debug)]
pub struct Lanes {
    known: Mutex<Known>,
    triggers: Triggers,
}

#[derive(Debug, Default)]
struct Known {
    followers: HashMap<StageKey, BTreeSet<StageKey>>,
    follows: HashMap<StageKey, Vec<StageKey>>,
    stale: HashSet<StageKey>,
}

impl Lanes {
    /// Nobody follows anybody yet.
    pub fn new(triggers: Triggers) -> Self {
        Self { known: Mutex::default(), triggers }
    }

    /// A stage takes its releases from these, and from no others.
    pub fn follow(&self, key: &StageKey, from: Vec<StageKey>) {
        let mut known = self.lock();
        if known.follows.get(key).map_or(from.is_empty(), |before| *before == from) {
            return;
        }
        for before in known.follows.remove(key).into_iter().flatten() {
            if let Some(followers) = known.followers.get_mut(&before) {
                followers.remove(key);
                if followers.is_empty() {
                    known.followers.remove(&before);
                }
            }
        }
        for upstream in &from {
            known.followers.entry(upstream.clone()).or_default().insert(key.clone());
        }
        if !from.is_empty() {
            known.follows.insert(key.clone(), from);
        }
        known.stale.insert(key.clone());
    }

    /// Something has happened on a stage that those who follow it want to know: a success, a veto, that it is there.
    pub fn tell(&self, key: &StageKey) {
        let followers: Vec<StageKey> = {
            let mut known = self.lock();
            let followers: Vec<StageKey> = known.followers.get(key).into_iter().flatten().cloned().collect();
            known.stale.extend(followers.iter().cloned());
            followers
        };
        for follower in &followers {
            self.triggers.stage(follower);
        }
    }

    /// Whether something has happened upstream since this was asked last.
    pub fn take_news(&self, key: &StageKey) -> bool {
        self.lock().stale.remove(key)
    }

    /// What was taken over got lost: it is news again.
    pub fn news_again(&self, key: &StageKey) {
        self.lock().stale.insert(key.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
