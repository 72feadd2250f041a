//! One term of leadership: read everything once, then act until the term ends.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Process, RunError,
    dora::tell_dora,
    hooks::Reader,
    house::keep_house,
    previews::Watching,
    requests::Taker,
    scans::keep_scans,
    stop::until_stopped,
    vault::Held,
    watched::{
        environments_controller, environments_shown, namespaces, projects_controller, stages_controller, stages_shown,
        watched,
    },
};
use crate::{
    api::{Environment, Project, Stage},
    cluster::{apply::Writer, events::Events, index::StageKey, lease::Mandate},
    config::EdgeService,
    controllers::{
        asked::Asked,
        backoff::{self, Backoff},
        beginnings::Beginnings,
        context::{Context, Memories, Term},
        environment::sweep,
        groups::Groups,
        images::{ImageBook, Subscriber},
        lanes::Lanes,
        scan,
        stage::{memory::Memory, recall},
        trigger::{Trigger, Triggers},
    },
    domain::share::Share,
    render::Fallback,
    store::{ImageScan, Store, StoreError},
};

/// Longest pause between attempts to read from a database that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers of registries that are read at the beginning: those that were given last.
const RECALLED: i64 = 50_000;

/// So far a Lease that is behind the database goes ahead of it: with one step each, two of them on one database could overtake
/// each other for ever.
const LEAP: i64 = 16;

/// Why a term has ended.
pub(super) enum Ended {
    /// It was told to, or somebody else leads.
    Stopped,
    /// The next one needs an epoch greater than this, which the Lease remembers.
    Behind(i64),
}

/// Leads from being elected until `stop`: claims an epoch, reads what is stored about every stage of its share, and runs the
/// controllers.
pub(super) async fn lead(process: &Process, mandate: &Mandate, stop: CancellationToken) -> Result<Ended, RunError> {
    let (shards, of) = mandate.shards();
    let share = Arc::new(process.watched.clone().sharded(&shards, of));
    let leases = mandate.leases().collect::<Vec<_>>().join(",");
    let (least, elected) = mandate.epochs();
    let mut servers = process.store.servers();
    let preparing = async {
        let epoch = claim(process, &leases, elected).await;
        // From the server that gave the epoch on: what is read now is what it knows.
        servers.mark_unchanged();
        process.index.synced().await;
        let store = process.store.leading(&leases, epoch);
        let targets = patiently("targets", || load(process, &share)).await;
        let scans = patiently("scans", || process.store.image_scans_load(RECALLED)).await;
        (epoch, store, targets, scans, Held::read(process, share.clone(), epoch).await)
    };
    let Some((epoch, store, states, scans, held)) = until_stopped(&stop, preparing).await else {
        return Ok(Ended::Stopped);
    };
    if epoch > i64::try_from(least).unwrap_or(i64::MAX) {
        // The Lease was deleted and counts anew, or the database has other leaders. The Lease catches up first: it is what
        // remembers our epochs when a database loses them.
        return Ok(Ended::Behind(epoch.saturating_add(LEAP)));
    }
    tracing::info!(epoch, leases, stages = states.len(), "leading");
    let (triggers, queues) = queues(&share);
    let memories = Arc::new(Memories::new(triggers.clone()));
    for (key, memory) in states {
        memories.put(key, Box::new(memory));
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(end_with_server(servers.clone(), stop.clone()));
    if share.keeps_house() {
        tasks.spawn(keep_house(store.clone(), process.clock.clone(), stop.clone()));
        tasks.spawn(tell_dora(store.clone(), process.clock.clone(), process.telemetry.clone(), stop.clone()));
    }
    let (images, registries) = scan_images(process, &triggers, scans, (&store, mandate), &mut tasks, &stop)?;
    let vault = held.follow(process, &triggers, &images, registries, &mut tasks, &stop);
    let (asked, beginnings) = (Arc::new(Asked::new(vault.requests.clone())), Arc::<Beginnings>::default());
    let lanes = Arc::new(Lanes::new(triggers.clone()));
    let groups = Arc::new(Groups::new(triggers.clone()));
    pass_on_children(process, (&triggers, share.clone()), &mut tasks, &stop);
    let events = Events::new(process.client.clone(), &process.config.lease.identity);
    let (mut readers, mut previews) = (Vec::new(), Watching::new());
    for queue in queues {
        let relist = process.config.relist;
        let place = (queue.namespace.as_deref(), &share);
        let stages = watched(&process.client, place, relist, stages_shown(&memories));
        let told = previews.bell.clone();
        let projects = watched::<Project>(&process.client, place, relist, move |event| told.projects(event));
        let shown = environments_shown(triggers.lives(), previews.bell.clone());
        let environments = watched(&process.client, place, relist, shown);
        previews.environments.push((environments.reader.clone(), environments.ready.clone()));
        let namespaces = queue
            .namespace
            .is_none()
            .then(|| namespaces(&process.client, (relist, &share), &triggers, &mut tasks, &stop));
        let ctx = Arc::new(Context {
            client: process.client.clone(),
            writer: Writer::new(process.client.clone(), process.index.clone()).while_leading(mandate.clone()),
            store: store.clone(),
            clock: process.clock.clone(),
            ids: process.ids.clone(),
            index: process.index.clone(),
            projects: projects.reader.clone(),
            stages: stages.reader,
            environments: environments.reader.clone(),
            namespaces,
            lives: triggers.lives().clone(),
            preview_url: process.config.preview_url.clone().map(Arc::new),
            edge_service: process.config.edge_service.clone().map(fallback),
            namespace: process.namespace.clone(),
            images: images.clone(),
            vault: vault.book.clone(),
            safe: process.safe.as_ref().map(|safe| safe.over(store.clone())),
            originals: vault.originals.clone(),
            on_vault: vault.told.clone(),
            events: events.clone(),
            telemetry: process.telemetry.clone(),
            backoff: Backoff::default(),
            trigger: triggers.clone(),
            term: Term { epoch, leader: mandate.clone() },
            lanes: lanes.clone(),
            groups: groups.clone(),
            previews: previews.book.clone(),
            asked: asked.clone(),
            beginnings: beginnings.clone(),
            memories: memories.clone(),
            public_url: process.config.public_url.as_ref().map(|url| url.as_str().into()),
            concurrency: u16::try_from(process.config.concurrency.get()).unwrap_or(u16::MAX),
            starts: starts(process.config.concurrency.get()),
        });
        readers.push((projects.reader.clone(), projects.ready.clone()));
        let listed = (projects.ready.clone(), stages.ready);
        tasks.spawn(stages_controller(ctx.clone(), listed.0, listed.1, stages.events, queue.stages, stop.clone()));
        let here = Arc::new(queue.namespace.as_ref().map_or_else(|| (*share).clone(), |name| share.only(name)));
        tasks.spawn(sweep::run(ctx.clone(), here.clone(), environments.ready.clone(), stop.clone()));
        let all = (projects.ready.clone(), environments);
        tasks.spawn(environments_controller(ctx.clone(), all.0, all.1, queue.environments, stop.clone()));
        tasks.spawn(projects_controller(ctx, here, projects, queue.projects, stop.clone()));
    }
    let taker = Taker {
        store: store.clone(),
        share: share.clone(),
        asked,
        triggers: triggers.clone(),
        clock: process.clock.clone(),
        starts: starts(process.config.concurrency.get()),
        woken: vault.requests.clone(),
    };
    tasks.spawn(taker.run(stop.clone()));
    let bell = previews.bell.clone();
    previews.begin(process, (mandate, &share), (&store, &triggers), &vault.book, &readers, (&mut tasks, &stop))?;
    let reader = Reader {
        store,
        ids: process.ids.clone(),
        bell,
        clock: process.clock.clone(),
        telemetry: process.telemetry.clone(),
        images,
        projects: readers,
        share,
        woken: vault.inbox.clone(),
    };
    tasks.spawn(reader.run(stop.clone()));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            stop.cancel();
            return Err(RunError::Failed(format!("a controller died: {error}")));
        }
    }
    Ok(if servers.has_changed().unwrap_or(false) { Ended::Behind(epoch) } else { Ended::Stopped })
}

/// Ends the term when another server process answers than the one that it was read from: what is remembered may be more than
/// that one knows, and so may our epoch be.
async fn end_with_server(mut servers: watch::Receiver<Option<String>>, stop: CancellationToken) {
    if until_stopped(&stop, servers.changed()).await.is_some() {
        tracing::warn!("another database server answers than before: what is remembered of it is read again");
        stop.cancel();
    }
}

/// How many of the passes that run at once may begin the work of deploys that were asked for. What follows takes passes too,
/// as many again each: traffic, what is left behind. The rest is for whoever asks meanwhile.
fn starts(passes: usize) -> usize {
    (passes / 5).max(1)
}

/// What asks for passes over the objects of one namespace, or of all.
struct Queue {
    namespace: Option<String>,
    stages: mpsc::UnboundedReceiver<ObjectRef<Stage>>,
    projects: mpsc::UnboundedReceiver<ObjectRef<Project>>,
    environments: mpsc::UnboundedReceiver<ObjectRef<Environment>>,
}

/// A queue for each namespace that is watched on its own, and what fills them.
fn queues(share: &Share) -> (Triggers, Vec<Queue>) {
    let namespaces = match share.names() {
        None => vec![None],
        Some(names) => names.into_iter().map(Some).collect(),
    };
    let mut senders = HashMap::new();
    let mut queues = Vec::new();
    for namespace in namespaces {
        let (stage_sender, stages) = mpsc::unbounded_channel();
        let (project_sender, projects) = mpsc::unbounded_channel();
        let (environment_sender, environments) = mpsc::unbounded_channel();
        let trigger = Trigger::new(stage_sender, project_sender, environment_sender);
        senders.insert(namespace.clone().unwrap_or_default(), trigger);
        queues.push(Queue { namespace, stages, projects, environments });
    }
    (Triggers::new(senders, Arc::default()), queues)
}

/// Asks registries what stages and projects want to know, and triggers them when the answer changes.
fn scan_images(
    process: &Process,
    triggers: &Triggers,
    scans: Vec<ImageScan>,
    (store, leader): (&Store, &Mandate),
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(Arc<ImageBook>, Arc<scan::Registries>), RunError> {
    let registries = scan::Registries::new(process.store.clone(), process.safe.clone(), process.clock.clone())
        .map_err(|error| RunError::Failed(error.to_string()))?;
    let registries = Arc::new(registries);
    let told = triggers.clone();
    let images = Arc::new(ImageBook::new(move |subscriber: &Subscriber| told.subscriber(subscriber)));
    images.recall(scans, process.clock.now());
    let metrics = process.telemetry.metrics.clone();
    tasks.spawn(keep_scans(images.clone(), store.clone(), leader.clone(), metrics.clone(), stop.clone()));
    tasks.spawn(images.clone().run(
        registries.clone(),
        process.clock.clone(),
        Arc::new(move |result| metrics.scanned(result)),
        process.config.scan_concurrency.get(),
        stop.clone(),
    ));
    Ok((images, registries))
}

/// Triggers a stage when one of its children changes.
fn pass_on_children(
    process: &Process,
    (triggers, share): (&Triggers, Arc<Share>),
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    let mut children = process.index.triggers();
    let (triggers, stop) = (triggers.clone(), stop.clone());
    tasks.spawn(async move {
        while let Some(Some(key)) = until_stopped(&stop, children.next()).await {
            if share.covers(&key.namespace) {
                triggers.stage(&key);
            }
        }
    });
}

/// Claims an epoch that is larger than any that wrote to the database.
async fn claim(process: &Process, leases: &str, elected: u64) -> i64 {
    let at_least = i64::try_from(elected).unwrap_or(i64::MAX);
    let holder = &process.config.lease.identity;
    patiently("the epoch", || process.store.leader_epoch_claim(leases, holder, at_least)).await
}

async fn load(process: &Process, share: &Share) -> Result<Vec<(StageKey, Memory)>, StoreError> {
    let states = process.store.targets_state_load(share).await?;
    let readable = states.into_iter().filter_map(|state| {
        let key = StageKey::new(state.target.namespace.as_str(), state.target.name.as_str());
        match recall::remember(state) {
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
pub(super) async fn patiently<T, F>(what: &'static str, mut attempt: impl FnMut() -> F) -> T
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
                tokio::time::sleep(backoff::delay(what, failures).min(PATIENCE)).await;
            }
        }
    }
}

/// The built-in proxy as what routes fall back on.
fn fallback(service: EdgeService) -> Arc<Fallback> {
    let EdgeService { namespace, name, port } = service;
    Arc::new(Fallback { namespace, name, port })
}
