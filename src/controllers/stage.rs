//! The Stage controller: what should run, the deploys that make it run, what holds in between, and the status.

pub mod adopt;
pub mod annotated;
pub mod changed;
pub mod checked;
pub mod decide;
pub mod delete;
pub mod hold;
pub mod memory;
pub mod newer;
pub mod outcome;
pub mod policy;
pub mod promoted;
pub mod promotion;
pub mod recall;
pub mod rehearse;
pub mod requests;
pub mod sources;
pub mod status;
pub mod together;
pub mod undo;
pub mod wanted;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action, runtime::reflector::ObjectRef};

use self::{decide::Decided, memory::Memory, outcome::Situation, requests::Scene};
use super::{
    context::{Context, Taken},
    deploy::{
        self, Driven, Target,
        ledger::{Entry, Ledger},
        settle::Keeping,
    },
    error::{Class, Error, STALLED_REST},
};
use crate::{
    api::{
        Project, Stage, StageStatus, conditions,
        labels::{self, FINALIZER},
    },
    cluster::{
        events::{Notice, Severity},
        index::StageKey,
    },
};

/// A stage is looked at this often even if nothing is seen to change: the net below all watches and deadlines.
const RESYNC: Duration = Duration::from_hours(6);

/// One pass over a stage.
pub async fn reconcile(stage: Arc<Stage>, ctx: Arc<Context>) -> Result<Action, Error> {
    if !ctx.term.leader.is_leader() {
        return Err(Error::Deposed);
    }
    let key = key(&stage);
    if stage.metadata.deletion_timestamp.is_some() {
        return delete::cleanup(&stage, &key, &ctx).await;
    }
    if !stage.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        let all: Vec<&str> = stage.finalizers().iter().map(String::as_str).chain([FINALIZER]).collect();
        ctx.writer.set_finalizers(&*stage, &all).await?;
    }
    for environment in ctx.lives.based_on(&key, stage.metadata.generation.unwrap_or_default()) {
        ctx.trigger.stage(&environment);
    }
    let project = ctx.projects.get(&ObjectRef::<Project>::new(&stage.spec.project).within(&key.namespace));
    let uid = stage.uid().unwrap_or_default();
    let taken = match ctx.memories.take(&key) {
        Taken::Lent => return Ok(Action::await_change()),
        Taken::Memory(memory) => Some(memory),
        Taken::Nothing => None,
    };
    let mut memory = match (taken.filter(|memory| memory.uid == uid), &project) {
        (Some(memory), _) => Ok(memory),
        (None, Some(project)) => recall::open(&ctx, &stage, project, &key).await,
        (None, None) => return without_project(&ctx, &stage, &key).await,
    };
    if let Ok(memory) = &mut memory
        && memory.answered.overwritten(&stage.metadata)
    {
        memory.written = None;
    }
    let result = match &mut memory {
        Ok(memory) => pass(&stage, project.as_deref(), &key, &ctx, memory).await,
        Err(error) => Err(std::mem::replace(error, Error::Deposed)),
    };
    if let Err(error) = &result {
        report(&ctx, &stage, memory.as_deref_mut().ok(), error).await;
    }
    if let Ok(memory) = memory {
        ctx.memories.put(key, memory);
    }
    result
}

/// A stage of a project that does not exist, and of which nothing is recorded: nothing is, until it does.
async fn without_project(ctx: &Context, stage: &Stage, key: &StageKey) -> Result<Action, Error> {
    let decided = Decided::without_project(ctx, stage, key);
    let situation = Situation {
        stage,
        ledger: &Ledger::default(),
        decided: &decided,
        waiting: None,
        gates: &[],
        request: None,
        unready: false,
        asleep: None,
        edge: ctx.preview_url.as_deref(),
    };
    tell(ctx, stage, None, &outcome::outcome(&situation)).await?;
    let now = ctx.clock.now();
    Ok(Action::requeue(decided.wake.map_or(RESYNC, |at| until(at, now))))
}

/// The table of contents of a pass.
async fn pass(
    stage: &Stage,
    project: Option<&Project>,
    key: &StageKey,
    ctx: &Context,
    memory: &mut Memory,
) -> Result<Action, Error> {
    let mut ledger = recall::ledger(ctx, memory).await?;
    let mut target = target(ctx, stage, project, key, memory);
    let rules = promoted::checked(ctx, stage, key);
    match &rules {
        Ok(rules) => target.rules.clone_from(rules),
        Err(refusal) => target.unreadable = Some(refusal.waiting()),
    }
    if !memory.compared {
        if let Some(why) = compare(ctx, stage, project, &target, &mut ledger, memory).await? {
            // Told without the ledger: the status may be all that is left of what the database lost.
            let outcome = conditions::Outcome::stalled("ClusterAhead", why);
            tell(ctx, stage, Some(memory), &outcome).await?;
            memory.ledger = Some(ledger);
            return Ok(Action::requeue(STALLED_REST));
        }
        memory.compared = true;
    }
    let scene = Scene { ctx, stage, project, target: &target, rules: &rules, life: None };
    let asked = async {
        requests::act(&scene, &mut ledger, &mut memory.request).await?;
        undo::undo(&scene, &mut ledger, &mut memory.groups_settled).await?;
        requests::mend(&scene, &mut ledger).await
    };
    let asked = asked.await;
    if let Err(error) = asked {
        if !matches!(error, Error::Store(_)) {
            memory.ledger = Some(ledger);
        }
        return Err(error);
    }
    let decided = match project {
        Some(project) => {
            let retry = memory.handled_retry(stage);
            decide::decide(&scene, project, &mut ledger, retry, memory).await
        }
        None => Ok(Decided::without_project(ctx, stage, key)),
    };
    let numbers = |snapshot: &_, manifests: &_| policy::policy(&stage.spec, snapshot, manifests);
    let moved = match decided {
        Ok(mut decided) => {
            newer::tell(ctx, &mut memory.told, std::mem::take(&mut decided.newer)).await;
            let driven = deploy::drive(ctx, &target, &mut ledger, &mut memory.prober, &numbers).await;
            match driven {
                Ok(mut driven) => {
                    let settled = settle(ctx, stage, &target, &mut ledger, memory, &mut driven).await;
                    let begun = match (settled, driven.ready.take()) {
                        (Ok(()), Some(group)) => together::begin(ctx, &target, &mut ledger, &group).await,
                        (settled, _) => settled,
                    };
                    begun.map(|()| (decided, driven))
                }
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    match moved {
        Ok((decided, driven)) => {
            let action = conclude(ctx, stage, key, memory, &ledger, &decided, driven).await?;
            ledger.rest();
            memory.ledger = Some(ledger);
            Ok(action)
        }
        // What the database says is not known any more after a lost race or a lost reply.
        Err(error @ Error::Store(_)) => Err(error),
        Err(error) => {
            memory.ledger = Some(ledger);
            Err(error)
        }
    }
}

/// Whether the cluster is ahead of the database in a way that only a person can settle.
async fn compare(
    ctx: &Context,
    stage: &Stage,
    project: Option<&Project>,
    target: &Target<'_>,
    ledger: &mut Ledger,
    memory: &Memory,
) -> Result<Option<String>, Error> {
    let asked = stage.annotations().get(labels::RETRY);
    let insisted = asked.is_some() && asked != memory.handled_retry(stage).as_ref();
    adopt::adopt(ctx, stage, project, target, ledger, insisted).await
}

async fn settle(
    ctx: &Context,
    stage: &Stage,
    target: &Target<'_>,
    ledger: &mut Ledger,
    memory: &mut Memory,
    driven: &mut Driven,
) -> Result<(), Error> {
    let rollback = &stage.spec.rollback;
    let keeping = Keeping {
        keep_previous: rollback.keep_previous.as_std(),
        max_instances: usize::try_from(stage.spec.max_instances).unwrap_or(1),
        watch: rollback.watch.as_std(),
    };
    let collapse = deploy::settle::settle(ctx, target, ledger, &mut memory.unready_since, keeping, driven).await?;
    if let Some(collapse) = collapse
        && rollback.on_failure
        && deploy::record::roll_back(ctx, target, ledger, &collapse).await?
    {
        ctx.trigger.stage(&target.key);
    }
    Ok(())
}

/// Writes the status if it is due, and says when to look again.
async fn conclude(
    ctx: &Context,
    stage: &Stage,
    key: &StageKey,
    memory: &mut Memory,
    ledger: &Ledger,
    decided: &Decided,
    mut driven: Driven,
) -> Result<Action, Error> {
    let now = ctx.clock.now();
    if let Some(wake) = decided.wake {
        driven.wake_at(wake);
    }
    memory.shown(stage.status.as_ref());
    let situation = Situation {
        stage,
        ledger,
        decided,
        waiting: driven.waiting.as_ref(),
        gates: &driven.gates,
        request: memory.request.as_ref(),
        unready: memory.unready_since.is_some(),
        asleep: None,
        edge: ctx.preview_url.as_deref(),
    };
    let before = memory.written.as_deref().or(stage.status.as_ref()).cloned().unwrap_or_default();
    let children = ctx.index.stage(key);
    let after = outcome::status(&before, &situation, &children, now);
    let since = *memory.unwritten_since.get_or_insert(now);
    // A new leader has nothing to say about a stage at rest before it has heard what its predecessor had heard.
    let said = conditions::get(&before.conditions, conditions::READY).is_some();
    let unheard = said
        && decided.asking
        && ledger.open.is_empty()
        && Some(before.observed_generation) == stage.metadata.generation;
    let asked = ledger.open.last().is_some_and(Entry::is_asked);
    let others = ctx.memories.unwritten() + ctx.asked.waiting();
    match status::due(&before, &after, since, others, asked).filter(|_| !unheard) {
        None => memory.unwritten_since = None,
        Some(at) if at <= now => {
            let shrank = outcome::newly_shrank(&before, &after).map(str::to_owned);
            write(ctx, stage, memory, after).await?;
            if let Some(note) = shrank {
                tell_of_frozen_images(ctx, stage, note);
            }
        }
        Some(at) => driven.wake_at(at),
    }
    ctx.backoff.reset(&key.to_string());
    Ok(driven.wake.map_or_else(|| Action::requeue(RESYNC), |at| Action::requeue(until(at, now))))
}

async fn write(ctx: &Context, stage: &Stage, memory: &mut Memory, status: StageStatus) -> Result<(), Error> {
    ctx.writer.apply_status(stage, &status).await?;
    memory.written = Some(Box::new(status));
    memory.unwritten_since = None;
    Ok(())
}

/// An event, once: nothing is chosen of a repository until somebody looks. Best effort, and nothing waits for it.
fn tell_of_frozen_images(ctx: &Context, stage: &Stage, note: String) {
    let (events, object) = (ctx.events.clone(), stage.object_ref(&()));
    tokio::spawn(async move {
        let notice =
            Notice { severity: Severity::Warning, reason: wanted::SHRANK, action: "FreezeImages", note: &note };
        events.publish(&object, &notice).await;
    });
}

/// Tells an error in the conditions, and how far the deploy came that it holds up, once: best effort, because the error
/// itself is what counts.
async fn report(ctx: &Context, stage: &Stage, memory: Option<&mut Memory>, error: &Error) {
    let Some(outcome) = outcome::of_error(error) else {
        return;
    };
    if let Err(second) = tell(ctx, stage, memory, &outcome).await {
        tracing::warn!(error = %second, "the status could not tell an error");
    }
}

/// Tells an outcome in the conditions, once, and leaves the rest of the status as it is.
async fn tell(
    ctx: &Context,
    stage: &Stage,
    memory: Option<&mut Memory>,
    outcome: &conditions::Outcome,
) -> Result<(), Error> {
    let written = memory.as_ref().and_then(|memory| memory.written.as_deref());
    let before = written.or(stage.status.as_ref()).cloned().unwrap_or_default();
    let generation = stage.metadata.generation.unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = generation;
    after.conditions = conditions::conditions(&before.conditions, outcome, generation, ctx.clock.now());
    let ledger = memory.as_ref().and_then(|memory| memory.ledger.as_ref());
    if let Some(latest) = ledger.and_then(|ledger| ledger.latest()) {
        after.deploy = Some(status::held_up(latest, outcome));
    }
    if after != before {
        ctx.writer.apply_status(stage, &after).await?;
        if let Some(memory) = memory {
            memory.written = Some(Box::new(after));
        }
    }
    Ok(())
}

/// What happens after a failed pass.
pub fn error_policy(stage: &Stage, error: &Error, ctx: &Context) -> Action {
    let key = key(stage).to_string();
    match error.class() {
        Class::Conflict => tracing::debug!(stage = key, %error, "lost a race; observing again"),
        Class::Stalled | Class::StoreAway | Class::Transient => {
            tracing::warn!(stage = key, %error, "pass failed");
        }
    }
    match error.class() {
        Class::Stalled => Action::requeue(STALLED_REST),
        Class::Conflict => Action::requeue(Duration::from_millis(100)),
        Class::StoreAway => Action::requeue(ctx.backoff.next(&key).min(Duration::from_secs(5))),
        Class::Transient => Action::requeue(ctx.backoff.next(&key)),
    }
}

fn target<'a>(
    ctx: &Context,
    stage: &'a Stage,
    project: Option<&Project>,
    key: &StageKey,
    memory: &Memory,
) -> Target<'a> {
    let suspended = if stage.spec.suspend {
        Some(format!("stage {}", key.name))
    } else {
        project.filter(|project| project.spec.suspend).map(|_| format!("project {}", stage.spec.project))
    };
    Target {
        id: memory.target,
        project: memory.project,
        key: key.clone(),
        place: key.clone(),
        owner: stage.controller_owner_ref(&()).unwrap_or_default(),
        object: stage.object_ref(&()),
        route: stage.spec.route.as_ref(),
        hosts: &[],
        queue: policy::queue(&stage.spec),
        suspended,
        rules: None,
        unreadable: None,
        logins: ctx.vault.of(&key.namespace, &stage.spec.project).map(|held| held.logins.clone()).unwrap_or_default(),
        fallback: None,
        dozes: false,
        promotes: true,
    }
}

fn key(stage: &Stage) -> StageKey {
    StageKey::new(stage.namespace().unwrap_or_default(), stage.name_any())
}

/// From now until `at`; never zero, so that an instant that has just passed does not spin.
pub fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(10))
}
