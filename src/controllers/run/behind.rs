//! Notices what a watch has missed. An event that is lost on its way is lost for good: a watch goes on from the event after it,
//! and the memory stays behind without knowing.
//!
//! So what is known is compared with the cluster now and then: names, identities and versions only. Nothing is done as long as
//! they are equal; listing whole objects each time would take twice their memory.

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    runtime::{
        reflector::{ObjectRef, Store as Reflected},
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;

use crate::domain::share::Share;

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// How long a watch may take to bring what a list has shown.
const GRACE: Duration = Duration::from_secs(5);

/// How long one page may take.
const PAGE: Duration = Duration::from_secs(30);

/// What may have been missed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Missed<K: kube::Resource<DynamicType = ()>> {
    /// The cluster has it in this version.
    Change(ObjectRef<K>, u64),
    /// The cluster does not have what has this UID.
    Deletion(ObjectRef<K>, String),
}

impl<K: kube::Resource<DynamicType = ()> + Clone + 'static> Missed<K> {
    /// Whether the memory has not heard of it yet.
    fn still(&self, known: &Reflected<K>) -> bool {
        match self {
            Self::Change(object, version) => {
                known.get(object).is_none_or(|it| version_of(it.resource_version().as_ref()) < *version)
            }
            Self::Deletion(object, uid) => known.get(object).is_some_and(|it| it.uid().as_ref() == Some(uid)),
        }
    }
}

/// Ends when something of the share was missed that the watch does not bring either. Nothing is compared while `listing`.
pub(super) async fn fell_behind<K>(
    api: Api<K>,
    (known, share): (Reflected<K>, Arc<Share>),
    listing: Arc<AtomicBool>,
    every: Duration,
) where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
{
    loop {
        tokio::time::sleep(every).await;
        if listing.load(Ordering::Acquire) {
            continue;
        }
        let missed = match compare(&api, &known, &share).await {
            Ok(missed) => missed,
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "what is known could not be compared with the cluster");
                continue;
            }
        };
        if missed.is_empty() {
            continue;
        }
        tokio::time::sleep(GRACE).await;
        if missed.iter().any(|one| one.still(&known)) {
            tracing::warn!(kind = %K::kind(&()), "the watch has missed something: listing anew");
            return;
        }
    }
}

/// What the cluster has and has not, other than it is known.
async fn compare<K>(api: &Api<K>, known: &Reflected<K>, share: &Share) -> Result<Vec<Missed<K>>, kube::Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
{
    // What is made from now on is not known yet, and not missed.
    let before = known.state();
    let mut listed = HashSet::new();
    let mut missed = Vec::new();
    let mut params = ListParams::default().limit(PAGE_SIZE);
    loop {
        let page = tokio::time::timeout(PAGE, api.list_metadata(&params)).await;
        let page = page.map_err(|late| kube::Error::Service(late.into()))??;
        let covered = |namespace: Option<String>| share.covers(&namespace.unwrap_or_default());
        for object in page.items.iter().filter(|object| covered(object.namespace())) {
            let name = reference(object.namespace(), &object.name_any());
            let change = Missed::Change(name.clone(), version_of(object.resource_version().as_ref()));
            missed.extend(change.still(known).then_some(change));
            listed.insert(name);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    let deleted =
        before.iter().map(|object: &Arc<K>| (ObjectRef::from_obj(&**object), object.uid().unwrap_or_default()));
    let deleted = deleted.filter(|(name, _)| !listed.contains(name));
    missed.extend(deleted.map(|(name, uid)| Missed::Deletion(name, uid)));
    Ok(missed)
}

/// The objects that are known to be gone by this event: what was deleted, and what is missing in a new list. `before` is what
/// was known when the list began.
pub(super) fn lost<K>(event: &Event<K>, known: &Reflected<K>, before: &mut HashSet<ObjectRef<K>>) -> Vec<ObjectRef<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    match event {
        Event::Delete(object) => vec![ObjectRef::from_obj(object)],
        Event::Init => {
            *before = known.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect();
            Vec::new()
        }
        Event::InitApply(object) => {
            before.remove(&ObjectRef::from_obj(object));
            Vec::new()
        }
        Event::InitDone => before.drain().collect(),
        Event::Apply(_) => Vec::new(),
    }
}

fn reference<K: kube::Resource<DynamicType = ()>>(namespace: Option<String>, name: &str) -> ObjectRef<K> {
    let object = ObjectRef::new(name);
    match namespace {
        Some(namespace) => object.within(&namespace),
        None => object,
    }
}

/// Versions of one kind grow with every write.
fn version_of(version: Option<&String>) -> u64 {
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
