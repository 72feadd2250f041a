//! The process: watch always, act while leading, stop in order.

use std::{collections::HashMap, future::Future, hash::Hash, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, Client,
    runtime::{
        Controller, Predicate as _, PredicateConfig, WatchStreamExt as _, controller, predicates,
        reflector::{self, ObjectRef, Store as Reflected},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::{self, Backoff},
    context::{Context, Memories, Term, Trigger, Triggers},
    error::Error,
    images::{ImageBook, Subscriber},
    project, scan,
    stage::{self, memory},
};
use crate::{
    api::{Project, Stage},
    cluster::{
        apply::Writer,
        client::{Access, Clients},
        events::Events,
        index::{Index, Scope, StageKey},
        lease::{Candidate, LeaseConfig, LeaseHandle, Timing},
    },
    config::{Config, Namespaces},
    domain::clock::{Clock, Ids, SystemClock, SystemIds},
    store::{Class as StoreClass, Store, StoreError},
    telemetry::{Part, Telemetry},
};

/// How often the database and the watches are looked after. Costs one read.
const PULSE: Duration = Duration::from_secs(2);

/// Longest life of a watch: a connection that broke silently is noticed this much later at the most.
const WATCH_SECONDS: u32 = 45;

/// Months for which log partitions are made ahead.
const MONTHS_AHEAD: i32 = 2;

/// How often log partitions are made and old ones dropped.
const HOUSEKEEPING: Duration = Duration::from_hours(6);

/// Why the process could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster or the database cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error.class() {
            StoreClass::Unavailable => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What lives as long as the process.
#[derive(Clone)]
struct Process {
    config: Arc<Config>,
    telemetry: Telemetry,
    client: Client,
    store: Store,
    index: Index,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// Runs until `shutdown`: prepares the schema, keeps the watches, takes part in the election, and acts while elected.
pub async fn run(config: Config, telemetry: Telemetry, shutdown: CancellationToken) -> Result<(), RunError> {
    let clients = connect(&config, &telemetry).await?;
    let store = Store::connect(config.database.expose()).await?;
    for file in store.migrate_up().await? {
        tracing::info!(file, "migrated");
    }
    telemetry.readiness.set(Part::Schema, true);
    let scope = match &config.namespaces {
        Namespaces::All => Scope::Cluster,
        Namespaces::Only(names) => Scope::Namespaces(names.iter().cloned().collect()),
    };
    let process = Process {
        telemetry,
        client: clients.general.clone(),
        store,
        index: Index::new(&scope),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        config: Arc::new(config),
    };
    let mut background = JoinSet::new();
    let index = process.index.clone();
    let client = process.client.clone();
    background.spawn(async move { index.run(client).await });
    background.spawn(look_after(process.clone()));
    background.spawn(keep_house(process.clone()));

    let lease = lease_config(&process.config, clients.namespace());
    let clock = process.clock.clone();
    let (candidate, handle) = Candidate::new(clients.lease.clone(), lease, Arc::new(move || clock.now()));
    let resign = CancellationToken::new();
    let election = tokio::spawn(candidate.run(resign.clone()));
    let terms = terms(&process, &handle, &shutdown).await;
    // Leadership is given away only when nothing of the term is running any more.
    resign.cancel();
    if let Err(error) = election.await {
        tracing::error!(%error, "the election ended badly");
    }
    background.shutdown().await;
    process.store.close().await;
    terms
}

async fn connect(config: &Config, telemetry: &Telemetry) -> Result<Clients, RunError> {
    let access = match (&config.cluster.kubeconfig, &config.cluster.context) {
        (None, None) => Access::Infer,
        (path, context) => Access::Kubeconfig { path: path.clone(), context: context.clone() },
    };
    let metrics = telemetry.metrics.clone();
    let on_call =
        Arc::new(move |call: &crate::cluster::client::call::Call| metrics.rest_answered(call.verb, call.code));
    Clients::connect(&access, on_call).await.map_err(|error| RunError::Failed(error.to_string()))
}

fn lease_config(config: &Config, namespace: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: config.lease.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: config.lease.name.clone(),
        identity: config.lease.identity.clone(),
        timing: Timing::default(),
    }
}

/// Term after term, until `shutdown`.
async fn terms(process: &Process, handle: &LeaseHandle, shutdown: &CancellationToken) -> Result<(), RunError> {
    loop {
        let elected = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            epoch = handle.elected() => epoch,
        };
        let stop = shutdown.child_token();
        let guard = stop.clone();
        let ended = {
            let handle = handle.clone();
            tokio::spawn(async move {
                handle.ended(elected).await;
                guard.cancel();
            })
        };
        process.telemetry.metrics.leads("stagekeeper", true);
        let led = term(process, handle, elected, stop).await;
        process.telemetry.metrics.leads("stagekeeper", false);
        ended.abort();
        led?;
        tracing::info!(epoch = elected, "the term has ended");
    }
}

/// One term of leadership: reads everything once, then acts until `stop`.
async fn term(process: &Process, handle: &LeaseHandle, elected: u64, stop: CancellationToken) -> Result<(), RunError> {
    let Some(epoch) = until_stopped(&stop, claim(process, elected)).await else {
        return Ok(());
    };
    let Some(()) = until_stopped(&stop, process.index.synced()).await else {
        return Ok(());
    };
    let Some(states) = until_stopped(&stop, patiently("targets", || load(process))).await else {
        return Ok(());
    };
    tracing::info!(epoch, stages = states.len(), "leading");
    let memories = Arc::new(Memories::default());
    for (key, memory) in states {
        memories.put(key, memory);
    }

    let registries =
        scan::Registries::new(process.clock.clone()).map_err(|error| RunError::Failed(error.to_string()))?;
    let mut tasks = JoinSet::new();
    let namespaces: Vec<Option<String>> = match &process.config.namespaces {
        Namespaces::All => vec![None],
        Namespaces::Only(names) => names.iter().cloned().map(Some).collect(),
    };
    let mut queues = HashMap::new();
    let mut readers = Vec::new();
    for namespace in &namespaces {
        let (stages, stage_queue) = mpsc::unbounded_channel();
        let (projects, project_queue) = mpsc::unbounded_channel();
        queues.insert(namespace.clone().unwrap_or_default(), Trigger::new(stages, projects));
        readers.push((namespace.clone(), stage_queue, project_queue));
    }
    let triggers = Triggers::new(queues);
    let told = triggers.clone();
    let images = Arc::new(ImageBook::new(move |subscriber: &Subscriber| told.subscriber(subscriber)));
    let metrics = process.telemetry.metrics.clone();
    tasks.spawn(images.clone().run(
        Arc::new(registries),
        process.clock.clone(),
        Arc::new(move |result| metrics.scanned(result)),
        process.config.scan_concurrency.get(),
        stop.clone(),
    ));
    let events = Events::new(process.client.clone(), &process.config.lease.identity);
    let mut children = process.index.triggers();
    let told = triggers.clone();
    let halt = stop.clone();
    tasks.spawn(async move {
        while let Some(Some(key)) = until_stopped(&halt, children.next()).await {
            told.stage(&key);
        }
    });
    for (namespace, stage_queue, project_queue) in readers {
        let stages = watched::<Stage>(process, namespace.as_deref());
        let projects = watched::<Project>(process, namespace.as_deref());
        let ctx = Arc::new(Context {
            client: process.client.clone(),
            writer: Writer::new(process.client.clone(), process.index.clone()),
            store: process.store.clone(),
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            index: process.index.clone(),
            projects: projects.reader,
            stages: stages.reader,
            images: images.clone(),
            events: events.clone(),
            telemetry: process.telemetry.clone(),
            backoff: Backoff::default(),
            trigger: triggers.clone(),
            term: Term { epoch, leader: handle.clone() },
            memories: memories.clone(),
            concurrency: u16::try_from(process.config.concurrency.get()).unwrap_or(u16::MAX),
        });
        tasks.spawn(stages_controller(ctx.clone(), projects.ready, stages.events, stage_queue, stop.clone()));
        tasks.spawn(projects_controller(ctx, projects.events, project_queue, stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            stop.cancel();
            return Err(RunError::Failed(format!("a controller died: {error}")));
        }
    }
    Ok(())
}

/// Claims an epoch that is larger than any that wrote to the database.
async fn claim(process: &Process, elected: u64) -> i64 {
    let lease =
        format!("{}/{}", process.config.lease.namespace.as_deref().unwrap_or_default(), process.config.lease.name);
    let at_least = i64::try_from(elected).unwrap_or(i64::MAX);
    let holder = &process.config.lease.identity;
    patiently("the epoch", || process.store.leader_epoch_claim(&lease, holder, at_least)).await
}

async fn load(process: &Process) -> Result<Vec<(StageKey, memory::Memory)>, StoreError> {
    let namespaces: Option<Vec<String>> = match &process.config.namespaces {
        Namespaces::All => None,
        Namespaces::Only(names) => Some(names.iter().cloned().collect()),
    };
    let states = process.store.targets_state_load(namespaces.as_deref()).await?;
    let readable = states.into_iter().filter_map(|state| {
        let key = StageKey::new(state.target.namespace.as_str(), state.target.name.as_str());
        match memory::remember(state) {
            Ok(memory) => Some((key, memory)),
            Err(error) => {
                tracing::error!(stage = %key, %error, "what is stored about a stage cannot be read");
                None
            }
        }
    });
    Ok(readable.collect())
}

/// Tries until it works: the database may come back at any time, and nothing can be done without it.
async fn patiently<T, F>(what: &'static str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut failures = 0u32;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(what, %error, "the database does not answer; trying again");
                tokio::time::sleep(backoff::delay(what, failures).min(Duration::from_secs(5))).await;
            }
        }
    }
}

async fn until_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        value = work => Some(value),
    }
}

/// A watch with its memory; passes on only what a controller acts on, not its own status writes.
fn watched<K>(process: &Process, namespace: Option<&str>) -> Watched<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(process.client.clone(), namespace),
        None => Api::all(process.client.clone()),
    };
    let (reader, writer) = reflector::store();
    let (listed, ready) = watch::channel(false);
    let changes = predicates::generation.combine(predicates::annotations).combine(predicates::finalizers);
    let events = watcher(api, watcher::Config::default().timeout(WATCH_SECONDS))
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| {
            if matches!(event, Ok(watcher::Event::InitDone)) {
                listed.send_replace(true);
            }
        })
        .applied_objects()
        .predicate_filter(changes, PredicateConfig::default());
    Watched { reader, events: events.boxed(), ready }
}

/// A watch with its memory.
struct Watched<K: kube::Resource<DynamicType = ()> + 'static> {
    reader: Reflected<K>,
    events: BoxStream<'static, watcher::Result<K>>,
    /// Whether everything was listed once. The reader's own way to wait for that serves a single waiter, and the
    /// controller is one already.
    ready: watch::Receiver<bool>,
}

async fn stages_controller(
    ctx: Arc<Context>,
    mut projects: watch::Receiver<bool>,
    events: BoxStream<'static, watcher::Result<Stage>>,
    queue: mpsc::UnboundedReceiver<ObjectRef<Stage>>,
    stop: CancellationToken,
) {
    // A first pass needs the projects: without them every stage would say that its project does not exist.
    if until_stopped(&stop, projects.wait_for(|ready| *ready)).await.is_none() {
        return;
    }
    Controller::for_stream(events, ctx.stages.clone())
        .with_config(controller::Config::default().concurrency(ctx.concurrency))
        .reconcile_on(received(queue))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(stage::reconcile, |stage, error, ctx| stage::error_policy(&stage, error, &ctx), ctx)
        .for_each(|result| async move { log(result) })
        .await;
}

async fn projects_controller(
    ctx: Arc<Context>,
    events: BoxStream<'static, watcher::Result<Project>>,
    queue: mpsc::UnboundedReceiver<ObjectRef<Project>>,
    stop: CancellationToken,
) {
    Controller::for_stream(events, ctx.projects.clone())
        .with_config(controller::Config::default().concurrency(4))
        .reconcile_on(received(queue))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(project::reconcile, |project, error, ctx| project::error_policy(&project, error, &ctx), ctx)
        .for_each(|result| async move { log(result) })
        .await;
}

/// Passes log their own failures; this is the machinery's.
fn log<K>(result: Result<(ObjectRef<K>, controller::Action), controller::Error<Error, watcher::Error>>)
where
    K: kube::Resource,
    K::DynamicType: std::fmt::Debug + Eq + Hash,
{
    match result {
        Ok(_) | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!(%error, "a watch has trouble; it goes on by itself"),
    }
}

/// Tells readiness what the database and the watches are like.
async fn look_after(process: Process) {
    let readiness = process.telemetry.readiness.clone();
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let up = process.store.ping().await;
        readiness.set(Part::Store, up.is_ok());
        process.telemetry.metrics.store_up(up.is_ok());
        readiness.set(Part::Watches, process.index.is_synced() && process.index.is_healthy());
    }
}

/// Makes log partitions ahead of time and drops those that are too old.
async fn keep_house(process: Process) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    loop {
        ticks.tick().await;
        if let Err(error) = house(&process).await {
            tracing::warn!(%error, "log partitions could not be looked after");
        }
    }
}

async fn house(process: &Process) -> Result<(), StoreError> {
    let now = process.clock.now();
    process.store.partitions_ensure(now, MONTHS_AHEAD).await?;
    let settings = process.store.settings_get().await?;
    let kept = Duration::from_hours(24 * u64::try_from(settings.log_retention_days).unwrap_or(30));
    process.store.logs_prune(now.saturating_sub(kept).unwrap_or(now)).await?;
    Ok(())
}

fn received<T>(queue: mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|item| (item, queue)) })
}
