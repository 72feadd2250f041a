//! What the API server says, made into tables.
//!
//! Three kinds are watched, each reduced to what counts as it comes. While the API server is away the last table stays; after it
//! was away, what it lists replaces what was known of each kind as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _, StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use jiff::Timestamp;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::Deserialize;

use super::{
    Edge,
    table::{EndpointView, EnvironmentView, Key, Objects, Phase, ServiceView, SliceView, Table},
};
use crate::{
    api::{Environment, labels},
    cluster::anew::{Pauses, RELIST, relisting},
    telemetry::{Part, Readiness},
};

/// How long one watch call lasts.
const WATCH_SECONDS: u32 = 290;
/// Objects in one answer.
const PAGE_SIZE: u32 = 500;
/// What `EndpointSlice`s name their Service by.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Time between two tables, at least; and how many times as long as making one took.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_TIMES: u32 = 4;

/// News of one object, or of all of a scope.
enum News {
    Service(Change<ServiceView>),
    Slice(Change<SliceView>),
    Environment(Change<EnvironmentView>),
}

enum Change<V> {
    /// A list begins.
    Begin,
    /// Of a list.
    Listed(Key, V),
    /// The list ends: what was not in it is not there.
    End,
    Set(Key, V),
    Gone(Key),
}

/// One kind, in the scopes that are watched.
struct Known<V> {
    /// What has been listed so far, by scope.
    listing: BTreeMap<usize, BTreeMap<Key, V>>,
    /// Scopes that were listed.
    listed: BTreeSet<usize>,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self { listing: BTreeMap::new(), listed: BTreeSet::new() }
    }
}

impl<V> Known<V> {
    /// Applies news of the scope `at`, which is one namespace or (none) all.
    fn take(&mut self, at: usize, scope: Option<&str>, change: Change<V>, objects: &mut BTreeMap<Key, V>) {
        match change {
            Change::Begin => _ = self.listing.insert(at, BTreeMap::new()),
            Change::Listed(key, view) => _ = self.listing.entry(at).or_default().insert(key, view),
            Change::End => {
                objects.retain(|(namespace, _), _| scope.is_some_and(|scope| scope != namespace));
                objects.append(&mut self.listing.remove(&at).unwrap_or_default());
                self.listed.insert(at);
            }
            Change::Set(key, view) => _ = objects.insert(key, view),
            Change::Gone(key) => _ = objects.remove(&key),
        }
    }
}

/// Watches and makes tables, for ever. In these namespaces, or (none) in all.
pub async fn follow(edge: Arc<Edge>, client: Client, namespaces: Option<Vec<String>>, readiness: Arc<Readiness>) {
    let scopes: Vec<Option<String>> = namespaces.map_or_else(|| vec![None], |all| all.into_iter().map(Some).collect());
    let mut news = streams(&client, &scopes);
    let mut objects = Objects::default();
    let (mut services, mut slices, mut environments) = (Known::default(), Known::default(), Known::default());
    while let Some(first) = news.next().await {
        // What has come meanwhile belongs to the same table.
        let mut next = Some(first);
        while let Some((at, one)) = next {
            let scope = scopes[at].as_deref();
            match one {
                News::Service(change) => services.take(at, scope, change, &mut objects.services),
                News::Slice(change) => slices.take(at, scope, change, &mut objects.slices),
                News::Environment(change) => environments.take(at, scope, change, &mut objects.environments),
            }
            next = news.next().now_or_never().flatten();
        }
        // Half of it would show previews as what they are not.
        let complete =
            [&services.listed, &slices.listed, &environments.listed].iter().all(|listed| listed.len() == scopes.len());
        if !complete {
            continue;
        }
        let began = Instant::now();
        let before = edge.table();
        let made = tokio::task::spawn_blocking(move || {
            let table = Table::build(&objects, &before, began);
            (table, objects)
        });
        match made.await {
            Ok((table, back)) => {
                objects = back;
                edge.replace(table);
                readiness.set(Part::Watches, true);
            }
            Err(error) => {
                tracing::error!(%error, "the table could not be made");
                return;
            }
        }
        tokio::time::sleep(PAUSE.max(began.elapsed() * PAUSE_TIMES)).await;
    }
}

/// All kinds in all scopes.
fn streams(client: &Client, scopes: &[Option<String>]) -> SelectAll<BoxStream<'static, (usize, News)>> {
    let selector = format!("{}=true,{}={}", labels::EDGE, labels::MANAGED_BY, labels::FIELD_MANAGER);
    let all = || watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE);
    let environments = ApiResource::erase::<Environment>(&());
    let mut news = SelectAll::new();
    for (at, scope) in scopes.iter().enumerate() {
        let services: Api<PartialObjectMeta<Service>> = scoped(client, scope.as_deref());
        let slices: Api<EndpointSlice> = scoped(client, scope.as_deref());
        let found: Api<DynamicObject> = match scope {
            None => Api::all_with(client.clone(), &environments),
            Some(scope) => Api::namespaced_with(client.clone(), scope, &environments),
        };
        let services = relisting(services, all().labels(&selector), RELIST);
        news.push(read(services, "Services", service).map(move |one| (at, News::Service(one))).boxed());
        let slices = relisting(slices, all().labels(&selector), RELIST);
        news.push(read(slices, "EndpointSlices", slice).map(move |one| (at, News::Slice(one))).boxed());
        let found = relisting(found, all(), RELIST);
        news.push(read(found, "Environments", environment).map(move |one| (at, News::Environment(one))).boxed());
    }
    news
}

fn scoped<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        None => Api::all(client.clone()),
        Some(scope) => Api::namespaced(client.clone(), scope),
    }
}

/// The news of one watch, each object reduced to what counts. What cannot be watched is said, and tried again.
fn read<K, V>(
    events: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    kind: &'static str,
    view: fn(&K) -> Option<V>,
) -> impl futures::Stream<Item = Change<V>> + Send + 'static
where
    K: ResourceExt + Debug + Send + 'static,
    V: Send + 'static,
{
    events.backoff(Pauses::default()).filter_map(move |event| {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let change = match event {
            Ok(Event::Init) => Some(Change::Begin),
            Ok(Event::InitApply(object)) => view(&object).map(|view| Change::Listed(key(&object), view)),
            Ok(Event::InitDone) => Some(Change::End),
            Ok(Event::Apply(object)) => Some(match view(&object) {
                Some(view) => Change::Set(key(&object), view),
                None => Change::Gone(key(&object)),
            }),
            Ok(Event::Delete(object)) => Some(Change::Gone(key(&object))),
            Err(error) => {
                tracing::warn!(
                    kind,
                    %error,
                    "cannot be watched: what was known of it stays, and no host is known if it was never listed; check that \
                     the API server answers, and the RBAC rules of the edge"
                );
                None
            }
        };
        std::future::ready(change)
    })
}

fn created(object: &impl ResourceExt) -> i64 {
    object.creation_timestamp().map_or(i64::MAX, |time| seconds(time.0))
}

fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

fn service(object: &PartialObjectMeta<Service>) -> Option<ServiceView> {
    let annotations = object.annotations();
    let hosts = annotations.get(labels::EDGE_HOSTS)?;
    Some(ServiceView {
        created: created(object),
        hosts: hosts.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect(),
        port: annotations.get(labels::EDGE_PORT).cloned().unwrap_or_default(),
        project: object.labels().get(labels::PROJECT).cloned(),
    })
}

fn slice(object: &EndpointSlice) -> Option<SliceView> {
    let service = object.labels().get(SERVICE_NAME)?.clone();
    let endpoints = object.endpoints.iter();
    let endpoints = endpoints.filter_map(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ends = conditions.terminating == Some(true);
        Some(EndpointView {
            // A slice of addresses; names are not used by Services with a selector. Only the first counts.
            address: endpoint.addresses.first()?.parse().ok()?,
            // Not said means yes.
            ready: conditions.ready != Some(false) && !ends,
            lingers: ends && conditions.serving == Some(true),
        })
    });
    let ports = object.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port?).ok()?;
        Some((port.name.clone().unwrap_or_default(), number))
    });
    Some(SliceView { service, endpoints: endpoints.collect(), ports: ports.collect() })
}

/// The part of an Environment that is read: what other versions of the kind say besides is no hindrance.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    project: String,
    #[serde(default)]
    source: Option<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    #[serde(default)]
    pull_request: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    subdomain: Option<String>,
    phase: Option<String>,
    namespace: Option<String>,
    hosts: Vec<Host>,
    awake: bool,
    deploy: Option<Deploy>,
}

#[derive(Deserialize)]
struct Host {
    #[serde(default)]
    host: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Deploy {
    id: String,
    message: Option<String>,
    waiting_reason: Option<String>,
}

fn environment(object: &DynamicObject) -> Option<EnvironmentView> {
    let spec = Spec::deserialize(object.data.get("spec")?).ok()?;
    let status = object.data.get("status").and_then(|status| Status::deserialize(status).ok()).unwrap_or_default();
    let deploy = status.deploy.unwrap_or_default();
    Some(EnvironmentView {
        created: created(object),
        place: status.namespace.or_else(|| object.namespace()).unwrap_or_default(),
        project: spec.project,
        pull_request: spec.source.and_then(|source| source.pull_request),
        subdomain: status.subdomain.unwrap_or_default(),
        hosts: status.hosts.into_iter().map(|host| host.host).filter(|host| !host.is_empty()).collect(),
        phase: if object.metadata.deletion_timestamp.is_some() {
            Phase::Ending
        } else {
            Phase::of(status.phase.as_deref().unwrap_or_default())
        },
        awake: status.awake,
        deploy: Some(deploy.id).filter(|id| !id.is_empty()),
        message: deploy.message,
        waiting: deploy.waiting_reason,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        ("acme".into(), name.into())
    }

    #[test]
    fn what_counts_is_read_from_objects_as_the_api_server_writes_them() {
        let object = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": "web", "namespace": "acme", "creationTimestamp": "2026-11-22T10:00:00Z",
                "labels": {"stagekeeper.dev/edge": "true", "stagekeeper.dev/project": "shop"},
                "annotations": {"stagekeeper.dev/edge-hosts": "a.test, b.test,", "stagekeeper.dev/edge-port": "http"},
            },
        }));
        let view = service(&object.unwrap()).unwrap();
        assert_eq!((view.hosts, view.port.as_str()), (vec!["a.test".into(), "b.test".into()], "http"));
        assert_eq!((view.created, view.project.as_deref()), (1_795_341_600, Some("shop")));

        let object = serde_json::from_value(json!({
            "metadata": {"name": "web-x", "namespace": "acme", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false, "terminating": false}},
                {"addresses": ["10.0.0.4"]},
                {"addresses": ["name.test"]},
            ],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"port": 70000}, {"name": "none"}],
        }));
        let view = slice(&object.unwrap()).unwrap();
        let told: Vec<(bool, bool)> = view.endpoints.iter().map(|one| (one.ready, one.lingers)).collect();
        assert_eq!(told, [(true, false), (false, true), (false, false), (true, false)]);
        assert_eq!((view.service.as_str(), view.ports), ("web", vec![("http".into(), 8080)]));

        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": "pr-42", "namespace": "acme"},
            "spec": {"project": "shop", "source": {"pullRequest": 42}, "ofATimeToCome": true},
            "status": {
                "subdomain": "pr-42-x", "phase": "Asleep", "namespace": "home-42", "awake": false,
                "hosts": [{"service": "web", "host": "pr-42-x.test"}],
                "deploy": {"id": "0192", "state": "Pending", "waitingReason": "Image", "message": "not yet"},
                "conditions": [{"type": "Ready"}],
            },
        }))
        .unwrap();
        let view = environment(&object).unwrap();
        assert_eq!((view.phase, view.place.as_str(), view.hosts.len()), (Phase::Asleep, "home-42", 1));
        assert_eq!(
            (view.pull_request, view.waiting.as_deref(), view.deploy.as_deref()),
            (Some(42), Some("Image"), Some("0192"))
        );
    }

    #[test]
    fn a_list_replaces_what_was_known_of_its_scope() {
        let mut objects: BTreeMap<Key, u8> = BTreeMap::new();
        let mut known = Known::default();
        known.take(0, Some("acme"), Change::Set(key("old"), 1), &mut objects);
        objects.insert(("other".into(), "kept".into()), 1);
        known.take(0, Some("acme"), Change::Begin, &mut objects);
        known.take(0, Some("acme"), Change::Listed(key("new"), 2), &mut objects);
        assert!(objects.contains_key(&key("old")) && known.listed.is_empty(), "not before its end");
        known.take(0, Some("acme"), Change::End, &mut objects);
        let names: Vec<&str> = objects.keys().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["new", "kept"]);
        known.take(0, None, Change::Begin, &mut objects);
        known.take(0, None, Change::End, &mut objects);
        assert!(objects.is_empty());
        known.take(0, None, Change::Set(key("a"), 1), &mut objects);
        known.take(0, None, Change::Gone(key("a")), &mut objects);
        assert!(objects.is_empty() && known.listed.contains(&0));
    }
}
