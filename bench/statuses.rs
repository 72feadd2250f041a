//! What the statuses of stages say of their deploys, as a watch tells it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;
use serde_json::json;
use stagekeeper::api::Stage;

use crate::{Failure, QUIET, SERVICE, UPSTREAM};

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Stage)]
struct Seen {
    metadata: ObjectMeta,
    status: Option<SeenStatus>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenStatus {
    release: Option<String>,
    images: Option<String>,
    deploy: Option<SeenDeploy>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct SeenDeploy {
    #[serde(default)]
    state: String,
    release: Option<String>,
    message: Option<String>,
}

/// The watch on one namespace and what it has told.
pub struct Statuses {
    client: Client,
    namespace: String,
    events: BoxStream<'static, watcher::Result<watcher::Event<Seen>>>,
    by_stage: BTreeMap<String, SeenStatus>,
}

impl Statuses {
    /// Opens the watch and waits until it has told what exists.
    pub async fn open(client: &Client, namespace: &str) -> Result<Self, Failure> {
        let api: Api<Seen> = Api::namespaced(client.clone(), namespace);
        let events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let (client, namespace) = (client.clone(), namespace.to_owned());
        let mut statuses = Self { client, namespace, events, by_stage: BTreeMap::new() };
        let deadline = Instant::now() + Duration::from_mins(2);
        while !matches!(statuses.next(deadline).await?, Some(watcher::Event::InitDone)) {}
        Ok(statuses)
    }

    /// Names of the stages that releases are promoted to.
    pub fn stages(&self) -> Vec<String> {
        self.by_stage.keys().filter(|name| *name != UPSTREAM).cloned().collect()
    }

    /// How many of those stages say that a deploy of the release has left pending, as far as they have come.
    pub fn accepted(&self, release: &str) -> Result<usize, Failure> {
        let mut accepted = 0;
        for (name, status) in self.by_stage.iter().filter(|(name, _)| *name != UPSTREAM) {
            let Some(deploy) = status.deploy.as_ref().filter(|deploy| deploy.release.as_deref() == Some(release))
            else {
                continue;
            };
            match deploy.state.as_str() {
                "Pending" => {}
                "Pulling" | "Starting" | "ConfiguringProxy" | "HealthChecking" | "Success" => accepted += 1,
                other => return Err(format!("{name} is {other}: {:?}", deploy.message).into()),
            }
        }
        Ok(accepted)
    }

    /// How many of those stages say that the release serves.
    pub fn serving(&self, release: &str) -> usize {
        let serves = |name: &str, status: &SeenStatus| {
            name != UPSTREAM
                && status.release.as_deref() == Some(release)
                && status.deploy.as_ref().is_some_and(|deploy| deploy.state == "Success")
        };
        self.by_stage.iter().filter(|(name, status)| serves(name, status)).count()
    }

    /// Waits until `reached` says so, or the deadline.
    pub async fn until(
        &mut self,
        deadline: Instant,
        mut reached: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        while !reached(self)? {
            if self.next(deadline).await?.is_none() {
                let some = self.by_stage.iter().filter_map(|(name, status)| {
                    let deploy = status.deploy.as_ref().filter(|deploy| deploy.state != "Success")?;
                    Some(format!("{name}: {} {}", deploy.state, deploy.message.as_deref().unwrap_or_default()))
                });
                let some: Vec<String> = some.take(3).collect();
                return Err(format!("not all stages got there; for example {}", some.join("; ")).into());
            }
        }
        Ok(())
    }

    /// Waits until no status has changed for a while.
    pub async fn rest(&mut self) -> Result<(), Failure> {
        while self.next(Instant::now() + QUIET).await?.is_some() {}
        Ok(())
    }

    /// Lets the stage that the others follow move to an image, waits until it serves and nothing changes any more, and
    /// returns the release.
    pub async fn lead(&mut self, digest: &str, deadline: Instant) -> Result<String, Failure> {
        let api: Api<Stage> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({"spec": {"pin": {SERVICE: digest}}}));
        api.patch(UPSTREAM, &PatchParams::default(), &patch).await?;
        // People read the beginning of the digest.
        let image = format!("{SERVICE}@{}", &digest[..19]);
        let serves = |status: &SeenStatus| {
            status.images.as_deref() == Some(&*image)
                && status
                    .deploy
                    .as_ref()
                    .is_some_and(|deploy| deploy.state == "Success" && deploy.release == status.release)
        };
        self.until(deadline, |all| Ok(all.by_stage.get(UPSTREAM).is_some_and(serves))).await?;
        self.rest().await?;
        let release = self.by_stage.get(UPSTREAM).and_then(|status| status.release.clone());
        release.ok_or_else(|| "the stage before the others serves nothing".into())
    }

    /// The next thing that the watch tells; nothing at the deadline.
    async fn next(&mut self, deadline: Instant) -> Result<Option<watcher::Event<Seen>>, Failure> {
        let Ok(event) = tokio::time::timeout_at(deadline.into(), self.events.next()).await else {
            return Ok(None);
        };
        // What comes after an interruption is not what was to be measured.
        let event =
            event.ok_or("the watch has ended")?.map_err(|error| format!("the watch was interrupted: {error}"))?;
        match &event {
            watcher::Event::Apply(seen) | watcher::Event::InitApply(seen) => {
                self.by_stage.insert(seen.name_any(), seen.status.clone().unwrap_or_default());
            }
            watcher::Event::Delete(seen) => {
                self.by_stage.remove(&seen.name_any());
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
        Ok(Some(event))
    }
}
