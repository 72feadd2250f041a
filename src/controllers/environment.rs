//! The Environment controller: a stage that nobody wrote, in a namespace of its own, that sleeps, wakes and ends.
//!
//! It is driven by the same deploy engine as a Stage. What is its own is what surrounds that: which place it has, whether it
//! may run, and how long it lives.

mod compose;
mod conclude;
mod end;
mod farewell;
pub mod known;
mod namespace;
mod open;
mod show;
pub mod sleep;
pub mod sweep;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action, runtime::reflector::ObjectRef};

use self::{
    compose::{Composed, Outside},
    conclude::{conclude, tell},
    known::{Known, Lived},
    namespace::Place,
    open::Opened,
    show::Surroundings,
};
use super::{
    context::{Context, Taken},
    deploy::{self, Driven, Target, ledger::Ledger, settle::Keeping},
    error::{Class, Error, STALLED_REST},
    stage::{
        adopt,
        decide::{self, Decided},
        memory::Memory,
        outcome, policy, recall,
        requests::{self, Scene},
    },
};
use crate::{
    api::{
        Environment, Project, Stage, WhenFull, conditions,
        labels::{self, FINALIZER},
    },
    cluster::index::StageKey,
    domain::{
        deploy::{QueuePolicy, Waiting},
        environment::{self, Ending, Life, Seat, Span, Standing},
        promotion::{self, Window, WindowSpec},
    },
};

/// An environment is looked at this often even if nothing is seen to change.
const RESYNC: Duration = Duration::from_hours(6);

/// One pass over an environment.
pub async fn reconcile(environment: Arc<Environment>, ctx: Arc<Context>) -> Result<Action, Error> {
    if !ctx.term.leader.is_leader() {
        return Err(Error::Deposed);
    }
    let key = key(&environment);
    if environment.metadata.deletion_timestamp.is_some() {
        return end::cleanup(&environment, &key, &ctx).await;
    }
    if !environment.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        let all: Vec<&str> = environment.finalizers().iter().map(String::as_str).chain([FINALIZER]).collect();
        ctx.writer.set_finalizers(&*environment, &all).await?;
    }
    let project = ctx.projects.get(&ObjectRef::<Project>::new(&environment.spec.project).within(&key.namespace));
    let mut lived = match open::open(&ctx, &environment, project.as_deref(), &key).await {
        Err(error) => {
            if let Some(outcome) = outcome::of_error(&error) {
                tell(&ctx, &environment, None, &outcome).await?;
            }
            return Err(error);
        }
        Ok(Opened::Lives(lived)) => *lived,
        Ok(Opened::Refused(outcome, wake)) => {
            tell(&ctx, &environment, None, &outcome).await?;
            return Ok(Action::requeue(wake));
        }
        Ok(Opened::Over) => {
            tracing::info!(environment = %key, "an environment ends that never had a project: its time to live is over");
            end::begin(&ctx, &environment).await?;
            return Ok(Action::await_change());
        }
    };
    if lived.answered.overwritten(&environment.metadata) {
        lived.written = None;
    }
    if let Some((_, why)) = &lived.life.ending {
        tracing::info!(environment = %key, why, "an environment ends");
        end::begin(&ctx, &environment).await?;
        ctx.lives.put(&key, lived);
        return Ok(Action::await_change());
    }
    let Some(project) = project else {
        let orphaned = end::orphaned(&ctx, &environment, &key, &mut lived).await;
        ctx.lives.put(&key, lived);
        return orphaned;
    };
    lived.orphaned = None;
    let mut memory = match ctx.memories.take(&key) {
        Taken::Lent => return Ok(Action::await_change()),
        Taken::Memory(memory) if memory.target == lived.life.id && memory.uid == lived.life.uid => memory,
        Taken::Memory(_) | Taken::Nothing => recall::of_target(&ctx, lived.life.id).await?,
    };
    let result = pass(&environment, &project, &key, &ctx, &mut lived, &mut memory).await;
    if let Err(error) = &result
        && let Some(outcome) = outcome::of_error(error)
        && let Err(second) = tell(&ctx, &environment, Some(&mut lived), &outcome).await
    {
        tracing::warn!(error = %second, "the status could not tell an error");
    }
    ctx.lives.put(&key, lived);
    ctx.memories.put(key, memory);
    result
}

/// The table of contents of a pass.
async fn pass(
    environment: &Environment,
    project: &Project,
    key: &StageKey,
    ctx: &Context,
    lived: &mut Lived,
    memory: &mut Memory,
) -> Result<Action, Error> {
    let composed = match composed(ctx, environment, project, key, lived) {
        Ok(composed) => composed,
        Err(message) => return stalled(ctx, environment, key, lived, message).await,
    };
    let sleeps = match sleeps(environment) {
        Ok(sleeps) => sleeps,
        Err(message) => return stalled(ctx, environment, key, lived, message).await,
    };
    let owner = match namespace::prepare(ctx, environment, key, lived).await? {
        Place::Ready(uid) => namespace::owner(environment, Some(&lived.life.place), uid),
        Place::Waits(message) => {
            let outcome = conditions::Outcome::reconciling("NamespaceEnding", message);
            tell(ctx, environment, Some(lived), &outcome).await?;
            return Ok(Action::requeue(Duration::from_secs(5)));
        }
    };
    let mut ledger = recall::ledger(ctx, memory).await?;
    let moved = moved(
        &Ground { environment, key, ctx, composed: &composed, sleeps: &sleeps, owner },
        lived,
        memory,
        &mut ledger,
    )
    .await;
    // What the database says is not known any more after a lost race or a lost reply.
    if !matches!(moved, Err(Error::Store(_))) {
        ledger.rest();
        memory.ledger = Some(ledger);
    }
    moved
}

/// What somebody has to mend ends all the same when its time is over.
async fn stalled(
    ctx: &Context,
    environment: &Environment,
    key: &StageKey,
    lived: &mut Lived,
    message: String,
) -> Result<Action, Error> {
    let now = ctx.clock.now();
    if let Standing::Over(why) = environment::standing(&life(environment, lived, &[]), now) {
        return over(ctx, key, lived, why, now).await;
    }
    tell(ctx, environment, Some(lived), &conditions::Outcome::stalled("InvalidSpec", message)).await?;
    Ok(Action::requeue(STALLED_REST))
}

/// Writes down that its end has come. The next pass acts on that.
async fn over(ctx: &Context, key: &StageKey, lived: &mut Lived, why: Ending, now: Timestamp) -> Result<Action, Error> {
    ctx.store.environment_ends(lived.life.id, now, why.why()).await?;
    open::again(ctx, lived).await?;
    ctx.trigger.stage(key);
    Ok(Action::await_change())
}

/// What a pass stands on.
struct Ground<'a> {
    environment: &'a Environment,
    key: &'a StageKey,
    ctx: &'a Context,
    composed: &'a Composed,
    sleeps: &'a [Window],
    owner: OwnerReference,
}

/// Acts on requests, decides, and lets it run or sleep.
async fn moved(
    ground: &Ground<'_>,
    lived: &mut Lived,
    memory: &mut Memory,
    ledger: &mut Ledger,
) -> Result<Action, Error> {
    let Ground { environment, key, ctx, composed: Composed { stage, project, hosts }, .. } = *ground;
    let mut target = ground.target(lived, memory);
    if !memory.compared {
        let insisted = stage
            .annotations()
            .get(labels::RETRY)
            .is_some_and(|asked| Some(asked) != memory.handled_retry(stage).as_ref());
        if let Some(why) = adopt::adopt(ctx, stage, Some(project), &target, ledger, insisted).await? {
            let outcome = conditions::Outcome::stalled("ClusterAhead", why);
            tell(ctx, environment, Some(lived), &outcome).await?;
            return Ok(Action::requeue(STALLED_REST));
        }
        memory.compared = true;
    }
    let known = Known::default();
    let rules = Ok(None);
    {
        let scene = Scene { ctx, stage, project: Some(project), target: &target, rules: &rules, life: Some(&known) };
        requests::act(&scene, ledger, &mut memory.request).await?;
        requests::mend(&scene, ledger).await?;
    }
    if known.is_changed() {
        open::again(ctx, lived).await?;
        if lived.life.ending.is_some() {
            ctx.trigger.stage(key);
            return Ok(Action::await_change());
        }
    }
    let now = ctx.clock.now();
    let (span, ends, changes) = match stands(ground, lived, ledger, now).await? {
        Standing::Lives { span, ends, wake } => (span, ends, wake),
        Standing::Over(why) => return over(ctx, key, lived, why, now).await,
    };
    lived.wants = span.is_awake() || !ledger.open.is_empty();
    let seat = seat(ground, lived);
    if let Seat::Waits(place) = seat {
        target.unreadable = Some(waits(ground, place));
    }
    let retry = memory.handled_retry(stage);
    let mut decided = {
        let scene = Scene { ctx, stage, project: Some(project), target: &target, rules: &rules, life: None };
        decide::decide(&scene, project, ledger, retry, memory).await?
    };
    not_pushed_yet(environment, &mut decided);
    let lies = lies(span, seat, ledger) && ctx.index.stage(&target.place).instances().len() <= 1;
    let mut driven = Driven::default();
    if lies {
        // First the visitors, then the pods.
        target.dozes = true;
        sleep::lead_away(ctx, &target, ledger).await?;
        memory.unready_since = None;
    } else {
        let numbers = |snapshot: &_, manifests: &_| policy::policy(&stage.spec, snapshot, manifests);
        driven = deploy::drive(ctx, &target, ledger, &mut memory.prober, &numbers).await?;
        let rollback = &stage.spec.rollback;
        let keeping = Keeping {
            keep_previous: rollback.keep_previous.as_std(),
            max_instances: 1,
            watch: rollback.watch.as_std(),
        };
        deploy::settle::settle(ctx, &target, ledger, &mut memory.unready_since, keeping, &mut driven).await?;
    }
    if lies != lived.life.asleep.is_some() {
        let since = lies.then_some(now);
        ctx.store.environment_sleeps(lived.life.id, since).await?;
        lived.life.asleep = since;
    }
    if let Some(since) = lived.life.asleep
        && let Some(later) = sleep::lay(ctx, &target, ledger, since).await?
    {
        driven.wake_at(later);
    }
    let runs = !lies && !matches!(seat, Seat::Waits(_));
    if std::mem::replace(&mut lived.runs, runs) != runs {
        // Others look at what is known here.
        ctx.lives.put(key, lived.clone());
        tell_others(ctx, key, &lived.project);
    }
    for wake in decided.wake.into_iter().chain(changes) {
        driven.wake_at(wake);
    }
    let around = Surroundings {
        life: &lived.life.clone(),
        hosts,
        url: url(ctx, hosts),
        span,
        awake: !lies,
        seat,
        ends,
        prices: project.spec.environments.as_ref().and_then(|all| all.prices.as_ref()),
        runs: ledger.good.as_ref().or(ledger.open.last()).map(|entry| &*entry.snapshot),
    };
    conclude(ground, lived, memory, ledger, &decided, driven, &around).await
}

impl Ground<'_> {
    fn target(&self, lived: &Lived, memory: &Memory) -> Target<'_> {
        let Ground { environment, key, ctx, composed, .. } = *self;
        let suspended = if environment.spec.suspend {
            Some(format!("environment {}", key.name))
        } else {
            composed.project.spec.suspend.then(|| format!("project {}", environment.spec.project))
        };
        let vault = ctx.vault.of(&key.namespace, &environment.spec.project);
        Target {
            id: memory.target,
            project: memory.project,
            key: key.clone(),
            place: StageKey::new(lived.life.place.as_str(), &*key.name),
            owner: self.owner.clone(),
            object: environment.object_ref(&()),
            route: composed.stage.spec.route.as_ref(),
            hosts: composed.hosts.get(1..).unwrap_or_default(),
            queue: QueuePolicy::Latest,
            suspended,
            rules: None,
            unreadable: None,
            logins: vault.map(|held| held.logins.clone()).unwrap_or_default(),
            fallback: ctx.edge_service.as_deref().filter(|_| composed.is_routed()),
            dozes: false,
            promotes: false,
        }
    }
}

/// The stage that it runs as.
fn composed(
    ctx: &Context,
    environment: &Environment,
    project: &Project,
    key: &StageKey,
    lived: &Lived,
) -> Result<Composed, String> {
    let base = environment.spec.template.base.as_deref();
    let base = base.and_then(|name| ctx.stages.get(&ObjectRef::<Stage>::new(name).within(&key.namespace)));
    let outside = Outside {
        domain: ctx.preview_url.as_ref().and_then(|url| url.domain()),
        edge: ctx.edge_service.is_some(),
        own: namespace::is_own(lived, key),
    };
    compose::compose(environment, project, base.as_deref(), &lived.life.subdomain, outside)
}

/// Spans in which it sleeps.
fn sleeps(environment: &Environment) -> Result<Vec<Window>, String> {
    let windows = environment.spec.template.sleep.iter().enumerate().map(|(at, window)| {
        Window::parse(&WindowSpec {
            name: None,
            action: promotion::Action::Deny,
            schedule: window.schedule.clone(),
            recurrence: window.recurrence.clone(),
            time_zone: window.time_zone.clone(),
            duration: window.duration.as_std(),
        })
        .map_err(|error| format!("spec.sleep[{at}].{error}"))
    });
    windows.collect()
}

/// What is true of its life. Before it falls asleep or ends, the database is asked whether somebody has looked at it since.
async fn stands(ground: &Ground<'_>, lived: &mut Lived, ledger: &Ledger, now: Timestamp) -> Result<Standing, Error> {
    let finished = ledger.history.front().and_then(|last| last.deploy.finished_at);
    let begun = ledger.open.last().map(|open| open.deploy.created_at);
    let worked = begun.into_iter().chain(finished).max();
    let standing = |lived: &mut Lived| {
        lived.used = lived.life.active.max(worked.unwrap_or(lived.life.born));
        environment::standing(&life(ground.environment, lived, ground.sleeps), now)
    };
    let first = standing(lived);
    let as_before = match first {
        Standing::Over(_) => false,
        Standing::Lives { span, .. } => span.is_awake() == lived.life.asleep.is_none(),
    };
    if as_before {
        return Ok(first);
    }
    open::again(ground.ctx, lived).await?;
    Ok(standing(lived))
}

/// What decides about its life.
fn life<'s>(environment: &Environment, lived: &Lived, sleeps: &'s [Window]) -> Life<'s> {
    let template = &environment.spec.template;
    let Lived { life, used, .. } = lived;
    Life {
        born: life.born,
        ttl: template.ttl.as_std(),
        extended: life.extended,
        pinned: life.pinned || environment.spec.pinned,
        used: *used,
        wake_asked: life.wake_asked,
        sleep_asked: life.sleep_asked,
        idle_after: template.idle_after.map(|after| after.as_std()),
        delete_after_idle: template.delete_after_idle.map(|after| after.as_std()),
        sleep: sleeps,
    }
}

/// Its place among the environments of its project that want to run.
fn seat(ground: &Ground<'_>, lived: &Lived) -> Seat {
    let Ground { ctx, key, composed, .. } = ground;
    let Some(most) = composed.project.spec.environments.as_ref().and_then(|all| all.max) else {
        return Seat::Taken;
    };
    let when_full = composed.project.spec.environments.as_ref().map(|all| all.when_full).unwrap_or_default();
    ctx.lives.put(key, lived.clone());
    let tenants = ctx.lives.tenants(&key.namespace, &lived.project);
    let evict = when_full == WhenFull::SleepLeastRecentlyUsed;
    let seats = environment::seats(&tenants, usize::try_from(most).unwrap_or(usize::MAX), evict);
    let name = key.name.to_string();
    for (other, seat) in &seats {
        if *seat == Seat::Yields && *other != name {
            ctx.trigger.stage(&StageKey::new(&*key.namespace, other.as_str()));
        }
    }
    seats.into_iter().find(|(other, _)| *other == name).map_or(Seat::Taken, |(_, seat)| seat)
}

/// What its deploys wait for while there is no room.
fn waits(ground: &Ground<'_>, place: usize) -> Waiting {
    let most = ground.composed.project.spec.environments.as_ref().and_then(|all| all.max).unwrap_or_default();
    Waiting {
        reason: "EnvironmentLimit".into(),
        message: format!(
            "place {place} in the queue: {most} environments of project {} run, as many as spec.environments.max lets; it goes \
             on when one of them sleeps or ends",
            ground.environment.spec.project
        ),
        blocker: None,
        until: None,
    }
}

/// Whether it lies without pods: it sleeps, or makes room, and nothing is being deployed.
fn lies(span: Span, seat: Seat, ledger: &Ledger) -> bool {
    ledger.good.is_some() && ledger.open.is_empty() && (!span.is_awake() || !matches!(seat, Seat::Taken))
}

/// Room was made or taken: others of the project may have waited for that.
fn tell_others(ctx: &Context, key: &StageKey, project: &str) {
    for other in ctx.lives.of(&key.namespace, project) {
        if other != *key {
            ctx.trigger.stage(&other);
        }
    }
}

/// An image of a pull request that is not there yet comes by itself.
fn not_pushed_yet(environment: &Environment, decided: &mut Decided) {
    for missing in &mut decided.missing {
        let tag = environment.spec.template.services.get(&missing.service).and_then(|over| over.tag.as_ref());
        if let (Some(tag), "TagNotFound" | "RepositoryNotFound") = (tag, missing.reason) {
            missing.transient = true;
            missing.reason = "ImageNotPushed";
            missing.message = format!("service {}: its image with tag {tag} is not pushed yet", missing.service);
        }
    }
}

/// Where people reach it: its plain host, at the scheme and port of the address for previews.
fn url(ctx: &Context, hosts: &[(String, String)]) -> Option<String> {
    let (at, (_, host)) = (ctx.preview_url.as_ref()?, hosts.first()?);
    let port = at.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", at.scheme()))
}

/// What happens after a failed pass.
pub fn error_policy(environment: &Environment, error: &Error, ctx: &Context) -> Action {
    let key = key(environment).to_string();
    match error.class() {
        Class::Conflict => tracing::debug!(environment = key, %error, "lost a race; observing again"),
        Class::Stalled | Class::StoreAway | Class::Transient => {
            tracing::warn!(environment = key, %error, "pass failed");
        }
    }
    match error.class() {
        Class::Stalled => Action::requeue(STALLED_REST),
        Class::Conflict => Action::requeue(Duration::from_millis(100)),
        Class::StoreAway => Action::requeue(ctx.backoff.next(&key).min(Duration::from_secs(5))),
        Class::Transient => Action::requeue(ctx.backoff.next(&key)),
    }
}

fn key(environment: &Environment) -> StageKey {
    StageKey::new(environment.namespace().unwrap_or_default(), environment.name_any())
}
