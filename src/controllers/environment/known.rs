//! What the leader knows of the life of each environment, and where its objects are.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    api::EnvironmentStatus, cluster::index::StageKey, controllers::strangers::Answered, domain::environment::Tenant,
    store::Environment as Life,
};

/// What is known of one environment between passes.
#[derive(Debug, Clone)]
pub struct Lived {
    /// What the database says of its life.
    pub life: Life,
    /// Name of its project.
    pub project: String,
    /// Name of the stage whose configuration it copies.
    pub base: Option<String>,
    /// When it was used last, deploys included.
    pub used: Timestamp,
    /// It wants to be awake, or has a deploy under way.
    pub wants: bool,
    /// Its pods run, or may.
    pub runs: bool,
    /// UID of the namespace that it has to itself, once that is there with everything in it.
    pub prepared: Option<String>,
    /// Since when its project is not seen.
    pub orphaned: Option<Timestamp>,
    /// Its rows are closed and its namespace is being deleted: nothing is left to do but to wait for that.
    pub leaves: bool,
    /// The status as last written by this process.
    pub written: Option<Box<EnvironmentStatus>>,
    /// What others wrote into the status.
    pub answered: Answered,
}

impl Lived {
    /// As it is when nothing but its row is known.
    pub fn new(life: Life, project: String, base: Option<String>) -> Self {
        let (used, runs) = (life.active, false);
        Self {
            life,
            project,
            base,
            used,
            wants: false,
            runs,
            prepared: None,
            orphaned: None,
            leaves: false,
            written: None,
            answered: Answered::default(),
        }
    }

    /// The watch shows this status: where it is what was written last, one copy is enough.
    pub fn shown(&mut self, status: Option<&EnvironmentStatus>) {
        if self.written.as_deref() == status {
            self.written = None;
        }
    }
}

/// The lives of all environments. One pass at a time has that of an environment, as the runtime never runs two of one object.
#[derive(Debug, Default)]
pub struct Lives(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Each in its own place: a table has up to twice the room that it needs.
    by_key: HashMap<StageKey, Box<Lived>>,
    by_place: HashMap<StageKey, StageKey>,
    by_id: HashMap<Uuid, StageKey>,
    /// Those of which the database knows more.
    stale: HashSet<StageKey>,
    /// Stages whose configuration environments copy, with the generation that they were last told of.
    bases: HashMap<StageKey, i64>,
}

impl Lives {
    /// What is known of an environment, and whether the database knows more.
    pub fn get(&self, key: &StageKey) -> Option<(Lived, bool)> {
        let mut inner = self.lock();
        let lived = Lived::clone(inner.by_key.get(key)?);
        let stale = inner.stale.remove(key);
        Some((lived, stale))
    }

    /// Remembers what a pass found out.
    pub fn put(&self, key: &StageKey, lived: Lived) {
        let mut inner = self.lock();
        let place = StageKey::new(lived.life.place.as_str(), &*key.name);
        inner.by_place.insert(place, key.clone());
        inner.by_id.insert(lived.life.id, key.clone());
        if let Some(base) = &lived.base {
            inner.bases.entry(StageKey::new(&*key.namespace, base.as_str())).or_insert(0);
        }
        inner.by_key.insert(key.clone(), Box::new(lived));
    }

    /// The watch shows this status of an environment.
    pub fn shown(&self, key: &StageKey, status: Option<&EnvironmentStatus>) {
        if let Some(lived) = self.lock().by_key.get_mut(key) {
            lived.shown(status);
        }
    }

    /// An environment is gone.
    pub fn forget(&self, key: &StageKey) {
        let mut inner = self.lock();
        if let Some(lived) = inner.by_key.remove(key) {
            inner.by_place.remove(&StageKey::new(lived.life.place.as_str(), &*key.name));
            inner.by_id.remove(&lived.life.id);
        }
        inner.stale.remove(key);
    }

    /// The database knows more of an environment. Says which it is, if it is known.
    pub fn changed(&self, id: Uuid) -> Option<StageKey> {
        let mut inner = self.lock();
        let key = inner.by_id.get(&id)?.clone();
        inner.stale.insert(key.clone());
        Some(key)
    }

    /// The database may know more of any of them. Says which they are.
    pub fn all_changed(&self) -> Vec<StageKey> {
        let mut inner = self.lock();
        let keys: Vec<StageKey> = inner.by_key.keys().cloned().collect();
        inner.stale.extend(keys.iter().cloned());
        keys
    }

    /// The environment whose objects are there, or that has this key itself.
    pub fn at(&self, key: &StageKey) -> Option<StageKey> {
        let inner = self.lock();
        inner.by_place.get(key).or_else(|| inner.by_key.get_key_value(key).map(|(key, _)| key)).cloned()
    }

    /// The environments of a project.
    pub fn of(&self, namespace: &str, project: &str) -> Vec<StageKey> {
        let inner = self.lock();
        let theirs =
            inner.by_key.iter().filter(|(key, lived)| &*key.namespace == namespace && lived.project == project);
        theirs.map(|(key, _)| key.clone()).collect()
    }

    /// The environments that copy the configuration of a stage, once for each generation of it.
    pub fn based_on(&self, stage: &StageKey, generation: i64) -> Vec<StageKey> {
        let mut inner = self.lock();
        match inner.bases.get_mut(stage) {
            Some(told) if *told != generation => *told = generation,
            _ => return Vec::new(),
        }
        let theirs = inner
            .by_key
            .iter()
            .filter(|(key, lived)| key.namespace == stage.namespace && lived.base.as_deref() == Some(&*stage.name));
        theirs.map(|(key, _)| key.clone()).collect()
    }

    /// The environments of a project that run or want to.
    pub fn tenants(&self, namespace: &str, project: &str) -> Vec<Tenant<String>> {
        let inner = self.lock();
        let theirs = inner.by_key.iter().filter(|(key, lived)| {
            &*key.namespace == namespace && lived.project == project && (lived.wants || lived.runs)
        });
        let tenant = |(key, lived): (&StageKey, &Lived)| Tenant {
            key: key.name.to_string(),
            since: lived.life.wake_asked.unwrap_or(lived.life.born).max(lived.life.born),
            used: lived.used,
            runs: lived.runs,
            pinned: lived.life.pinned,
        };
        theirs.map(|(key, lived)| tenant((key, lived))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life of an environment as requests find it.
#[derive(Debug, Default)]
pub struct Known(AtomicBool);

impl Known {
    /// A request changed it: the database knows more.
    pub fn changed(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether that happened.
    pub fn is_changed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn lived(number: u128, name: &str) -> Lived {
        let life = Life {
            id: Uuid::from_u128(number),
            project_id: Uuid::from_u128(0xff),
            uid: "u".into(),
            subdomain: format!("{name}-a8f9d2k1p4m7"),
            place: format!("shop-{name}-a8f9d2k1p4m7"),
            born: at(10),
            extended: None,
            pinned: false,
            active: at(20),
            wake_asked: None,
            sleep_asked: None,
            asleep: None,
            ending: None,
        };
        Lived::new(life, "shop".into(), Some("staging".into()))
    }

    #[test]
    fn what_the_database_knows_is_asked_for_until_it_was_read() {
        let (lives, key) = (Lives::default(), StageKey::new("acme", "pr-1"));
        assert_eq!(lives.changed(Uuid::from_u128(1)), None, "nobody knows it yet, so it is read anyway");
        lives.put(&key, lived(1, "pr-1"));
        assert!(lives.get(&key).is_some_and(|(_, stale)| !stale));
        assert_eq!(lives.changed(Uuid::from_u128(1)), Some(key.clone()));
        assert!(lives.get(&key).is_some_and(|(_, stale)| stale));
        // The database did not answer: it is said again, and a pass that ends meanwhile does not take it away.
        lives.changed(Uuid::from_u128(1));
        lives.put(&key, lived(1, "pr-1"));
        assert!(lives.get(&key).is_some_and(|(_, stale)| stale));
        assert!(lives.get(&key).is_some_and(|(_, stale)| !stale));
        lives.changed(Uuid::from_u128(1));
        lives.forget(&key);
        assert!(lives.get(&key).is_none());
    }

    #[test]
    fn a_status_is_kept_until_the_watch_shows_it() {
        let (lives, key) = (Lives::default(), StageKey::new("acme", "pr-1"));
        let status = |phase: &str| EnvironmentStatus { phase: Some(phase.into()), ..EnvironmentStatus::default() };
        lives.put(&key, Lived { written: Some(Box::new(status("Ready"))), ..lived(1, "pr-1") });
        let kept = || lives.get(&key).is_some_and(|(lived, _)| lived.written.is_some());
        for older in [None, Some(status("Deploying"))] {
            lives.shown(&key, older.as_ref());
            assert!(kept(), "the watch is behind: {older:?}");
        }
        lives.shown(&StageKey::new("acme", "pr-2"), Some(&status("Ready")));
        assert!(kept(), "another one's");
        lives.shown(&key, Some(&status("Ready")));
        assert!(!kept());
    }

    #[test]
    fn a_namespace_leads_to_whose_it_is() {
        let (lives, key) = (Lives::default(), StageKey::new("acme", "pr-1"));
        let place = StageKey::new("shop-pr-1-a8f9d2k1p4m7", "pr-1");
        assert_eq!((lives.at(&key), lives.at(&place)), (None, None));
        lives.put(&key, lived(1, "pr-1"));
        assert_eq!((lives.at(&key), lives.at(&place)), (Some(key.clone()), Some(key.clone())));
        assert_eq!(lives.at(&StageKey::new("shop-pr-1-a8f9d2k1p4m7", "other")), None);
        lives.forget(&key);
        assert_eq!((lives.at(&key), lives.at(&place)), (None, None));
    }

    #[test]
    fn a_base_that_changed_is_told_once() {
        let (lives, base) = (Lives::default(), StageKey::new("acme", "staging"));
        assert_eq!(lives.based_on(&base, 1), []);
        lives.put(&StageKey::new("acme", "pr-1"), lived(1, "pr-1"));
        assert_eq!(lives.based_on(&base, 2), [StageKey::new("acme", "pr-1")]);
        assert_eq!(lives.based_on(&base, 2), []);
        assert_eq!(lives.based_on(&StageKey::new("other", "staging"), 3), []);
    }

    #[test]
    fn those_that_neither_run_nor_want_to_take_no_place() {
        let lives = Lives::default();
        for (number, name, wants, runs) in [(1, "a", true, false), (2, "b", false, true), (3, "c", false, false)] {
            lives.put(&StageKey::new("acme", name), Lived { wants, runs, ..lived(number, name) });
        }
        let mut names: Vec<String> = lives.tenants("acme", "shop").into_iter().map(|tenant| tenant.key).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(lives.tenants("acme", "blog"), []);
    }
}
