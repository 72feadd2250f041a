//! Sees from outside, by watches, how far the stages of a namespace are. The same eyes for floor and operator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stagekeeper::api::{Stage, labels};

use crate::Failure;

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Stage)]
struct SeenStage {
    metadata: ObjectMeta,
    status: Option<SeenStatus>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenStatus {
    release: Option<String>,
    deploy: Option<SeenDeploy>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenDeploy {
    #[serde(default)]
    state: String,
    release: Option<String>,
    message: Option<String>,
}

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Service)]
struct SeenService {
    metadata: ObjectMeta,
    spec: SeenServiceSpec,
}

#[derive(Deserialize, Clone, Debug)]
struct SeenServiceSpec {
    #[serde(default)]
    selector: BTreeMap<String, String>,
}

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Deployment)]
struct SeenDeployment {
    metadata: ObjectMeta,
    spec: SeenDeploymentSpec,
}

#[derive(Deserialize, Clone, Debug)]
struct SeenDeploymentSpec {
    template: SeenTemplate,
}

#[derive(Deserialize, Clone, Debug)]
struct SeenTemplate {
    spec: SeenPodSpec,
}

#[derive(Deserialize, Clone, Debug)]
struct SeenPodSpec {
    containers: Vec<SeenContainer>,
}

#[derive(Deserialize, Clone, Debug)]
struct SeenContainer {
    image: Option<String>,
}

enum Change {
    Stage(SeenStage),
    Service(Option<SeenService>, String),
    Deployment(Option<SeenDeployment>, String),
    Synced,
    Interrupted(String),
    Nothing,
}

/// What is known of one stage.
#[derive(Default)]
struct View {
    state: String,
    message: String,
    release: Option<String>,
    deployed: Option<String>,
    /// The instance that the stage's Service selects.
    selected: Option<String>,
    moved: bool,
}

/// The watches on one namespace and what they have told.
pub struct Observer {
    changes: SelectAll<BoxStream<'static, Change>>,
    stages: BTreeMap<String, View>,
    /// Image by stage and instance.
    workloads: BTreeMap<(String, String), String>,
    /// Stage and instance by object name: an instance's Deployments and Services.
    deployments: BTreeMap<String, (String, String)>,
    services: BTreeMap<String, (String, String)>,
    /// Releases that a stage leaves: not the target, even if its Service still selects them.
    left: BTreeMap<String, (Option<String>, Option<String>)>,
    digest: String,
    moved: usize,
}

impl Observer {
    /// Opens the watches and waits until they have told what exists.
    pub async fn open(client: &Client, namespace: &str, digest: &str) -> Result<Self, Failure> {
        let mut changes: SelectAll<BoxStream<'static, Change>> = SelectAll::new();
        changes.push(events(client, namespace, |stage, _| stage.map_or(Change::Nothing, Change::Stage)));
        changes.push(events(client, namespace, Change::Service));
        changes.push(events(client, namespace, Change::Deployment));
        let mut observer = Self {
            changes,
            stages: BTreeMap::new(),
            workloads: BTreeMap::new(),
            deployments: BTreeMap::new(),
            services: BTreeMap::new(),
            left: BTreeMap::new(),
            digest: digest.to_owned(),
            moved: 0,
        };
        let deadline = Instant::now() + Duration::from_mins(2);
        let mut synced = 0;
        while synced < 3 {
            match observer.next_change(deadline).await? {
                Change::Synced => synced += 1,
                change => observer.apply(change),
            }
        }
        Ok(observer)
    }

    /// Names of the stages.
    pub fn stages(&self) -> Vec<String> {
        self.stages.keys().cloned().collect()
    }

    /// From here on a stage counts as moved only when it has left the release that it runs now.
    pub fn leave_current(&mut self) {
        self.left = self
            .stages
            .iter()
            .map(|(name, view)| (name.clone(), (view.release.clone(), view.selected.clone())))
            .collect();
        self.moved = 0;
        for view in self.stages.values_mut() {
            view.moved = false;
        }
        for name in self.stages() {
            self.judge(&name);
        }
    }

    /// How many stages run the wanted release by their own word, with a workload of that image and the traffic on
    /// it.
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// How many instances exist beside the ones that have the traffic, as Deployments and Services.
    pub fn leftovers(&self) -> usize {
        self.deployments
            .values()
            .chain(self.services.values())
            .filter(|(stage, instance)| {
                self.stages.get(stage).is_none_or(|view| view.selected.as_ref() != Some(instance))
            })
            .count()
    }

    /// Waits for the next change until the deadline; tells whether there was one.
    pub async fn advance(&mut self, deadline: Instant) -> Result<bool, Failure> {
        match self.next_change(deadline).await {
            Ok(change) => {
                self.apply(change);
                Ok(true)
            }
            Err(_) if Instant::now() >= deadline => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Some of the stages that have not moved, for a person.
    pub fn laggards(&self) -> String {
        let some: Vec<String> = self
            .stages
            .iter()
            .filter(|(_, view)| !view.moved)
            .take(3)
            .map(|(name, view)| format!("{name}: {} {}", view.state, view.message))
            .collect();
        some.join("; ")
    }

    async fn next_change(&mut self, deadline: Instant) -> Result<Change, Failure> {
        let next = tokio::time::timeout_at(deadline.into(), self.changes.next());
        match next.await.map_err(|_| "the API server tells nothing new")? {
            // What comes after an interruption is not what was to be measured.
            Some(Change::Interrupted(why)) => Err(format!("a watch was interrupted: {why}").into()),
            Some(change) => Ok(change),
            None => Err("the watches have ended".into()),
        }
    }

    fn apply(&mut self, change: Change) {
        let stage = match change {
            Change::Stage(seen) => {
                let name = seen.name_any();
                let status = seen.status.unwrap_or_default();
                let deploy = status.deploy.unwrap_or_default();
                let view = self.stages.entry(name.clone()).or_default();
                view.release = status.release;
                view.state = deploy.state;
                view.deployed = deploy.release;
                view.message = deploy.message.unwrap_or_default();
                Some(name)
            }
            Change::Service(seen, name) => self.service(seen, &name),
            Change::Deployment(seen, name) => self.deployment(seen, name),
            Change::Synced | Change::Nothing | Change::Interrupted(_) => None,
        };
        if let Some(stage) = stage {
            self.judge(&stage);
        }
    }

    fn service(&mut self, seen: Option<SeenService>, name: &str) -> Option<String> {
        let Some(seen) = seen else {
            self.services.remove(name);
            return None;
        };
        let stage = seen.labels().get(labels::STAGE)?.clone();
        if let Some(instance) = seen.labels().get(labels::INSTANCE) {
            self.services.insert(name.to_owned(), (stage, instance.clone()));
            return None;
        }
        let view = self.stages.entry(stage.clone()).or_default();
        view.selected = seen.spec.selector.get(labels::INSTANCE).cloned();
        Some(stage)
    }

    fn deployment(&mut self, seen: Option<SeenDeployment>, name: String) -> Option<String> {
        let Some(seen) = seen else {
            let place = self.deployments.remove(&name)?;
            self.workloads.remove(&place);
            return Some(place.0);
        };
        let stage = seen.labels().get(labels::STAGE)?.clone();
        let instance = seen.labels().get(labels::INSTANCE)?.clone();
        let image = seen.spec.template.spec.containers.into_iter().next()?.image?;
        let place = (stage.clone(), instance);
        self.deployments.insert(name, place.clone());
        self.workloads.insert(place, image);
        Some(stage)
    }

    fn judge(&mut self, stage: &str) {
        let nothing = (None, None);
        let (release, selected) = self.left.get(stage).unwrap_or(&nothing);
        let Some(view) = self.stages.get_mut(stage) else {
            return;
        };
        let runs_it = view.selected.as_ref().is_some_and(|instance| {
            self.workloads.get(&(stage.to_owned(), instance.clone())).is_some_and(|image| image.ends_with(&self.digest))
        });
        let moved = view.state == "Success"
            && view.release.is_some()
            && view.release == view.deployed
            && view.release != *release
            && view.selected != *selected
            && runs_it;
        if moved && !view.moved {
            self.moved += 1;
        } else if !moved && view.moved {
            self.moved -= 1;
        }
        view.moved = moved;
    }
}

fn events<K>(
    client: &Client,
    namespace: &str,
    into: impl Fn(Option<K>, String) -> Change + Send + 'static,
) -> BoxStream<'static, Change>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .map(move |event| match event {
            Ok(watcher::Event::Apply(seen) | watcher::Event::InitApply(seen)) => {
                let name = seen.name_any();
                into(Some(seen), name)
            }
            Ok(watcher::Event::Delete(seen)) => into(None, seen.name_any()),
            Ok(watcher::Event::InitDone) => Change::Synced,
            Ok(watcher::Event::Init) => Change::Nothing,
            Err(err) => Change::Interrupted(err.to_string()),
        })
        .boxed()
}

/// Waits until no pod of an instance other than the wanted ones is left; `wanted` is how many pods stay.
pub async fn pods_gone(client: &Client, namespace: &str, wanted: usize, deadline: Instant) -> Result<(), Failure> {
    let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let counted = count(events, wanted);
    tokio::time::timeout_at(deadline.into(), counted).await.map_err(|_| "pods of old instances are still there".into())
}

async fn count<K: ResourceExt>(events: impl Stream<Item = watcher::Result<watcher::Event<K>>>, wanted: usize) {
    let mut events = std::pin::pin!(events);
    let (mut pods, mut synced) = (BTreeSet::new(), false);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                pods.insert(pod.name_any());
            }
            Ok(watcher::Event::Delete(pod)) => drop(pods.remove(&pod.name_any())),
            Ok(watcher::Event::InitDone) => synced = true,
            Ok(watcher::Event::Init) => pods.clear(),
            Err(err) => eprintln!("bench-load: a watch was interrupted: {err}"),
        }
        if synced && pods.len() <= wanted {
            return;
        }
    }
}
