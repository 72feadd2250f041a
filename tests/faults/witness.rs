//! Watches the children of stages from outside and counts what is made and what is removed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt as _;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use stagekeeper::api::labels;
use tokio::task::JoinSet;

use crate::cluster::Env;

/// Kinds that the operator makes.
const KINDS: [(&str, &str, &str); 5] = [
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("batch", "v1", "Job"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("", "v1", "ConfigMap"),
];

/// Objects that were ever seen: by kind, name and UID, whether they were seen to go.
type Seen = BTreeMap<(String, String, String), bool>;

/// Watches until it is dropped.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    _watches: JoinSet<()>,
}

/// How many objects of one name were made, and how many of them removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lives {
    /// Made.
    pub made: usize,
    /// Removed.
    pub removed: usize,
}

impl Witness {
    /// Watches the namespace of `env`.
    pub fn new(env: &Env) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut watches = JoinSet::new();
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::namespaced_with(env.client.clone(), &env.namespace, &resource);
            let seen = seen.clone();
            let children = watcher::Config::default().labels(labels::STAGE);
            watches.spawn(watcher(api, children).default_backoff().for_each(move |event| {
                let told = match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some((object, false)),
                    Ok(watcher::Event::Delete(object)) => Some((object, true)),
                    Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => None,
                };
                if let Some((object, gone)) = told {
                    let key = (kind.to_owned(), object.name_any(), object.uid().unwrap_or_default());
                    *lock(&seen).entry(key).or_default() |= gone;
                }
                futures::future::ready(())
            }));
        }
        Self { seen, _watches: watches }
    }

    /// Lives by kind and name.
    pub fn lives(&self) -> BTreeMap<(String, String), Lives> {
        let mut lives: BTreeMap<_, Lives> = BTreeMap::new();
        for ((kind, name, _), gone) in lock(&self.seen).iter() {
            let one = lives.entry((kind.clone(), name.clone())).or_default();
            one.made += 1;
            one.removed += usize::from(*gone);
        }
        lives
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
