//! What the operator adds to a deploy on a real node: everything but image pull, pod readiness and probe waits.
//!
//! One stage is moved to and fro between two images that the node has pulled already. Watches tell when the new
//! Deployment appears, when its pod is ready, when the stage's Service selects it and when the status says so. What lies
//! between the first two is the node's; of what lies between the next two, whole probe intervals are the declared wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stagekeeper::api::{Project, Stage, labels};

use crate::{Failure, PROJECT, SERVICE};

/// Pause between two deploys: what the one before left behind is gone.
const REST: Duration = Duration::from_secs(3);

#[derive(Args)]
pub struct Node {
    #[arg(long)]
    namespace: String,
    /// The image, without tag or digest.
    #[arg(long)]
    repository: String,
    /// Two digests to move between; both are pulled before anything is measured.
    #[arg(long, value_delimiter = ',')]
    digests: Vec<String>,
    /// Deploys to measure.
    #[arg(long, default_value_t = 10)]
    deploys: usize,
    /// Milliseconds between two probes; 0 declares no health check.
    #[arg(long, default_value_t = 500)]
    probe_interval: u64,
    /// Seconds for one deploy.
    #[arg(long, default_value_t = 120)]
    deadline: u64,
}

/// Something that the watches told.
enum Seen {
    Created(String),
    Ready(String),
    Selects(String),
    Stage { state: String, release: Option<String>, message: String },
}

/// When each part of one deploy was seen, from its submission on.
#[derive(Default)]
struct Times {
    created: BTreeMap<String, Duration>,
    ready: BTreeMap<String, Duration>,
    switched: Option<(String, Duration)>,
}

impl Node {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let [one, other] = self.digests.as_slice() else {
            return Err("two digests are needed".into());
        };
        let mut events = self.watch(client);
        self.seed(client, one).await?;
        let (mut serving, mut release) = self.settled(&mut events, Times::default(), Instant::now(), None).await?.1;
        let mut deploys = Vec::new();
        for number in 0..=self.deploys {
            tokio::time::sleep(REST).await;
            let digest = if number % 2 == 0 { other } else { one };
            let mut times = Times::default();
            // What came in the meantime is about the deploy before.
            while let Ok(Some(_)) = tokio::time::timeout(Duration::ZERO, events.next()).await {}
            times.switched = None;
            let started = Instant::now();
            self.submit(client, digest).await?;
            let ((times, total), now) = self.settled(&mut events, times, started, release.as_ref()).await?;
            if now.0 == serving {
                return Err("the traffic did not move".into());
            }
            (serving, release) = now;
            // The first one pulls the second image.
            if number > 0 {
                deploys.push(self.account(&times, &serving, total)?);
            }
        }
        Ok(json!({"kind": "node", "probeIntervalMillis": self.probe_interval, "deploys": deploys}))
    }

    fn account(&self, times: &Times, instance: &str, total: Duration) -> Result<Value, Failure> {
        let of = |map: &BTreeMap<String, Duration>| map.get(instance).copied();
        let (Some(created), Some(ready), Some((_, switched))) =
            (of(&times.created), of(&times.ready), times.switched.as_ref())
        else {
            return Err(format!("instance {instance} was not seen to be made").into());
        };
        let interval = Duration::from_millis(self.probe_interval);
        let after = switched.saturating_sub(ready);
        let waits = if interval.is_zero() { 0 } else { after.as_millis() / interval.as_millis() };
        let probing = interval.saturating_mul(u32::try_from(waits)?);
        let readiness = ready.saturating_sub(created);
        let overhead = total.saturating_sub(readiness).saturating_sub(probing);
        Ok(json!({
            "totalSeconds": total.as_secs_f64(),
            "untilCreatedSeconds": created.as_secs_f64(),
            "readinessSeconds": readiness.as_secs_f64(),
            "readyUntilSwitchedSeconds": after.as_secs_f64(),
            "probeWaitSeconds": probing.as_secs_f64(),
            "switchedUntilToldSeconds": total.saturating_sub(*switched).as_secs_f64(),
            "overheadSeconds": overhead.as_secs_f64(),
        }))
    }

    /// Reads until the stage runs another release than `before`; tells when, and which instance and release it is.
    async fn settled(
        &self,
        events: &mut SelectAll<BoxStream<'static, Result<Seen, Failure>>>,
        mut times: Times,
        started: Instant,
        before: Option<&String>,
    ) -> Result<((Times, Duration), (String, Option<String>)), Failure> {
        let deadline = started + Duration::from_secs(self.deadline);
        let mut last = String::new();
        loop {
            let next = tokio::time::timeout_at(deadline.into(), events.try_next());
            let seen = next.await.map_err(|_| format!("nothing more happens; the stage says: {last}"))??;
            let now = started.elapsed();
            match seen.ok_or("the watches have ended")? {
                Seen::Created(instance) => drop(times.created.entry(instance).or_insert(now)),
                Seen::Ready(instance) => drop(times.ready.entry(instance).or_insert(now)),
                Seen::Selects(instance) => {
                    if times.switched.as_ref().is_none_or(|(known, _)| *known != instance) {
                        times.switched = Some((instance, now));
                    }
                }
                Seen::Stage { state, release, message } => {
                    last = format!("{state}: {message}");
                    if matches!(state.as_str(), "Failed" | "RolledBack") {
                        return Err(last.into());
                    }
                    if state == "Success"
                        && release.is_some()
                        && release.as_ref() != before
                        && let Some((instance, _)) = &times.switched
                    {
                        let instance = instance.clone();
                        return Ok(((times, now), (instance, release)));
                    }
                }
            }
        }
    }

    async fn seed(&self, client: &Client, digest: &str) -> Result<(), Failure> {
        let mut service = json!({
            "name": SERVICE,
            "image": {"repository": self.repository, "digest": digest, "insecure": true},
            "scope": "Instance",
            "replicas": 1,
            "ports": [{"name": "http", "port": 8080}],
        });
        if self.probe_interval > 0 {
            service["health"] = json!({
                "http": {"path": "/healthz", "port": "http"},
                "interval": format!("{}ms", self.probe_interval),
            });
        }
        let project = serde_json::from_value::<Project>(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Project", "metadata": {"name": PROJECT},
            "spec": {"services": [service]},
        }))?;
        let stage = serde_json::from_value::<Stage>(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Stage", "metadata": {"name": "node"},
            "spec": {"project": PROJECT, "rollback": {"keepPrevious": "0s", "watch": "0s"}},
        }))?;
        let projects: Api<Project> = Api::namespaced(client.clone(), &self.namespace);
        projects.create(&PostParams::default(), &project).await?;
        let stages: Api<Stage> = Api::namespaced(client.clone(), &self.namespace);
        stages.create(&PostParams::default(), &stage).await?;
        Ok(())
    }

    async fn submit(&self, client: &Client, digest: &str) -> Result<(), Failure> {
        let api: Api<Project> = Api::namespaced(client.clone(), &self.namespace);
        let patch = serde_json::from_value(json!([
            {"op": "replace", "path": "/spec/services/0/image/digest", "value": digest},
        ]))?;
        api.patch(PROJECT, &PatchParams::default(), &Patch::<()>::Json(patch)).await?;
        Ok(())
    }

    fn watch(&self, client: &Client) -> SelectAll<BoxStream<'static, Result<Seen, Failure>>> {
        let mut all: SelectAll<BoxStream<'static, Result<Seen, Failure>>> = SelectAll::new();
        all.push(changes::<Deployment>(client, &self.namespace, |object| {
            object.labels().get(labels::INSTANCE).cloned().map(Seen::Created)
        }));
        all.push(changes::<Pod>(client, &self.namespace, |object| {
            let conditions = object.status.as_ref()?.conditions.as_ref()?;
            let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
            ready.then(|| object.labels().get(labels::INSTANCE).cloned().map(Seen::Ready))?
        }));
        all.push(changes::<Service>(client, &self.namespace, |object| {
            let stable = !object.labels().contains_key(labels::INSTANCE);
            let selector = object.spec.as_ref()?.selector.as_ref()?.get(labels::INSTANCE)?;
            stable.then(|| Seen::Selects(selector.clone()))
        }));
        all.push(changes::<Stage>(client, &self.namespace, |object| {
            let status = object.status.as_ref()?;
            let deploy = status.deploy.as_ref()?;
            let message = deploy.message.clone().unwrap_or_default();
            Some(Seen::Stage { state: deploy.state.clone(), release: status.release.clone(), message })
        }));
        all
    }
}

fn changes<K>(
    client: &Client,
    namespace: &str,
    read: impl Fn(&K) -> Option<Seen> + Send + 'static,
) -> BoxStream<'static, Result<Seen, Failure>>
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
        .applied_objects()
        .map_err(Failure::from)
        .try_filter_map(move |object| std::future::ready(Ok(read(&object))))
        .boxed()
}
