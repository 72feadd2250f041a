//! Secrets that people keep in the cluster and that projects name: which version each has, and what is in it when it is
//! asked for.
//!
//! One watch of metadata for all of them, begun when the first one is wanted: a cluster whose projects name none is
//! not asked for any. What is in a Secret is read once per version, and is never kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt as _, stream::SelectAll};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    anew::{Pauses, RELIST, relisting},
    error::{ApiError, Class, Target},
};

/// Longest life of a watch: a connection that broke silently is noticed this much later at the most.
const WATCH_SECONDS: u32 = 45;

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// Secrets that nobody names and that there are many of.
const NOT_THESE: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";

/// Namespace and name of a Secret.
type Name = (String, String);

/// A Secret at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its identity.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
}

/// What is in a Secret. Whoever has it drops it.
pub struct Content {
    /// Which one it was.
    pub version: Version,
    /// Its type, such as `kubernetes.io/dockerconfigjson`.
    pub type_: String,
    /// The values by key.
    pub data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// What is known of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It was not looked for yet: [`Originals::read`] does.
    Unknown,
    /// There is none.
    Absent,
    /// There is one.
    Present(Version),
}

/// Called with the namespace and name of a project that names a Secret which has changed.
pub type Told = Box<dyn Fn(&str, &str) + Send + Sync>;

#[derive(Default)]
struct Inner {
    /// The Secrets that projects name, with the projects' names.
    wanted: HashMap<Name, BTreeSet<String>>,
    /// What was seen of them last.
    seen: HashMap<Name, Option<Version>>,
}

/// The Secrets that projects name.
pub struct Originals {
    client: Client,
    inner: Mutex<Inner>,
    first: Notify,
    told: Told,
}

impl Originals {
    /// Nothing is wanted yet.
    pub fn new(client: Client, told: Told) -> Self {
        Self { client, inner: Mutex::default(), first: Notify::new(), told }
    }

    /// Replaces what a project names.
    pub fn want(&self, namespace: &str, project: &str, secrets: &BTreeSet<String>) {
        let mut inner = self.lock();
        let Inner { wanted, seen } = &mut *inner;
        wanted.retain(|(place, name), projects| {
            if place == namespace && !secrets.contains(name) {
                projects.remove(project);
            }
            !projects.is_empty()
        });
        seen.retain(|name, _| wanted.contains_key(name));
        for name in secrets {
            wanted.entry((namespace.to_owned(), name.clone())).or_default().insert(project.to_owned());
        }
        let any = !wanted.is_empty();
        drop(inner);
        if any {
            self.first.notify_one();
        }
    }

    /// What is known of a Secret that a project names.
    pub fn look(&self, namespace: &str, name: &str) -> Look {
        match self.lock().seen.get(&(namespace.to_owned(), name.to_owned())) {
            None => Look::Unknown,
            Some(None) => Look::Absent,
            Some(Some(version)) => Look::Present(version.clone()),
        }
    }

    /// Reads a Secret; none if there is none.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Option<Content>, ApiError> {
        let target = Target {
            verbs: "get",
            group: String::new(),
            resource: "secrets".into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        };
        let found = match Api::<Secret>::namespaced(self.client.clone(), namespace).get(name).await {
            Ok(secret) => Some(content(secret)),
            Err(error) => match ApiError::new(&target, &error) {
                error if error.class() == Class::NotFound => None,
                error => return Err(error),
            },
        };
        let key = (namespace.to_owned(), name.to_owned());
        let mut inner = self.lock();
        if inner.wanted.contains_key(&key) {
            // What the watch says later is newer; what it said before may be older, and then it says more.
            inner.seen.insert(key, found.as_ref().map(|content| content.version.clone()));
        }
        Ok(found)
    }

    /// Watches from when the first Secret is wanted, in these namespaces or (none) in all, until `stop`.
    pub async fn follow(&self, namespaces: Option<&[String]>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                self.first.notified().await;
                self.watch(namespaces).await;
            } => {}
        }
    }

    async fn watch(&self, namespaces: Option<&[String]>) {
        let apis: Vec<Api<PartialObjectMeta<Secret>>> = match namespaces {
            None => vec![Api::all(self.client.clone())],
            Some(names) => names.iter().map(|name| Api::namespaced(self.client.clone(), name)).collect(),
        };
        let config = || watcher::Config::default().fields(NOT_THESE).timeout(WATCH_SECONDS).page_size(PAGE_SIZE);
        let mut all = SelectAll::new();
        for (at, api) in apis.into_iter().enumerate() {
            all.push(relisting(api, config(), RELIST).backoff(Pauses::default()).map(move |event| (at, event)).boxed());
        }
        let mut listed: HashMap<usize, HashSet<Name>> = HashMap::new();
        let mut all = pin!(all);
        while let Some((at, event)) = all.next().await {
            match event {
                Ok(watcher::Event::Init) => _ = listed.insert(at, HashSet::new()),
                Ok(watcher::Event::InitApply(secret)) => {
                    listed.entry(at).or_default().insert(name(&secret));
                    self.saw(name(&secret), Some(version(&secret)));
                }
                Ok(watcher::Event::InitDone) => {
                    let place = namespaces.and_then(|names| names.get(at));
                    self.missed(place, &listed.remove(&at).unwrap_or_default());
                }
                Ok(watcher::Event::Apply(secret)) => self.saw(name(&secret), Some(version(&secret))),
                Ok(watcher::Event::Delete(secret)) => self.saw(name(&secret), None),
                Err(error) => tracing::warn!(%error, "cannot watch the Secrets that projects name"),
            }
        }
    }

    /// Whoever names it hears of it, if it is news.
    fn saw(&self, key: Name, version: Option<Version>) {
        let mut inner = self.lock();
        let Some(projects) = inner.wanted.get(&key).cloned() else { return };
        if inner.seen.get(&key) == Some(&version) {
            return;
        }
        let namespace = key.0.clone();
        inner.seen.insert(key, version);
        drop(inner);
        for project in &projects {
            (self.told)(&namespace, project);
        }
    }

    /// What is wanted and not in a complete list is not there.
    fn missed(&self, place: Option<&String>, listed: &HashSet<Name>) {
        let wanted: Vec<Name> = self.lock().wanted.keys().cloned().collect();
        for key in wanted {
            if !listed.contains(&key) && place.is_none_or(|place| *place == key.0) {
                self.saw(key, None);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(secret: &PartialObjectMeta<Secret>) -> Name {
    (secret.namespace().unwrap_or_default(), secret.name_any())
}

fn version(secret: &PartialObjectMeta<Secret>) -> Version {
    Version { uid: secret.uid().unwrap_or_default(), resource_version: secret.resource_version().unwrap_or_default() }
}

/// Takes out what is read, and wipes the rest.
fn content(mut secret: Secret) -> Content {
    for text in secret.string_data.iter_mut().flat_map(BTreeMap::values_mut) {
        text.zeroize();
    }
    Content {
        version: Version {
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
        },
        type_: secret.type_.take().unwrap_or_default(),
        data: secret
            .data
            .take()
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, Zeroizing::new(value.0)))
            .collect(),
    }
}
