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
use tokio::{sync::oneshot, task::JoinSet};

use crate::cluster::Env;

/// Group, version and kind.
type Kind = (&'static str, &'static str, &'static str);

/// Kinds that the operator makes for every stage.
const KINDS: [Kind; 5] = [
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("batch", "v1", "Job"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("", "v1", "ConfigMap"),
];

/// The other kinds that it makes, in a namespace or as one.
const OTHERS: [Kind; 7] = [
    ("", "v1", "Secret"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "ResourceQuota"),
    ("", "v1", "LimitRange"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    ("stagekeeper.dev", "v1alpha1", "Environment"),
];

/// Objects that were ever seen: by kind, name and UID, whether they were seen to go.
type Seen = BTreeMap<(String, String, String), bool>;

/// Watches until it is dropped.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    watches: JoinSet<()>,
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
    /// Watches the children of stages in the namespace of `env`.
    pub fn new(env: &Env) -> Self {
        let mut witness = Self { seen: Arc::default(), watches: JoinSet::new() };
        for kind in KINDS {
            let api = Api::namespaced_with(env.client.clone(), &env.namespace, &resource(kind));
            drop(witness.watch(kind.2, api, labels::STAGE));
        }
        witness
    }

    /// Watches everything that is made by the operator in the namespace of `env`, or in all: namespaces too. It watches when
    /// this returns.
    pub async fn of_everything(env: &Env, whole: bool) -> Self {
        let mut witness = Self { seen: Arc::default(), watches: JoinSet::new() };
        let ours = format!("{}={}", labels::MANAGED_BY, labels::FIELD_MANAGER);
        let mut begun = Vec::new();
        for kind in KINDS.into_iter().chain(OTHERS) {
            let resource = resource(kind);
            let api = if whole {
                Api::all_with(env.client.clone(), &resource)
            } else {
                Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
            };
            begun.push(witness.watch(kind.2, api, &ours));
        }
        if whole {
            let namespaces = Api::all_with(env.client.clone(), &resource(("", "v1", "Namespace")));
            begun.push(witness.watch("Namespace", namespaces, &ours));
        }
        for begun in begun {
            // Ends with the watch.
            let _ = begun.await;
        }
        witness
    }

    /// Watches one kind. What is given ends when it has begun to.
    fn watch(&mut self, kind: &'static str, api: Api<DynamicObject>, which: &str) -> oneshot::Receiver<()> {
        let seen = self.seen.clone();
        let (begun, begins) = oneshot::channel();
        let mut begun = Some(begun);
        let watched = watcher(api, watcher::Config::default().labels(which)).default_backoff();
        self.watches.spawn(watched.for_each(move |event| {
            let told = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some((object, false)),
                Ok(watcher::Event::Delete(object)) => Some((object, true)),
                Ok(watcher::Event::InitDone) => {
                    drop(begun.take());
                    None
                }
                Ok(watcher::Event::Init) | Err(_) => None,
            };
            if let Some((object, gone)) = told {
                let key = (kind.to_owned(), object.name_any(), object.uid().unwrap_or_default());
                *lock(&seen).entry(key).or_default() |= gone;
            }
            futures::future::ready(())
        }));
        begins
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

fn resource((group, version, kind): Kind) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
