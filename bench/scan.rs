//! What it takes to know the newest image of many repositories: from the last object's creation until the status of every
//! Project tells the tag that its policy chose. Choosing among very many tags is measured without any of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use stagekeeper::api::Project;

use crate::registry::{self, Registry, Repository};
use crate::{AT_ONCE, Failure, Place, SERVICE};

/// Lists that the bare client asks for at once: as many as the operator does by default.
const FLOOR_AT_ONCE: usize = 8;

#[derive(Args)]
pub struct Scan {
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    repositories: usize,
    /// Tags of each.
    #[arg(long)]
    tags: usize,
    /// Seconds between two scans of a repository.
    #[arg(long, default_value_t = 30)]
    interval: u64,
    /// The operator's binary, which is told how fast the registry may be asked.
    #[arg(long)]
    program: PathBuf,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 300)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
}

/// The bare client: gets every list once, parses it, and chooses nothing.
#[derive(Args)]
pub struct ScanFloor {
    /// Where the registry listens.
    #[arg(long)]
    registry: SocketAddr,
    #[arg(long)]
    repositories: usize,
}

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Project)]
struct SeenProject {
    metadata: ObjectMeta,
    status: Option<SeenStatus>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenStatus {
    #[serde(default)]
    services: Vec<SeenService>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct SeenService {
    latest_tag: Option<String>,
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    tags: Vec<String>,
}

fn named(number: usize) -> String {
    format!("bench/r{number:04}")
}

/// The tag that a policy has to choose in this repository: somewhere in the middle of the list, in another place in each.
fn newest(number: usize) -> String {
    format!("2.{number}.0")
}

/// Versions `1.x.y`, and one that is newer, which alone can be pulled.
fn repository(number: usize, tags: usize) -> Repository {
    let repository = Repository::listing((1..tags).map(|tag| format!("1.{}.{}", tag / 10, tag % 10)));
    repository.push(&named(number), &newest(number));
    repository
}

impl Scan {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let registry = Arc::new(Registry::default());
        for number in 0..self.repositories {
            registry.add(named(number), repository(number, self.tags));
        }
        let address = registry.serve().await?;
        let floor = self.floor(address)?;
        let database = self.place.database.as_deref().ok_or("no database of the operator")?;
        registry::allow(&self.program, database, address)?;

        let operator = self.place.operator.ok_or("no operator to measure")?;
        let processes = self.place.processes()?;
        let (mark, sql, used, asked) =
            (self.place.mark()?, self.place.settled_sql().await?, processes.usage()?, registry.asked());
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(self.deadline);
        let made = self.make(client, address);
        let watched = self.watch(client, deadline);
        let (made, chosen) = tokio::try_join!(made, watched)?;
        let (made, chosen) = (made.duration_since(begun), chosen.duration_since(begun));
        let used_chosen = processes.usage()?;
        let first = registry.asked();
        let memory = crate::process::memory(operator)?;

        // Once more around, with nothing to choose.
        let (used_again, again) = (processes.usage()?, registry.asked());
        let target: Vec<usize> = again.lists.iter().map(|lists| lists + 1).collect();
        let around = Instant::now();
        let patience = Duration::from_secs(self.interval * 3 + 60);
        while registry.asked().lists.iter().zip(&target).any(|(lists, target)| lists < target) {
            if around.elapsed() > patience {
                return Err(format!("not every repository was listed again within {patience:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let around = around.elapsed();
        let (spent_again, asked_again) = (used_again.until(&processes.usage()?), registry.asked().since(&again));
        let requests = mark.since()?;
        let after = self.place.settled_sql().await?;
        Ok(json!({
            "kind": "scan",
            "repositories": self.repositories,
            "tags": self.tags,
            "intervalSeconds": self.interval,
            "madeSeconds": made.as_secs_f64(),
            "chosenSeconds": chosen.as_secs_f64(),
            "afterMadeSeconds": chosen.saturating_sub(made).as_secs_f64(),
            "cpu": used.until(&used_chosen),
            "asked": first.since(&asked),
            "memory": memory,
            "memoryAfter": crate::process::memory(operator)?,
            "again": {"seconds": around.as_secs_f64(), "cpu": spent_again, "asked": asked_again},
            "requests": requests,
            "sql": sql.zip(after).map(|(before, after)| before.until(after)),
            "floor": floor,
        }))
    }

    /// Runs the bare client in a process of its own, so that its processor time can be told from the registry's.
    fn floor(&self, registry: SocketAddr) -> Result<Value, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("scan-floor").arg("--registry").arg(registry.to_string());
        command.arg("--repositories").arg(self.repositories.to_string());
        let child = command.stdout(Stdio::piped()).spawn()?;
        // The registry answers meanwhile, on the other threads.
        let output = tokio::task::block_in_place(|| child.wait_with_output())?;
        if !output.status.success() {
            return Err(format!("the bare client failed: {}", output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Makes a Project for each repository; says when the last one was there.
    async fn make(&self, client: &Client, registry: SocketAddr) -> Result<Instant, Failure> {
        let api: Api<Project> = Api::namespaced(client.clone(), &self.namespace);
        futures::stream::iter(0..self.repositories)
            .map(|number| {
                let api = &api;
                async move {
                    let project = serde_json::from_value::<Project>(json!({
                        "apiVersion": "stagekeeper.dev/v1alpha1",
                        "kind": "Project",
                        "metadata": {"name": format!("p{number:04}")},
                        "spec": {"services": [{
                            "name": SERVICE,
                            "image": {
                                "repository": format!("{registry}/{}", named(number)),
                                "policy": {"semver": ">=1.0"},
                                "interval": format!("{}s", self.interval),
                                "insecure": true,
                            },
                        }]},
                    }))?;
                    api.create(&PostParams::default(), &project).await?;
                    Ok::<_, Failure>(())
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(Instant::now())
    }

    /// Waits until every Project tells the right tag and a digest; says when. A wrong tag is an error at once.
    async fn watch(&self, client: &Client, deadline: Instant) -> Result<Instant, Failure> {
        let api: Api<SeenProject> = Api::namespaced(client.clone(), &self.namespace);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut known = vec![false; self.repositories];
        let mut left = self.repositories;
        while left > 0 {
            let event = tokio::time::timeout_at(deadline.into(), events.next()).await;
            let event = event.map_err(|_| format!("{left} of {} Projects tell nothing", self.repositories))?;
            let seen = match event.ok_or("the watch has ended")? {
                Ok(watcher::Event::Apply(seen) | watcher::Event::InitApply(seen)) => seen,
                Ok(_) => continue,
                Err(err) => return Err(format!("the watch was interrupted: {err}").into()),
            };
            let number: usize = seen.name_any().trim_start_matches('p').parse()?;
            let services = seen.status.unwrap_or_default().services;
            let Some((tag, _)) = services.into_iter().find_map(|service| service.latest_tag.zip(service.digest)) else {
                continue;
            };
            if tag != newest(number) {
                return Err(format!("{} tells {tag}, and the newest is {}", named(number), newest(number)).into());
            }
            if !std::mem::replace(&mut known[number], true) {
                left -= 1;
            }
        }
        Ok(Instant::now())
    }
}

impl ScanFloor {
    pub async fn run(&self) -> Result<Value, Failure> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let started = Instant::now();
        let counts: Vec<usize> = futures::stream::iter(0..self.repositories)
            .map(|number| {
                let http = &http;
                async move {
                    let url = format!("http://{}/v2/{}/tags/list", self.registry, named(number));
                    let body = http.get(url).send().await?.error_for_status()?.bytes().await?;
                    Ok::<_, Failure>(serde_json::from_slice::<Listed>(&body)?.tags.len())
                }
            })
            .buffer_unordered(FLOOR_AT_ONCE)
            .try_collect()
            .await?;
        let seconds = started.elapsed().as_secs_f64();
        let cpu = crate::process::own_seconds()?;
        Ok(json!({"seconds": seconds, "cpuSeconds": cpu, "tags": counts.iter().sum::<usize>()}))
    }
}
