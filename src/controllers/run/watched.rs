//! Watches of our own kinds, and the controllers that act on them.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
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
    behind::{fell_behind, lost},
    stop::{ended_in_order, until_stopped},
    turns::{Line, Turns, by_turns},
};
use crate::{
    api::{Environment, Project, Stage, labels},
    cluster::{
        anew::{Pauses, relisting},
        index::StageKey,
    },
    controllers::{
        context::{Context, Memories},
        count::counted,
        environment::{self, known::Lives},
        error::Error,
        previews::Bell,
        project, stage, strangers,
        trigger::Triggers,
    },
    domain::share::Share,
};

/// Longest life of a watch: a connection that broke silently is noticed this much later at the most.
const WATCH_SECONDS: u32 = 45;

/// Objects per page of a list: bounds what is in memory at once.
const PAGE_SIZE: u32 = 250;

/// Passes over projects that may run at once: they only look at registries.
const PROJECTS_AT_ONCE: u16 = 4;

/// The whole object once more, as `kubectl apply` leaves it there.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A watch with its memory.
pub(super) struct Watched<K: kube::Resource<DynamicType = ()> + 'static> {
    pub(super) reader: Reflected<K>,
    pub(super) events: BoxStream<'static, watcher::Result<K>>,
    /// Whether everything was listed once. The reader's own way to wait for that serves a single waiter, and the
    /// controller is one already.
    pub(super) ready: watch::Receiver<bool>,
    /// Objects that were seen to be deleted: there is no pass over what is not there any more.
    pub(super) gone: mpsc::UnboundedReceiver<ObjectRef<K>>,
}

/// A watch with its memory of what belongs to a share; passes on only what a controller acts on, statuses that others wrote
/// among it, not its own.
/// Everything that is seen is told. After every `relist` the memory is compared with the cluster, and if something was missed,
/// all is listed anew.
pub(super) fn watched<K>(
    client: &Client,
    (namespace, share): (Option<&str>, &Arc<Share>),
    relist: Duration,
    told: impl Fn(&watcher::Event<K>) + Send + 'static,
) -> Watched<K>
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
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = reflector::store();
    let (listed, ready) = watch::channel(false);
    let (tell_gone, gone) = mpsc::unbounded_channel();
    let changes = predicates::generation
        .combine(predicates::annotations)
        .combine(predicates::finalizers)
        .combine(|object: &K| strangers::strangers(object.meta()));
    let known = reader.clone();
    let mut before = HashSet::new();
    let memory = reader.clone();
    let listing = Arc::new(AtomicBool::new(true));
    let (ours, also) = (share.clone(), share.clone());
    let is_ours = move |object: &K| also.covers(object.meta().namespace.as_deref().unwrap_or_default());
    let under_way = listing.clone();
    let anew = move || {
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE);
        watcher(api.clone(), config).take_until(fell_behind(
            api.clone(),
            (known.clone(), ours.clone()),
            under_way.clone(),
            relist,
        ))
    };
    let events = stream::repeat_with(anew)
        .flatten()
        .backoff(Pauses::default())
        .filter(move |event| std::future::ready(concerns(event, &is_ours)))
        .modify(|object| trim(object.meta_mut()))
        .reflect(writer)
        .inspect(move |event| {
            let Ok(event) = event else { return };
            // Nobody may want to know.
            for object in lost(event, &memory, &mut before) {
                let _ = tell_gone.send(object);
            }
            match event {
                watcher::Event::Init => listing.store(true, Ordering::Release),
                watcher::Event::InitDone => {
                    listing.store(false, Ordering::Release);
                    listed.send_replace(true);
                }
                _ => {}
            }
            told(event);
        })
        .applied_objects()
        .predicate_filter(changes, PredicateConfig::default());
    Watched { reader, events: events.boxed(), ready, gone }
}

/// Whether an event is about an object that is ours, or about the watch itself.
fn concerns<K>(event: &watcher::Result<watcher::Event<K>>, is_ours: impl Fn(&K) -> bool) -> bool {
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object)) => {
            is_ours(object)
        }
        Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => true,
    }
}

/// Drops what nobody reads and is more than all the rest: which fields each tool set. Who set the spec last is kept, and
/// who else than we has written the status.
fn trim(meta: &mut ObjectMeta) {
    if let Some(edits) = &mut meta.managed_fields {
        edits.retain(|edit| edit.subresource.is_none() || strangers::is_strange(edit));
        for edit in edits {
            edit.fields_v1 = None;
        }
    }
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// Tells what is remembered of stages which statuses the watch shows. What a list tells is not shown before all of it is there.
pub(super) fn stages_shown(memories: &Arc<Memories>) -> impl Fn(&watcher::Event<Stage>) + Send + 'static {
    let memories = memories.clone();
    move |event| {
        if let watcher::Event::Apply(stage) = event {
            let key = StageKey::new(stage.namespace().unwrap_or_default(), stage.name_any());
            memories.shown(&key, stage.status.as_ref());
        }
    }
}

/// The same of environments, and tells previews of them.
pub(super) fn environments_shown(
    lives: &Arc<Lives>,
    previews: Bell,
) -> impl Fn(&watcher::Event<Environment>) + Send + 'static {
    let lives = lives.clone();
    move |event| {
        previews.environments(event);
        if let watcher::Event::Apply(environment) = event {
            let key = StageKey::new(environment.namespace().unwrap_or_default(), environment.name_any());
            lives.shown(&key, environment.status.as_ref());
        }
    }
}

/// Acts on stages until `stop`.
pub(super) async fn stages_controller(
    ctx: Arc<Context>,
    mut projects: watch::Receiver<bool>,
    listed: watch::Receiver<bool>,
    events: BoxStream<'static, watcher::Result<Stage>>,
    queue: mpsc::UnboundedReceiver<ObjectRef<Stage>>,
    stop: CancellationToken,
) {
    // A first pass needs the projects: without them every stage would say that its project does not exist.
    if until_stopped(&stop, projects.wait_for(|ready| *ready)).await.is_none() {
        return;
    }
    let metrics = ctx.telemetry.metrics.controller("stage");
    metrics.max_concurrent(ctx.concurrency);
    let pass = move |stage, ctx| counted(metrics.clone(), stage::reconcile(stage, ctx));
    let (turns, known) = (Arc::new(Turns::new(ctx.concurrency.into())), ctx.stages.clone());
    let line = move |stage: &ObjectRef<Stage>| line_of(stage, known.get(stage).map(|stage| stage.spec.project.clone()));
    let controller = Controller::for_stream(events, ctx.stages.clone())
        .with_config(controller::Config::default().concurrency(ctx.concurrency))
        .reconcile_on(by_turns(queue, turns.clone(), line))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(pass, |stage, error, ctx| stage::error_policy(&stage, error, &ctx), ctx)
        .for_each(|result| {
            ended(result, Some(&turns));
            std::future::ready(())
        });
    ended_in_order(&stop, listed, controller).await;
}

/// Acts on environments until `stop`.
pub(super) async fn environments_controller(
    ctx: Arc<Context>,
    mut projects: watch::Receiver<bool>,
    watched: Watched<Environment>,
    queue: mpsc::UnboundedReceiver<ObjectRef<Environment>>,
    stop: CancellationToken,
) {
    if until_stopped(&stop, projects.wait_for(|ready| *ready)).await.is_none() {
        return;
    }
    let metrics = ctx.telemetry.metrics.controller("environment");
    metrics.max_concurrent(ctx.concurrency);
    let pass = move |object, ctx| counted(metrics.clone(), environment::reconcile(object, ctx));
    let Watched { events, ready, .. } = watched;
    let (turns, known) = (Arc::new(Turns::new(ctx.concurrency.into())), ctx.environments.clone());
    let line = move |one: &ObjectRef<Environment>| line_of(one, known.get(one).map(|one| one.spec.project.clone()));
    let controller = Controller::for_stream(events, ctx.environments.clone())
        .with_config(controller::Config::default().concurrency(ctx.concurrency))
        .reconcile_on(by_turns(queue, turns.clone(), line))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(pass, |object, error, ctx| environment::error_policy(&object, error, &ctx), ctx)
        .for_each(|result| {
            ended(result, Some(&turns));
            std::future::ready(())
        });
    ended_in_order(&stop, ready, controller).await;
}

/// The namespaces that were made for environments of a share. Whoever has one hears when it changes or goes. They are few and
/// small, and
/// are listed anew after every `relist`.
pub(super) fn namespaces(
    client: &Client,
    (relist, share): (Duration, &Arc<Share>),
    triggers: &Triggers,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Reflected<PartialObjectMeta<Namespace>> {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels(labels::ENVIRONMENT).timeout(WATCH_SECONDS).page_size(PAGE_SIZE);
    let (triggers, stop) = (triggers.clone(), stop.clone());
    let share = share.clone();
    let is_ours = move |namespace: &PartialObjectMeta<Namespace>| {
        namespace.labels().get(labels::HOME).is_none_or(|home| share.covers(home))
    };
    let seen = relisting(api, config, relist).backoff(Pauses::default());
    let seen = seen.filter(move |event| std::future::ready(concerns(event, &is_ours)));
    let mut seen = seen.modify(|object| trim(&mut object.metadata)).reflect(writer).boxed();
    let known = reader.clone();
    tasks.spawn(async move {
        let tell = |namespace: &PartialObjectMeta<Namespace>| {
            let label = |key: &str| namespace.labels().get(key).cloned();
            if let (Some(home), Some(name)) = (label(labels::HOME), label(labels::ENVIRONMENT)) {
                triggers.stage(&StageKey::new(home, name));
            }
        };
        let mut before = Vec::new();
        while let Some(Some(event)) = until_stopped(&stop, seen.next()).await {
            match event {
                Ok(watcher::Event::Apply(namespace) | watcher::Event::Delete(namespace)) => tell(&namespace),
                Ok(watcher::Event::Init) => before = known.state(),
                Ok(watcher::Event::InitApply(_)) => {}
                Ok(watcher::Event::InitDone) => {
                    let gone = |was: &&Arc<PartialObjectMeta<Namespace>>| {
                        let now = known.get(&ObjectRef::from_obj(&***was));
                        now.is_none_or(|now| now.metadata != was.metadata)
                    };
                    before.iter().filter(gone).for_each(|was| tell(was));
                    before.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot watch the namespaces of environments; it goes on by itself");
                }
            }
        }
    });
    reader
}

/// Acts on projects until `stop`.
pub(super) async fn projects_controller(
    ctx: Arc<Context>,
    share: Arc<Share>,
    watched: Watched<Project>,
    queue: mpsc::UnboundedReceiver<ObjectRef<Project>>,
    stop: CancellationToken,
) {
    let metrics = ctx.telemetry.metrics.controller("project");
    metrics.max_concurrent(PROJECTS_AT_ONCE);
    let pass = move |project, ctx| counted(metrics.clone(), project::reconcile(project, ctx));
    let Watched { events, ready, mut gone, .. } = watched;
    let told = ctx.clone();
    let mut listed = ready.clone();
    let farewells = async move {
        if listed.wait_for(|listed| *listed).await.is_ok() {
            project::webhooks::close_orphans(&told, &share).await;
        }
        while let Some(project) = gone.recv().await {
            project::gone(&told, &project);
            let name = (project.namespace.clone().unwrap_or_default(), project.name.clone());
            project::webhooks::close(&told, &name).await;
        }
    };
    let passes = Controller::for_stream(events, ctx.projects.clone())
        .with_config(controller::Config::default().concurrency(PROJECTS_AT_ONCE))
        .reconcile_on(received(queue))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(pass, |project, error, ctx| project::error_policy(&project, error, &ctx), ctx)
        .for_each(|result| {
            ended(result, None);
            std::future::ready(())
        });
    ended_in_order(&stop, ready, async { _ = futures::join!(passes, farewells) }).await;
}

/// A pass has ended, or was not needed: another one has its place. Passes log their own failures; what is logged here is the
/// machinery's.
fn ended<K>(
    result: Result<(ObjectRef<K>, controller::Action), controller::Error<Error, watcher::Error>>,
    turns: Option<&Arc<Turns>>,
) where
    K: kube::Resource,
    K::DynamicType: std::fmt::Debug + Eq + Hash,
{
    let key = |namespace: &Option<String>, name: &str| StageKey::new(namespace.as_deref().unwrap_or_default(), name);
    let of = match &result {
        Ok((of, _)) => key(&of.namespace, &of.name),
        Err(controller::Error::ReconcilerFailed(_, of) | controller::Error::ObjectNotFound(of)) => {
            key(&of.namespace, &of.name)
        }
        Err(error) => return tracing::warn!(%error, "a watch has trouble; it goes on by itself"),
    };
    if let Some(turns) = turns {
        turns.ended(&of);
    }
}

/// In whose line an object waits: its project's. What nobody knows any more waits beside them.
fn line_of<K: kube::Resource>(object: &ObjectRef<K>, project: Option<String>) -> Line
where
    K::DynamicType: Hash + Eq,
{
    (object.namespace.as_deref().unwrap_or_default().into(), project.unwrap_or_default().into())
}

fn received<T>(queue: mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|item| (item, queue)) })
}
