//! The deploy engine: runs the machine for any target. It observes, asks [`crate::domain::deploy`] what happens next,
//! stores the transition, and only then lets the effects happen. Each effect can be repeated.

pub mod apply;
pub mod evidence;
pub mod files;
pub mod gate;
pub mod group;
pub mod hooks;
pub mod ledger;
pub mod observe;
pub mod plan;
pub mod prober;
pub mod record;
pub mod routes;
pub mod settle;
pub mod values;
pub mod workloads;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use tokio::time::Instant;
use uuid::Uuid;

use self::{
    group::Look,
    ledger::{Entry, Ledger},
    observe::Scene,
    plan::Planned,
    prober::Prober,
    record::Moved,
    values::Screen,
};
use super::{asked::OTHERS_FIRST, beginnings, context::Context, error::Error};
use crate::{
    api,
    cluster::index::{StageChildren, StageKey},
    domain::deploy::{self, Effect, Health, Policy, Queue, QueuePolicy, State, Step, Waiting},
    domain::promotion::{self, Gate, Rules},
    render::{Fallback, Manifests, Snapshot},
    store::{Hold, StoredGroup},
};

/// A target: whose deploys these are.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// Its row.
    pub id: Uuid,
    /// Its project's row.
    pub project: Uuid,
    /// Its object.
    pub key: StageKey,
    /// Where its children are: the namespace of a target is not always that of its object.
    pub place: StageKey,
    /// Owner of everything it makes.
    pub owner: OwnerReference,
    /// What events are about.
    pub object: ObjectReference,
    /// Where traffic from outside comes in.
    pub route: Option<&'a api::Route>,
    /// Hosts that the built-in proxy leads to services at, besides the route's.
    pub hosts: &'a [(String, String)],
    /// What answers for its routes while nothing of it does.
    pub fallback: Option<&'a Fallback>,
    /// It is about to sleep: nothing of it will answer, whatever is still there.
    pub dozes: bool,
    /// What a newer deploy does to one that waits.
    pub queue: QueuePolicy,
    /// What is suspended, if anything is.
    pub suspended: Option<String>,
    /// Why nothing that waits may begin, whatever else is known: its rules cannot be read.
    pub unreadable: Option<Waiting>,
    /// What is asked of releases that come from other stages.
    pub rules: Option<Arc<Rules>>,
    /// Versions of its project's registry credentials, by name.
    pub logins: Arc<BTreeMap<String, i64>>,
    /// Whether other targets may take their releases from here, and so want to know when it was not ready.
    pub promotes: bool,
}

/// How far a drive came.
#[derive(Debug, Default)]
pub struct Driven {
    /// What the newest open deploy waits for.
    pub waiting: Option<Waiting>,
    /// What the gates said of it, if it waits for one.
    pub gates: Vec<Gate>,
    /// When to look again.
    pub wake: Option<Timestamp>,
    /// Stages that can begin together now, this one as the first of them.
    pub ready: Option<Box<StoredGroup>>,
}

impl Driven {
    /// Looks again at `at`, or earlier if that was asked for already.
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// More steps than any deploy takes in one pass; whoever takes more is going round in circles.
const STEPS: usize = 24;

/// Moves every open deploy as far as it goes now. `policy` gives the numbers for a snapshot and what it is
/// rendered to.
pub async fn drive(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    prober: &mut Option<Prober>,
    policy: &(dyn Fn(&Snapshot, &Manifests) -> Policy + Sync),
) -> Result<Driven, Error> {
    let mut driven = Driven::default();
    let mut position = 0;
    for _ in 0..STEPS {
        let Some(entry) = ledger.open.get(position) else {
            break;
        };
        let id = entry.deploy.id;
        let moved = pass(ctx, target, ledger, position, prober, policy, &mut driven).await?;
        let still_there = ledger.open.get(position).is_some_and(|entry| entry.deploy.id == id);
        if still_there && !moved {
            position += 1;
        }
    }
    let probing = |prober: &Prober| {
        ledger.open.iter().any(|entry| prober.is_for(entry.deploy.id) && entry.deploy.state.is_active())
    };
    if prober.as_ref().is_some_and(|prober| !probing(prober)) {
        *prober = None;
    }
    if ledger.open.iter().all(|entry| !entry.deploy.state.is_active()) {
        ctx.beginnings.ended(&target.key);
    }
    for key in ctx.beginnings.turns(Instant::now()) {
        ctx.trigger.stage(&key);
    }
    Ok(driven)
}

/// Lets deploys of other projects begin first, if the one at hand can wait: nobody has asked for it, and nobody is in need of it.
fn others_first(
    ctx: &Context,
    target: &Target<'_>,
    entry: &Entry,
    driven: &mut Driven,
    now: Timestamp,
) -> Option<Waiting> {
    let Entry { deploy, provenance, snapshot, .. } = entry;
    let urgent = deploy.rollback_of.is_some() || provenance.emergency || provenance.group.is_some() || entry.is_asked();
    if deploy.state != State::Pending || urgent {
        return None;
    }
    let project = (target.key.namespace.to_string(), snapshot.identity.project.clone());
    let wait = ctx.beginnings.ask(&target.key, &project, Instant::now())?;
    driven.wake_at(now.saturating_add(wait).unwrap_or(now));
    Some(beginnings::waits(&project.1))
}

/// Whether its instance is to be made, and that can wait while others who have asked are told that theirs begins: of a thousand that
/// are asked for at once, all are under way by their status before the API server is busy with their pods. Who goes back is
/// in a hurry.
fn is_patient(entry: &Entry, children: &StageChildren) -> bool {
    let deploy = &entry.deploy;
    entry.is_asked()
        && deploy.state == State::Pulling
        && deploy.rollback_of.is_none()
        && !entry.provenance.emergency
        && !children.instances().contains(deploy.instance.as_str())
}

/// Observes one deploy, follows the machine, stores what it decided, and lets the effects happen. Returns whether
/// anything moved, so that it is worth looking again.
async fn pass(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    prober: &mut Option<Prober>,
    policy: &(dyn Fn(&Snapshot, &Manifests) -> Policy + Sync),
    driven: &mut Driven,
) -> Result<bool, Error> {
    let now = ctx.clock.now();
    let children = ctx.index.stage(&target.place);
    let Some(entry) = ledger.open.get_mut(position) else {
        return Ok(false);
    };
    let planned = observe::planned(entry, target, &children)?;
    screen(ctx, target, entry, &planned).await?;
    let good = match (&mut ledger.good, entry.deploy.state) {
        (Some(good), State::Failed) => Some(observe::planned(good, target, &children)?),
        _ => None,
    };
    let entry = &ledger.open[position];
    let policy = policy(&entry.snapshot, &planned.manifests);
    let health = prober
        .as_ref()
        .filter(|prober| prober.is_for(entry.deploy.id))
        .map_or_else(Health::default, |prober| prober.health(policy.success_threshold, policy.failure_threshold));
    let (rules, mut queue) = turn(target, ledger, position, now);
    if matches!(queue, Queue::Clear)
        && let Some(waiting) = others_first(ctx, target, entry, driven, now)
    {
        queue = Queue::Wait(waiting);
    }
    let mut said = Vec::new();
    if let (State::Pending, Some(rules)) = (entry.deploy.state, rules)
        && !matches!(queue, Queue::SupersededBy(_))
    {
        let gates = if entry.provenance.group.is_some() {
            match group::look(ctx, target, ledger, position, &rules, queue.clone(), now).await? {
                Look::Waits(gates) => Some(gates),
                Look::Ready(gates, group) => {
                    queue = Queue::Wait(group::begins(group.id));
                    driven.ready = Some(group);
                    Some(gates)
                }
            }
        } else {
            gate::begin(ctx, target, ledger, position, &rules, queue.clone(), now).await?
        };
        match gates {
            None => return Ok(true),
            Some(gates) => {
                let standing = promotion::verdict(&gates);
                if let Some(waiting) = standing.waiting {
                    queue = Queue::Wait(waiting);
                }
                if let Some(wake) = standing.wake {
                    driven.wake_at(wake);
                }
                said = gates;
            }
        }
    }
    let entry = &ledger.open[position];
    let scene =
        Scene { entry, planned: &planned, good: good.as_deref(), ledger, children: &children, queue, target, health };
    let seen = observe::observe(&scene);
    let (mut taken, mut decision) = deploy::follow(&entry.deploy, &seen, &policy, now);
    for transition in &mut taken {
        entry.screen.pass(&mut transition.message);
    }
    if let Some(waiting) = &mut decision.waiting {
        entry.screen.pass(&mut waiting.message);
    }
    let close = match decision.step {
        Step::Close { message } => Some(entry.screen.text(&message).into_owned()),
        Step::Stay | Step::Advance(_) => None,
    };
    if !taken.is_empty() || close.is_some() {
        let superseded_by = match (&seen.queue, taken.last()) {
            (Queue::SupersededBy(id), Some(last)) if last.to == State::Superseded => Some(*id),
            _ => None,
        };
        let moved = Moved { superseded_by, ..Moved::default() };
        record::advance(ctx, target, ledger, position, &taken, close, &moved, now).await?;
        return Ok(true);
    }
    let patient = is_patient(entry, &children);
    let late = entry.deploy.since.saturating_add(OTHERS_FIRST).unwrap_or(now) <= now;
    if patient && !ctx.asked.may_start(&target.key, ctx.starts, late, now) {
        let again = now.saturating_add(OTHERS_FIRST).unwrap_or(now);
        driven.wake_at(decision.wake.map_or(again, |wake| wake.min(again)));
        driven.gates = said;
        return Ok(false);
    }
    let performed =
        perform(ctx, target, ledger, position, prober, &Plans { this: &planned, good }, &decision.effects).await;
    if patient {
        ctx.asked.started(&target.key);
    }
    if let Some(entry) = ledger.open.get_mut(position) {
        entry.refused = performed.as_ref().err().and_then(Error::refusal);
    }
    let changed = performed?;
    if !changed {
        if let Some(wake) = decision.wake {
            driven.wake_at(wake);
        }
        driven.waiting = decision.waiting;
        driven.gates = said;
    }
    Ok(changed)
}

/// Whose turn it is at `position`, and the rules whose gates the deploy there has to pass, if there are any.
pub fn turn(target: &Target<'_>, ledger: &Ledger, position: usize, now: Timestamp) -> (Option<Arc<Rules>>, Queue) {
    let Some(entry) = ledger.open.get(position) else {
        return (None, Queue::Clear);
    };
    let open: Vec<_> = ledger.open.iter().map(|entry| entry.deploy.clone()).collect();
    // Members of a group have gates to tell each other of, also where nothing is promoted.
    let together = entry.provenance.group.filter(|_| entry.deploy.state == State::Pending);
    let rules = target.rules.clone().or_else(|| together.map(|_| Arc::default()));
    let held = ledger.held(now).map(waits_for);
    let queue = match &rules {
        // Who is suspended or held is told by gates of their own.
        Some(_) => deploy::queue(&entry.deploy, &open, target.queue, None, None),
        None => deploy::queue(&entry.deploy, &open, target.queue, target.suspended.as_deref(), held.as_ref()),
    };
    match target.unreadable.clone().filter(|_| entry.deploy.rollback_of.is_none()) {
        Some(unreadable) => (rules, Queue::Wait(unreadable)),
        None => (rules, queue),
    }
}

/// Opens what is told about the deploy from now on has to be searched for, and what its Secrets hold. Nothing for one
/// that waits for its turn.
async fn screen(ctx: &Context, target: &Target<'_>, entry: &mut Entry, planned: &Planned) -> Result<(), Error> {
    if entry.deploy.state == State::Pending {
        return Ok(());
    }
    let opened = values::open(ctx, target, entry, planned).await;
    entry.screen = match opened {
        Ok(screen) => screen,
        Err(error) => {
            let problem = error.refusal().ok_or(error)?;
            entry.refused = Some(problem.clone());
            Screen::Shut(problem)
        }
    };
    Ok(())
}

/// What a deploy that nobody asked for waits for while policies are kept away.
fn waits_for(hold: &Hold) -> Waiting {
    let Hold { owner, reason, .. } = hold;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Waiting {
        reason: "Held".into(),
        message: format!("held by {owner}{why}; `stagekeeper resume` ends the hold"),
        blocker: Some(owner.clone()),
        until: hold.expires_at,
    }
}

/// Renderings that effects work from.
struct Plans<'a> {
    this: &'a Planned,
    good: Option<Arc<Planned>>,
}

async fn perform(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    prober: &mut Option<Prober>,
    plans: &Plans<'_>,
    effects: &[Effect],
) -> Result<bool, Error> {
    let mut changed = false;
    for effect in effects {
        // Not every row that an effect writes carries an epoch.
        if !ctx.term.leader.is_leader() {
            return Err(Error::Deposed);
        }
        let children = ctx.index.stage(&target.place);
        let Some(entry) = ledger.open.get_mut(position) else {
            return Ok(changed);
        };
        changed |= match effect {
            Effect::ApplyShared => apply::shared(ctx, target, entry, plans.this, &children).await?,
            Effect::ApplyInstance => apply::instance(ctx, target, entry, plans.this, &children).await?,
            Effect::RunHooks(phase) => hooks::run(ctx, target, entry, plans.this, *phase, &children).await?,
            Effect::ApplyRoute => {
                let active = ledger.good.as_ref().map(|good| good.deploy.instance.as_str());
                apply::routes(ctx, target, entry, active, &children).await?
            }
            Effect::Probe => {
                *prober = Some(Prober::aim(prober.take(), entry, plans.this, &children, &target.key, &ctx.trigger));
                false
            }
            Effect::SwitchTraffic => apply::traffic(ctx, plans.this, &children).await?,
            Effect::CollectEvidence => {
                evidence::collect(ctx, target, entry, plans.this, prober.as_ref(), &children).await?
            }
            Effect::Restore(_) => match (&plans.good, &mut ledger.good) {
                (Some(planned), Some(good)) => {
                    let applied = apply::instance(ctx, target, good, planned, &children).await?;
                    applied | apply::traffic(ctx, planned, &children).await?
                }
                _ => false,
            },
        };
    }
    Ok(changed)
}
