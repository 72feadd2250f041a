//! Pure: Services, their endpoints and Environments in, a table of hosts out.
//!
//! A host that is an Environment's, by its status, leads to Services in that Environment's namespace and to no others. Of
//! several Services that claim one host the oldest has it, by name if they are of one age; the others are told about.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};

use super::{headers, host, rate::Pace};

/// How long addresses are tried that were ready a moment ago, while none is said to be. Longer, and another pod may have got
/// the address.
pub const STALE: Duration = Duration::from_secs(5);

/// Namespace and name.
pub type Key = (String, String);

/// What counts of a Service that asks for the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The hosts that it claims, as they are written.
    pub hosts: Vec<String>,
    /// The name of the port that requests go to.
    pub port: String,
    /// The project that it is of.
    pub project: Option<String>,
}

/// What counts of an `EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceView {
    /// Name of the Service, in the same namespace.
    pub service: String,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
    /// Its ports by name.
    pub ports: Vec<(String, u16)>,
}

/// One address of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointView {
    /// Where.
    pub address: IpAddr,
    /// It takes requests.
    pub ready: bool,
    /// It is about to end, and still answers.
    pub lingers: bool,
}

/// Where an environment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Its image, or something else, is not there yet.
    #[default]
    Pending,
    /// Others are before it.
    Queued,
    /// It is being deployed.
    Deploying,
    /// It serves.
    Ready,
    /// It sleeps.
    Asleep,
    /// Its deploy failed.
    Failed,
    /// It is being removed.
    Ending,
}

impl Phase {
    /// By the word of the status. A word that is not known is one of a time to come: it is on its way.
    pub fn of(word: &str) -> Self {
        match word {
            "Queued" => Self::Queued,
            "Deploying" => Self::Deploying,
            "Ready" => Self::Ready,
            "Asleep" => Self::Asleep,
            "Failed" => Self::Failed,
            "Ending" => Self::Ending,
            _ => Self::Pending,
        }
    }
}

/// What counts of an Environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvironmentView {
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The namespace that its objects are in.
    pub place: String,
    /// Its project.
    pub project: String,
    /// The pull request that it is for.
    pub pull_request: Option<i64>,
    /// The first part of its hosts.
    pub subdomain: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether its pods run, or are to.
    pub awake: bool,
    /// Id of its latest deploy.
    pub deploy: Option<String>,
    /// What that says.
    pub message: Option<String>,
    /// What that waits for, in one word.
    pub waiting: Option<String>,
}

impl EnvironmentView {
    /// It sleeps, or is about to: who asks for it wants it woken.
    pub fn sleeps(&self) -> bool {
        self.phase == Phase::Asleep || self.phase == Phase::Ready && !self.awake
    }

    /// What still answers of it ends, and nothing takes its place by itself.
    fn goes(&self) -> bool {
        self.sleeps() || self.phase == Phase::Ending
    }
}

/// Everything that a table is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// Services that ask for the edge.
    pub services: BTreeMap<Key, ServiceView>,
    /// Their slices.
    pub slices: BTreeMap<Key, SliceView>,
    /// All environments.
    pub environments: BTreeMap<Key, EnvironmentView>,
}

/// What is remembered of an environment while it lives, whatever becomes of its objects.
#[derive(Debug, Default)]
pub struct Activity {
    /// Somebody was here since it was last written down.
    pub seen: AtomicBool,
    /// When it was last written down, in seconds since 1970.
    pub written: AtomicI64,
    /// How fast requests may come.
    pub pace: Pace,
    /// How often it was seen to fall asleep.
    pub naps: AtomicU64,
}

/// An environment that has a host.
#[derive(Debug)]
pub struct Preview {
    /// Namespace and name.
    pub key: Key,
    /// What is known of it.
    pub view: EnvironmentView,
    /// What is remembered of it.
    pub activity: Arc<Activity>,
}

impl Preview {
    /// Somebody is here.
    pub fn visited(&self) {
        // Read first: with many requests at once the line stays shared between cores.
        if !self.activity.seen.load(Ordering::Relaxed) {
            self.activity.seen.store(true, Ordering::Relaxed);
        }
    }
}

/// Where requests for a host go.
#[derive(Debug)]
pub struct Route {
    /// The Service, if there is one by now.
    pub service: Option<Key>,
    /// Addresses that take requests.
    pub endpoints: Vec<SocketAddr>,
    /// When the last of the addresses went, if there is none; [`Route::endpoints`] then has those that were there.
    pub bare: Option<Instant>,
    /// The environment whose host it is, if it is one's.
    pub preview: Option<Arc<Preview>>,
    /// What upstreams are told about it.
    pub marks: Vec<(HeaderName, HeaderValue)>,
    /// Whose turn it is.
    pub turn: AtomicUsize,
}

impl Route {
    /// The addresses to be tried, the first of them in turn. Those that are only remembered are worth a try for a moment.
    pub fn addresses(&self, now: Instant) -> &[SocketAddr] {
        match self.bare {
            Some(since) if now.saturating_duration_since(since) >= STALE => &[],
            _ => &self.endpoints,
        }
    }
}

/// Two objects that claim one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The host.
    pub host: String,
    /// What has it, as `KIND NAMESPACE/NAME`.
    pub has: String,
    /// What does not.
    pub lost: String,
}

/// Which host leads where.
#[derive(Debug, Default)]
pub struct Table {
    routes: HashMap<String, Arc<Route>>,
    previews: BTreeMap<Key, Arc<Preview>>,
    /// Hosts that more than one object claims.
    pub conflicts: BTreeSet<Conflict>,
    /// Whether everything was listed once. Before that, a host that is not here may exist.
    pub complete: bool,
}

impl Table {
    /// Where a host leads; in lower case, without port and final dot.
    pub fn route(&self, host: &str) -> Option<&Arc<Route>> {
        self.routes.get(host)
    }

    /// Number of hosts.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether it has no host.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Environments with a host.
    pub fn previews(&self) -> impl Iterator<Item = &Arc<Preview>> {
        self.previews.values()
    }

    /// Subdomains that `before` has and this one has not: they are gone.
    pub fn gone<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        let still: BTreeSet<&str> = self.previews().map(|preview| preview.view.subdomain.as_str()).collect();
        before.previews().map(|preview| preview.view.subdomain.as_str()).filter(move |one| !still.contains(one))
    }

    /// The table of these objects. What `before` remembers of environments and of addresses is kept.
    pub fn build(objects: &Objects, before: &Self, now: Instant) -> Self {
        let previews = previews(objects, before);
        let mut conflicts = BTreeSet::new();
        let owners = owners(&previews, &mut conflicts);
        let slices = by_service(&objects.slices);
        let mut services: Vec<(&Key, &ServiceView)> = objects.services.iter().collect();
        services.sort_by_key(|((namespace, name), view)| (view.created, name, namespace));

        let mut claimed: BTreeMap<String, (&Key, &ServiceView)> = BTreeMap::new();
        for (key, view) in services {
            for text in &view.hosts {
                let Some(host) = host::normal(text.trim()) else { continue };
                if let Some(owner) = owners.get(host.as_ref())
                    && owner.view.place != key.0
                {
                    conflicts.insert(lost(&host, written("Environment", &owner.key), key));
                    continue;
                }
                match claimed.entry(host.clone().into_owned()) {
                    Entry::Vacant(entry) => _ = entry.insert((key, view)),
                    Entry::Occupied(entry) if entry.get().0 == key => {}
                    Entry::Occupied(entry) => {
                        conflicts.insert(lost(&host, written("Service", entry.get().0), key));
                    }
                }
            }
        }
        let mut routes = HashMap::with_capacity(claimed.len() + owners.len());
        for (host, (key, view)) in claimed {
            let preview = owners.get(&host).map(|preview| Arc::clone(preview));
            let goes = preview.as_ref().is_some_and(|preview| preview.view.goes());
            let found = slices.get(key).map_or_else(Vec::new, |slices| addresses(slices, &view.port, goes));
            let project = preview.as_ref().map(|preview| preview.view.project.as_str()).or(view.project.as_deref());
            let marks = marks(preview.as_deref(), project);
            let route = settle(Some(key.clone()), found, before.route(&host), preview, marks, now);
            routes.insert(host, Arc::new(route));
        }
        for (host, preview) in owners {
            let known = before.route(&host);
            routes.entry(host).or_insert_with(|| {
                let marks = marks(Some(preview), Some(&preview.view.project));
                Arc::new(settle(None, Vec::new(), known, Some(Arc::clone(preview)), marks, now))
            });
        }
        Self { routes, previews, conflicts, complete: true }
    }
}

fn written(kind: &str, (namespace, name): &Key) -> String {
    format!("{kind} {namespace}/{name}")
}

fn lost(host: &str, has: String, key: &Key) -> Conflict {
    Conflict { host: host.to_owned(), has, lost: written("Service", key) }
}

/// Environments that have a subdomain, each with its memory.
fn previews(objects: &Objects, before: &Table) -> BTreeMap<Key, Arc<Preview>> {
    let named = objects.environments.iter().filter(|(_, view)| !view.subdomain.is_empty());
    named
        .map(|(key, view)| {
            let known = before.previews.get(key).filter(|known| known.view.subdomain == view.subdomain);
            let preview = match known {
                Some(known) if known.view == *view => known.clone(),
                known => {
                    let activity = known.map_or_else(Arc::default, |known| known.activity.clone());
                    if known.is_some_and(|known| view.sleeps() && !known.view.sleeps()) {
                        activity.naps.fetch_add(1, Ordering::Relaxed);
                    }
                    Arc::new(Preview { key: key.clone(), view: view.clone(), activity })
                }
            };
            (key.clone(), preview)
        })
        .collect()
}

/// Whose host is whose: the older environment's.
fn owners<'a>(
    previews: &'a BTreeMap<Key, Arc<Preview>>,
    conflicts: &mut BTreeSet<Conflict>,
) -> BTreeMap<String, &'a Arc<Preview>> {
    let mut sorted: Vec<&Arc<Preview>> = previews.values().collect();
    sorted.sort_by_key(|preview| (preview.view.created, &preview.key.1, &preview.key.0));
    let mut owners: BTreeMap<String, &Arc<Preview>> = BTreeMap::new();
    for preview in sorted {
        for text in &preview.view.hosts {
            let Some(host) = host::normal(text) else { continue };
            match owners.entry(host.into_owned()) {
                Entry::Vacant(entry) => _ = entry.insert(preview),
                Entry::Occupied(entry) if entry.get().key == preview.key => {}
                Entry::Occupied(entry) => {
                    let (host, has) = (entry.key().clone(), written("Environment", &entry.get().key));
                    conflicts.insert(Conflict { host, has, lost: written("Environment", &preview.key) });
                }
            }
        }
    }
    owners
}

fn by_service(slices: &BTreeMap<Key, SliceView>) -> HashMap<Key, Vec<&SliceView>> {
    let mut found: HashMap<Key, Vec<&SliceView>> = HashMap::with_capacity(slices.len());
    for ((namespace, _), slice) in slices {
        found.entry((namespace.clone(), slice.service.clone())).or_default().push(slice);
    }
    found
}

/// The addresses that take requests; those that are about to end only if there are no others, and others are to come: who comes
/// right after an environment fell asleep wakes it, and is not one more guest of what ends.
fn addresses(slices: &[&SliceView], port: &str, goes: bool) -> Vec<SocketAddr> {
    let chosen = |choose: fn(&EndpointView) -> bool| {
        let of_slice = |slice: &&SliceView| {
            let port = slice.ports.iter().find(|(name, _)| name == port).map(|(_, number)| *number);
            let all = slice.endpoints.iter().copied().filter(choose);
            all.filter_map(move |endpoint| Some(SocketAddr::new(endpoint.address, port?))).collect::<Vec<_>>()
        };
        // While an endpoint moves from one slice to another it is in both.
        slices.iter().flat_map(of_slice).collect::<BTreeSet<_>>()
    };
    let ready = chosen(|endpoint| endpoint.ready);
    let some = if ready.is_empty() && !goes { chosen(|endpoint| endpoint.lingers) } else { ready };
    some.into_iter().collect()
}

/// What upstreams are told.
fn marks(preview: Option<&Preview>, project: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let environment = preview.map(|preview| (headers::X_ENVIRONMENT, preview.key.1.clone()));
    let project = project.map(|project| (headers::X_PROJECT, project.to_owned()));
    let pull_request = preview.and_then(|preview| preview.view.pull_request);
    let pull_request = pull_request.map(|number| (headers::X_PULL_REQUEST, number.to_string()));
    let told = [environment, project, pull_request].into_iter().flatten();
    told.filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))).collect()
}

/// A route, with the addresses that were there if there is none now.
fn settle(
    service: Option<Key>,
    endpoints: Vec<SocketAddr>,
    before: Option<&Arc<Route>>,
    preview: Option<Arc<Preview>>,
    marks: Vec<(HeaderName, HeaderValue)>,
    now: Instant,
) -> Route {
    let turn = AtomicUsize::new(before.map_or(0, |before| before.turn.load(Ordering::Relaxed)));
    let goes = preview.as_ref().is_some_and(|preview| preview.view.goes());
    let known = before.filter(|before| !goes && before.service == service && !before.endpoints.is_empty());
    let (endpoints, bare) = match known {
        Some(before) if endpoints.is_empty() => (before.endpoints.clone(), before.bare.or(Some(now))),
        _ => (endpoints, None),
    };
    Route { service, endpoints, bare, preview, marks, turn }
}

#[cfg(test)]
mod tests;
