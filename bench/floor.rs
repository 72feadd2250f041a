//! The floor: the same end state as a blue/green deploy of every stage with the fewest API writes, one watch and no
//! database. What the operator takes beyond this is the price of what it remembers and promises.
//!
//! Per stage: create the new Deployment and its Service, wait until it is available, point the stage's Service at
//! it, write the Stage's status, delete the old Deployment and its Service. Six writes, no read.

mod objects;

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config, ResourceExt as _};
use serde::Deserialize;
use serde_json::json;
use stagekeeper::api::{Project, Stage};
use tokio::sync::{Semaphore, oneshot};

use objects::Instance;

type Failure = Box<dyn Error + Send + Sync>;

/// The fewest writes that move every stage from one release to the next.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Give every Stage of the namespace its first instance.
    Seed(Common),
    /// Move every stage: says `ready`, waits for a line on standard input, moves, prints what it did as JSON.
    Move {
        #[command(flatten)]
        common: Common,
        /// Digest of the release that runs now.
        #[arg(long)]
        from: String,
    },
}

#[derive(Args, Clone)]
struct Common {
    #[arg(long)]
    namespace: String,
    /// Digest of the release that shall run.
    #[arg(long)]
    digest: String,
    /// API requests at once.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Stages at once between their first and their last write; 0 for all.
    #[arg(long, default_value_t = 0)]
    window: usize,
}

/// What the one watch reads of a Deployment.
#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Deployment)]
struct Progress {
    metadata: ObjectMeta,
    status: Option<ProgressStatus>,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct ProgressStatus {
    observed_generation: Option<i64>,
    available_replicas: Option<i32>,
}

impl Progress {
    fn is_available(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.observed_generation == self.metadata.generation
                && status.available_replicas.is_some_and(|count| count > 0)
        })
    }
}

/// Who waits for which Deployment.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>);

impl Waiting {
    fn register(&self, name: &str) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), tell);
        told
    }

    fn available(&self, name: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tell) = all.remove(name) {
            // Nobody waits any more when another step of the stage failed; that failure is reported there.
            let _gone = tell.send(());
        }
    }
}

/// The kinds it writes, with a bound on requests in flight.
#[derive(Clone)]
struct Floor {
    deployments: Api<Deployment>,
    services: Api<Service>,
    stages: Api<Stage>,
    slots: Arc<Semaphore>,
    writes: Arc<AtomicUsize>,
    waiting: Waiting,
}

impl Floor {
    fn new(client: &Client, common: &Common) -> Self {
        Self {
            deployments: Api::namespaced(client.clone(), &common.namespace),
            services: Api::namespaced(client.clone(), &common.namespace),
            stages: Api::namespaced(client.clone(), &common.namespace),
            slots: Arc::new(Semaphore::new(common.in_flight)),
            writes: Arc::default(),
            waiting: Waiting::default(),
        }
    }

    /// Sends one write as soon as there is a slot for it.
    async fn write<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        let _slot = self.slots.acquire().await?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(request.await?)
    }

    /// The new instance's objects exist and its pod is available. The Service comes first: the answer to its
    /// creation holds the address that the pods are told.
    async fn start(&self, instance: &Instance) -> Result<(), Failure> {
        let name = instance.object();
        let available = self.waiting.register(&name);
        let as_it_is = PostParams::default();
        let service = self.write(self.services.create(&as_it_is, &instance.service()?)).await?;
        let deployment = instance.deployment(&service)?;
        self.write(self.deployments.create(&as_it_is, &deployment)).await?;
        tokio::time::timeout(Duration::from_mins(10), available)
            .await
            .map_err(|_| format!("{name} is not available after 10 minutes"))??;
        Ok(())
    }

    async fn write_status(&self, stage: &Stage, instance: &Instance, before: Option<&Instance>) -> Result<(), Failure> {
        let status = instance.status(before, stage.metadata.generation.unwrap_or(1));
        let patch = Patch::Merge(json!({"status": status}));
        let name = stage.name_any();
        self.write(self.stages.patch_status(&name, &PatchParams::default(), &patch)).await?;
        Ok(())
    }

    /// Makes the first instance of a stage.
    async fn seed(&self, stage: &Stage, first: Instance) -> Result<(), Failure> {
        let service = first.stage_service()?;
        self.write(self.services.create(&PostParams::default(), &service)).await?;
        self.start(&first).await?;
        self.write_status(stage, &first, None).await
    }

    /// Moves a stage. Tells when its status said so, which comes before the old instance goes.
    async fn shift(&self, stage: &Stage, old: Instance, new: Instance) -> Result<Instant, Failure> {
        self.start(&new).await?;
        let (service, patch) = (new.stage_service_name(), Patch::Merge(new.switch()));
        self.write(self.services.patch(&service, &PatchParams::default(), &patch)).await?;
        self.write_status(stage, &new, Some(&old)).await?;
        let told = Instant::now();
        let (object, gently) = (old.object(), DeleteParams::background());
        tokio::try_join!(
            self.write(self.deployments.delete(&object, &gently)),
            self.write(self.services.delete(&object, &gently)),
        )?;
        Ok(told)
    }
}

/// Watches Deployments until the process ends; returns when the watch has told of every one that exists.
async fn watch(client: &Client, namespace: &str, waiting: Waiting) -> Result<(), Failure> {
    let (tell, synced) = oneshot::channel();
    let api: Api<Progress> = Api::namespaced(client.clone(), namespace);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    tokio::spawn(async move {
        let mut tell = Some(tell);
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(seen) | watcher::Event::InitApply(seen)) => {
                    if seen.is_available() {
                        waiting.available(&seen.name_any());
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    if let Some(tell) = tell.take() {
                        let _gone = tell.send(());
                    }
                }
                Ok(_) => {}
                Err(err) => eprintln!("bench-floor: the watch was interrupted: {err}"),
            }
        }
    });
    tokio::time::timeout(Duration::from_mins(2), synced)
        .await
        .map_err(|_| "the watch told nothing within 2 minutes")??;
    Ok(())
}

/// Runs one step for every stage, as many at once as the window lets.
async fn each<'a, T>(
    stages: &'a [Stage],
    window: usize,
    step: impl AsyncFn(&'a Stage) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let window = if window == 0 { stages.len() } else { window };
    futures::stream::iter(stages).map(|stage| step(stage)).buffer_unordered(window.max(1)).try_collect().await
}

/// Waits for one line on standard input.
async fn starting_shot() -> Result<(), Failure> {
    println!("ready");
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    match read.await?? {
        0 => Err("standard input ended before the starting shot".into()),
        _ => Ok(()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    install_tls();
    let mut config = Config::infer().await?;
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let (Command::Seed(common) | Command::Move { common, .. }) = &cli.command;
    let floor = Floor::new(&client, common);
    watch(&client, &common.namespace, floor.waiting.clone()).await?;
    let stages = floor.stages.list(&ListParams::default()).await?.items;
    if stages.is_empty() {
        return Err(format!("namespace `{}` has no Stage", common.namespace).into());
    }
    let projects: Api<Project> = Api::namespaced(client, &common.namespace);
    let project = projects.get(&stages[0].spec.project).await?;
    let instance = |stage: &Stage, digest: &str| Instance::of(&project, stage, digest);
    match &cli.command {
        Command::Seed(_) => {
            each(&stages, common.window, async |stage| floor.seed(stage, instance(stage, &common.digest)?).await)
                .await?;
        }
        Command::Move { from, .. } => {
            starting_shot().await?;
            let started = Instant::now();
            let told = each(&stages, common.window, async |stage| {
                let (old, new) = (instance(stage, from)?, instance(stage, &common.digest)?);
                floor.shift(stage, old, new).await
            })
            .await?;
            let gone = started.elapsed();
            let last = told.into_iter().max().unwrap_or(started);
            println!(
                "{}",
                json!({
                    "inFlight": common.in_flight,
                    "window": common.window,
                    "writes": floor.writes.load(Ordering::Relaxed),
                    "movedSeconds": (last - started).as_secs_f64(),
                    "deletedSeconds": gone.as_secs_f64(),
                })
            );
        }
    }
    Ok(())
}

/// Chooses the TLS implementation; with two in the tree, rustls refuses to guess.
fn install_tls() {
    // It fails only when one was chosen already.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
