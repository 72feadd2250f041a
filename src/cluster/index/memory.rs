//! What is known of all stages' children, and how news is merged into it.
//!
//! News comes from two sides that race: the watch of a kind, and the replies to our own writes. Both carry the
//! resource version of what they show, and within one kind these grow with every write. So the newer one wins,
//! whoever delivers it, and a reconcile always sees at least what it wrote itself.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::children::StageChildren;
use super::view::{Kind, StageKey};
use super::wire::Seen;

/// Which objects a feed covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coverage {
    pub(super) kind: Kind,
    /// None: the whole cluster.
    pub(super) namespace: Option<Box<str>>,
}

impl Coverage {
    fn covers(&self, kind: Kind, namespace: &str) -> bool {
        self.kind == kind && self.namespace.as_deref().is_none_or(|ns| ns == namespace)
    }
}

/// The children of all stages, and how far each feed has come.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stages: HashMap<Arc<StageKey>, Arc<StageChildren>>,
    /// The stage of each object, by a hash of kind, namespace and name, which is unique in practice: an eighth of the
    /// memory that the names would take. Whoever reads it checks that the stage has the object.
    places: HashMap<u64, Arc<StageKey>>,
    hasher: RandomState,
    feeds: Vec<(Coverage, u64)>,
    /// Objects that we know to be deleted while their feed does not yet: an older event must not bring them back.
    deleted: HashSet<(Kind, Box<str>)>,
}

impl Memory {
    pub(super) fn new(feeds: impl IntoIterator<Item = Coverage>) -> Self {
        Self { feeds: feeds.into_iter().map(|coverage| (coverage, 0)).collect(), ..Self::default() }
    }

    pub(super) fn coverages(&self) -> impl Iterator<Item = &Coverage> {
        self.feeds.iter().map(|(coverage, _)| coverage)
    }

    pub(super) fn stage(&self, key: &StageKey) -> Option<&Arc<StageChildren>> {
        self.stages.get(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &StageKey> {
        self.stages.keys().map(|key| &**key)
    }

    /// Whether an object is there.
    pub(super) fn knows(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.place(kind, namespace, name).is_some()
    }

    /// The feed has delivered everything up to this version.
    pub(super) fn reached(&mut self, feed: usize, version: u64) {
        let position = &mut self.feeds[feed].1;
        *position = version.max(*position);
    }

    /// Merges an object that the feed saw made or changed. Answers the stages whose readers see something new.
    pub(super) fn saw(&mut self, feed: usize, seen: Seen) -> Vec<StageKey> {
        self.reached(feed, seen.version);
        let kind = self.feeds[feed].0.kind;
        self.merge(kind, seen)
    }

    /// Takes out an object that the feed saw deleted, unless a newer one of that name is known.
    pub(super) fn saw_deleted(&mut self, feed: usize, seen: &Seen) -> Vec<StageKey> {
        self.reached(feed, seen.version);
        let kind = self.feeds[feed].0.kind;
        let meta = seen.view.meta();
        self.deleted.remove(&(kind, meta.uid.clone()));
        self.take_out_older(kind, &seen.stage.namespace, &meta.name, seen.version).into_iter().collect()
    }

    /// Replaces everything that the feed covers by a complete list, except what is newer than the list.
    pub(super) fn listed(&mut self, feed: usize, version: u64, list: Vec<Seen>) -> Vec<StageKey> {
        let position = self.feeds[feed].1;
        self.feeds[feed].1 = version;
        if version >= position {
            return self.replace(feed, version, list);
        }
        // Versions never go back, unless the cluster's store was restored from a backup. Then what we remember may
        // never have happened.
        let mut changed: HashSet<_> = self.forget(feed).into_iter().collect();
        changed.extend(self.replace(feed, version, list));
        changed.into_iter().collect()
    }

    /// Takes out everything that the feed covers: its kind is not served any more.
    pub(super) fn forget(&mut self, feed: usize) -> Vec<StageKey> {
        self.replace(feed, u64::MAX, Vec::new())
    }

    fn replace(&mut self, feed: usize, version: u64, list: Vec<Seen>) -> Vec<StageKey> {
        let coverage = self.feeds[feed].0.clone();
        let kind = coverage.kind;
        let listed: HashSet<(&str, &str)> =
            list.iter().map(|seen| (&*seen.stage.namespace, &*seen.view.meta().name)).collect();
        let mut missing = Vec::new();
        for (key, children) in &self.stages {
            if coverage.covers(kind, &key.namespace) {
                let names = children.not_after(kind, version).into_iter();
                let names = names.filter(|name| !listed.contains(&(&*key.namespace, &**name)));
                missing.extend(names.map(|name| (key.clone(), name)));
            }
        }
        let uids: HashSet<&str> = list.iter().map(|seen| &*seen.view.meta().uid).collect();
        self.deleted.retain(|(k, uid)| *k != kind || uids.contains(&**uid));

        let mut changed = HashSet::new();
        for (key, name) in missing {
            changed.insert(self.take_out(kind, &key, &name));
        }
        for seen in list {
            changed.extend(self.merge(kind, seen));
        }
        changed.into_iter().collect()
    }

    /// Merges the API server's reply to a write of ours.
    pub(super) fn wrote(&mut self, kind: Kind, seen: Seen) -> Vec<StageKey> {
        let namespace = &*seen.stage.namespace;
        let Some((_, position)) = self.feeds.iter().find(|(c, _)| c.covers(kind, namespace)) else {
            return Vec::new();
        };
        if seen.version <= *position && self.place(kind, namespace, &seen.view.meta().name).is_none() {
            // The feed is past this write and the object is not there: it was deleted since.
            return Vec::new();
        }
        self.merge(kind, seen)
    }

    /// Takes out an object that the API server says is gone.
    pub(super) fn deleted(&mut self, kind: Kind, namespace: &str, name: &str, uid: &str) -> Vec<StageKey> {
        match self.place(kind, namespace, name) {
            Some((key, children)) if children.uid(kind, name) == Some(uid) => {
                let key = key.clone();
                self.deleted.insert((kind, uid.into()));
                vec![self.take_out(kind, &key, name)]
            }
            _ => Vec::new(),
        }
    }

    /// Puts an object in its stage if it is newer than what is known of it.
    fn merge(&mut self, kind: Kind, seen: Seen) -> Vec<StageKey> {
        let Seen { stage, version, view } = seen;
        let mut changed = Vec::new();
        let name = view.meta().name.clone();
        if self.deleted.contains(&(kind, view.meta().uid.clone())) {
            return changed;
        }
        let key = match self.place(kind, &stage.namespace, &name) {
            Some((_, children)) if children.version(kind, &name).is_some_and(|known| known >= version) => {
                return changed;
            }
            Some((key, _)) if **key == stage => key.clone(),
            elsewhere => {
                // Somebody gave it another stage's label: the stage that had it must let go.
                let elsewhere = elsewhere.map(|(key, _)| key.clone());
                changed.extend(elsewhere.map(|other| self.take_out(kind, &other, &name)));
                let key = self.stages.get_key_value(&stage).map(|(key, _)| key.clone());
                let key = key.unwrap_or_else(|| Arc::new(stage));
                self.places.insert(self.hash(kind, &key.namespace, &name), key.clone());
                key
            }
        };
        let children = Arc::make_mut(self.stages.entry(key.clone()).or_default());
        if children.differs(&view) {
            changed.push((*key).clone());
        }
        children.put(view, version);
        changed
    }

    fn hash(&self, kind: Kind, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((kind, namespace, name))
    }

    /// The stage that has an object, and its children.
    fn place(&self, kind: Kind, namespace: &str, name: &str) -> Option<(&Arc<StageKey>, &StageChildren)> {
        let key = self.places.get(&self.hash(kind, namespace, name))?;
        let children = self.stages.get(key)?;
        children.version(kind, name).map(|_| (key, &**children))
    }

    fn take_out_older(&mut self, kind: Kind, namespace: &str, name: &str, version: u64) -> Option<StageKey> {
        let (key, children) = self.place(kind, namespace, name)?;
        let key = key.clone();
        (children.version(kind, name)? <= version).then(|| self.take_out(kind, &key, name))
    }

    fn take_out(&mut self, kind: Kind, key: &Arc<StageKey>, name: &str) -> StageKey {
        self.places.remove(&self.hash(kind, &key.namespace, name));
        if let Some(children) = self.stages.get_mut(key) {
            let children = Arc::make_mut(children);
            children.take_out(kind, name);
            if children.is_empty() {
                self.stages.remove(key);
            }
        }
        (**key).clone()
    }
}

#[cfg(test)]
mod tests;
