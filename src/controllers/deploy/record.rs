//! Writing decisions down: the database first, then the copy in memory, then what is told about it.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Target, files,
    ledger::{Entry, Instance, Ledger, Undone, Veto},
    values::Screen,
};
use crate::{
    cluster::events::{Notice, Severity},
    controllers::{context::Context, error::Error},
    domain::{
        actor::Actor,
        deploy::{Deploy, State, Transition, started},
        plan::Wanted,
        update::SeenUpdate,
    },
    render::{Snapshot, snapshot::VolumeSource},
    store::{
        self, Advance, Creation, Hold, InstanceChange, InstanceStatus, NewDeploy, NewHold, NewVeto, Proof, Provenance,
        Settlement, StoreError,
    },
};

/// Why the serving release has to be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collapse(pub String);

/// A deploy that is to be made.
#[derive(Debug)]
pub struct Order {
    /// What it is rendered from.
    pub snapshot: Snapshot,
    /// What it is, and the explicit request behind it.
    pub wanted: Wanted,
    /// Who asks.
    pub actor: Actor,
    /// Why, in one sentence.
    pub cause: String,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What it goes back from by itself: not tried again.
    pub undone: Option<Undone>,
    /// A veto of the release that it undoes.
    pub veto: Option<NewVeto>,
    /// The newer images that it is made for.
    pub updates: Vec<SeenUpdate>,
    /// The request that it answers.
    pub settles: Option<Settlement>,
    /// A hold that begins with it.
    pub hold: Option<NewHold>,
    /// Why all holds that a rollback made end with it.
    pub lifts: Option<String>,
}

impl Order {
    /// An order of which nothing is known but this.
    pub fn new(snapshot: Snapshot, wanted: Wanted, actor: Actor, cause: String) -> Self {
        Self {
            snapshot,
            wanted,
            actor,
            cause,
            provenance: Provenance::default(),
            undone: None,
            veto: None,
            updates: Vec::new(),
            settles: None,
            hold: None,
            lifts: None,
        }
    }
}

/// Stores a new deploy. Whoever asked for the same place in the sequence first has it; the other observes again. Returns its
/// id.
pub async fn create(ctx: &Context, target: &Target<'_>, ledger: &mut Ledger, order: Order) -> Result<Uuid, Error> {
    let now = ctx.clock.now();
    let Order { snapshot, wanted, undone, veto, .. } = order;
    let new = NewDeploy {
        id: ctx.ids.next(),
        target: target.id,
        sequence: ledger.next_sequence(),
        release: snapshot.release.clone(),
        snapshot_hash: wanted.snapshot.clone(),
        snapshot: snapshot
            .to_json()
            .map_err(|error| Error::Snapshot { snapshot: wanted.snapshot.clone(), message: error.to_string() })?,
        instance: snapshot.instance(),
        actor: order.actor,
        cause: order.cause,
        request: wanted.request.clone(),
        provenance: order.provenance,
        veto,
        updates: order.updates,
        settles: order.settles,
        hold: order.hold,
        lifts: order.lifts,
        now,
        epoch: ctx.term.epoch,
    };
    match ctx.store.deploy_create(&new).await? {
        Creation::Created => {}
        Creation::Conflict => {
            return Err(StoreError::Conflict(format!("{} has a newer deploy", target.key)).into());
        }
    }
    let deploy = Deploy {
        id: new.id,
        target: new.target,
        sequence: new.sequence,
        release: wanted.release.clone(),
        snapshot: new.snapshot_hash,
        instance: new.instance,
        state: State::Pending,
        since: now,
        version: 1,
        actor: new.actor.clone(),
        cause: new.cause,
        reason: None,
        message: None,
        rollback_of: new.provenance.rollback_of,
        evidence_at: None,
        created_at: now,
        finished_at: None,
    };
    tracing::info!(deploy = %deploy.id, stage = %target.key, cause = deploy.cause, actor = %deploy.actor, "deploy was asked for");
    if let (Some(veto), Some(bad)) = (new.veto, &ledger.good) {
        ledger.vetoed.insert(bad.deploy.release.clone(), Veto { deploy: Some(bad.deploy.id), reason: veto.reason });
    }
    if wanted.request.is_some() {
        ledger.vetoed.remove(&wanted.release);
    }
    if new.lifts.is_some() || new.hold.is_some() {
        ledger.holds.retain(|hold| !hold.is_of_rollback());
    }
    if let Some(new) = &new.hold {
        ledger.holds.retain(|hold| hold.owner != new.owner);
    }
    ledger.holds.extend(new.hold.map(|hold| held(hold, target.id, now)));
    ledger.undone = undone;
    ledger.made(Entry {
        deploy,
        snapshot: snapshot.into(),
        request: wanted.request.clone(),
        provenance: new.provenance,
        hooks: std::collections::BTreeMap::default(),
        refused: None,
        planned: None,
        screen: Screen::Clear,
    });
    Ok(new.id)
}

/// A hold as it is stored with the deploy that begins it.
pub fn held(hold: NewHold, target: Uuid, at: Timestamp) -> Hold {
    let NewHold { id, owner, actor, reason, expires_at, from, settled_on, declared } = hold;
    Hold { id, target, owner, actor, reason, at, expires_at, from, settled_on, declared }
}

/// Why an open deploy moves, besides what the machine says.
#[derive(Debug, Clone, Default)]
pub struct Moved {
    /// Who moved it, if it was not the controller.
    pub actor: Option<Actor>,
    /// The newer deploy that takes its place.
    pub superseded_by: Option<Uuid>,
    /// The request that asked for it.
    pub settles: Option<Settlement>,
}

/// Stores the transitions that one observation carried, or that the deploy ends where it is, and applies them to the
/// ledger.
#[expect(clippy::too_many_arguments, reason = "a transition, and everything around it")]
pub async fn advance(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    taken: &[Transition],
    close: Option<String>,
    moved: &Moved,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(entry) = ledger.open.get(position) else {
        return Ok(());
    };
    let before = &entry.deploy;
    let to = taken.last().map_or(before.state, |transition| transition.to);
    let closes = close.is_some() || to.is_terminal();
    let consequences = consequences(ctx, ledger, entry, taken, closes);
    let version = match &close {
        Some(why) if taken.is_empty() => {
            ctx.store.deploy_close(before.id, before.version, ctx.term.epoch, why, now).await?
        }
        _ => {
            let change = change(ctx, entry, taken, close.clone(), moved, &consequences, now);
            ctx.store.deploy_advance(&change).await?
        }
    };
    take_over(ctx, target, ledger, position, version, taken, close.as_deref(), consequences, now);
    Ok(())
}

/// Stores that a deploy leaves pending, if `open` says so of what is known in the same transaction. Returns the row's new
/// version, and what [`begun`] takes over.
pub async fn begin(
    ctx: &Context,
    ledger: &Ledger,
    position: usize,
    step: &Transition,
    (target, from): (Uuid, &[String]),
    open: impl FnOnce(&Proof) -> bool + Send,
    now: Timestamp,
) -> Result<Option<Begun>, Error> {
    let Some(entry) = ledger.open.get(position) else {
        return Ok(None);
    };
    let taken = std::slice::from_ref(step);
    let consequences = consequences(ctx, ledger, entry, taken, false);
    let change = change(ctx, entry, taken, None, &Moved::default(), &consequences, now);
    let release = entry.deploy.release.clone();
    Ok(match ctx.store.deploy_begin(&change, target, from, &release, open).await? {
        store::Begun::Moved(version) => Some(Begun { version, consequences }),
        store::Begun::Waits => None,
    })
}

/// A deploy that is about to leave pending together with others.
pub struct Leaving {
    /// What is written.
    pub change: Advance,
    step: Transition,
    consequences: Consequences,
}

/// What is written when the deploy at `position` leaves pending.
pub fn leaving(ctx: &Context, ledger: &Ledger, position: usize, now: Timestamp) -> Option<Leaving> {
    let entry = ledger.open.get(position)?;
    let step = started(&entry.deploy);
    let taken = std::slice::from_ref(&step);
    let consequences = consequences(ctx, ledger, entry, taken, false);
    let change = change(ctx, entry, taken, None, &Moved::default(), &consequences, now);
    Some(Leaving { change, step, consequences })
}

/// Takes over that it has left pending.
pub fn left(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    leaving: Leaving,
    version: i64,
    now: Timestamp,
) {
    let Leaving { step, consequences, .. } = leaving;
    take_over(ctx, target, ledger, position, version, &[step], None, consequences, now);
}

/// A deploy that has left pending, in the database.
pub struct Begun {
    version: i64,
    consequences: Consequences,
}

/// Takes over that the deploy at `position` has left pending.
pub fn begun(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    begun: Begun,
    step: &Transition,
    now: Timestamp,
) {
    let Begun { version, consequences } = begun;
    take_over(ctx, target, ledger, position, version, std::slice::from_ref(step), None, consequences, now);
}

fn change(
    ctx: &Context,
    entry: &Entry,
    taken: &[Transition],
    close: Option<String>,
    moved: &Moved,
    consequences: &Consequences,
    now: Timestamp,
) -> Advance {
    Advance {
        id: entry.deploy.id,
        version: entry.deploy.version,
        epoch: ctx.term.epoch,
        steps: taken.to_vec(),
        close,
        evidence: false,
        at: now,
        actor: moved.actor.clone().unwrap_or(Actor::Controller),
        instances: consequences.instances.iter().map(|(change, _)| change.clone()).collect(),
        veto: consequences.veto.clone(),
        superseded_by: moved.superseded_by,
        settles: moved.settles.clone(),
    }
}

/// What the database has taken is told, and is so in memory.
#[expect(clippy::too_many_arguments, reason = "all that was written")]
fn take_over(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    version: i64,
    taken: &[Transition],
    close: Option<&str>,
    consequences: Consequences,
    now: Timestamp,
) {
    let entry = &mut ledger.open[position];
    let before = entry.deploy.clone();
    let to = taken.last().map_or(before.state, |transition| transition.to);
    let closes = close.is_some() || to.is_terminal();
    let reason = taken.last().map(|transition| (transition.reason, transition.message.as_str()));
    tell(ctx, target, &before, to, reason, close, now);

    let (storage, group) = (has_storage(&entry.snapshot), entry.provenance.group);
    let deploy = &mut entry.deploy;
    deploy.version = version;
    deploy.state = to;
    if !taken.is_empty() {
        deploy.since = now;
    }
    if let Some((reason, message)) = reason.filter(|_| matches!(to, State::Failed | State::Aborted | State::Superseded))
    {
        deploy.reason = Some(reason.to_owned());
        deploy.message = Some(message.to_owned());
    }
    deploy.finished_at = closes.then_some(now);
    let release = deploy.release.clone();
    for (change, failed) in consequences.instances {
        if let Some(made_by) = change.deploy {
            let made = ledger.instances.get(&change.name).map_or(now, |row| row.made);
            let row = Instance { deploy: made_by, release: release.clone(), failed, storage, made };
            ledger.instances.insert(change.name, row);
        }
    }
    let vetoed = consequences.veto.is_some();
    if let Some(veto) = consequences.veto {
        ledger.vetoed.insert(release.clone(), Veto { deploy: Some(before.id), reason: veto.reason });
    }
    if closes {
        let closed = ledger.closed(position);
        if to == State::Success {
            let replaced = ledger.good.iter().chain([&closed]);
            ledger.stale_files = replaced.into_iter().any(|entry| files::leaves_any(&entry.snapshot));
            ledger.good = Some(closed);
        }
    }
    if to == State::Success || vetoed {
        ctx.lanes.tell(&target.key);
    }
    match (group, to) {
        (Some(group), State::Success) => ctx.groups.advanced(group),
        (Some(group), State::Failed | State::RolledBack | State::Aborted | State::Superseded) => {
            ctx.groups.changed(group, &target.key);
        }
        _ => {}
    }
}

/// Whether instances of this snapshot have claims or files of their own.
pub fn has_storage(snapshot: &Snapshot) -> bool {
    let mut volumes = snapshot.services.iter().flat_map(|service| &service.volumes);
    volumes.any(|volume| matches!(volume.source, VolumeSource::PerInstanceClaim(_) | VolumeSource::Files(_)))
}

/// What goes into the same statement as the transitions.
struct Consequences {
    /// Rows of instances, and whether their deploy failed.
    instances: Vec<(InstanceChange, bool)>,
    veto: Option<NewVeto>,
}

fn consequences(ctx: &Context, ledger: &Ledger, entry: &Entry, taken: &[Transition], closes: bool) -> Consequences {
    let deploy = &entry.deploy;
    let entered = |state: State| taken.iter().any(|transition| transition.to == state);
    let change = |status| InstanceChange { name: deploy.instance.clone(), status, deploy: Some(deploy.id) };
    let mut out = Consequences { instances: Vec::new(), veto: None };
    let good = ledger.good.as_ref().map(|good| &good.deploy);
    let shared = good.is_some_and(|good| good.instance == deploy.instance);
    if entered(State::Pulling) {
        out.instances.push((change(InstanceStatus::Running), false));
    } else if (entered(State::Failed) || (entered(State::Aborted) && deploy.state != State::Pending)) && !shared {
        out.instances.push((change(InstanceStatus::Failed), true));
    }
    let other = good.is_some_and(|good| good.release != deploy.release);
    if entered(State::RolledBack) && closes && other && !ledger.vetoed.contains_key(&deploy.release) {
        let reason = deploy.message.clone().unwrap_or_else(|| "it failed".into());
        out.veto = Some(NewVeto { id: ctx.ids.next(), reason });
    }
    out
}

/// An instance whose objects have been deleted.
pub async fn instance_removed(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    name: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(row) = ledger.instances.get(name) else {
        return Ok(());
    };
    let change = InstanceChange { name: name.to_owned(), status: InstanceStatus::Removed, deploy: Some(row.deploy) };
    ctx.store.instances_change(target.id, &[change], now).await?;
    ledger.instances.remove(name);
    Ok(())
}

/// The serving release collapsed while it was watched: vetoes it and asks for the one that served before it, as it was
/// stored. Returns whether there is one.
pub async fn roll_back(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    collapse: &Collapse,
) -> Result<bool, Error> {
    let Some(bad) = ledger.good.clone() else {
        return Ok(false);
    };
    if ledger.open.iter().any(|entry| entry.deploy.rollback_of == Some(bad.deploy.id)) {
        return Ok(false);
    }
    let previous = ctx.store.deploy_good_before(target.id, bad.deploy.sequence).await?;
    let Some(previous) = previous.filter(|previous| previous.stored.deploy.release != bad.deploy.release) else {
        return Ok(false);
    };
    let hash = previous.stored.deploy.snapshot;
    let snapshot = read_snapshot(&hash, &previous.snapshot)?;
    let wanted = Wanted { release: snapshot.release.id(), snapshot: hash, request: None };
    let cause = format!("rollback of {}: {}", bad.release().summary(), collapse.0);
    ctx.lanes.tell(&target.key);
    let undone = Undone { snapshot: bad.deploy.snapshot.clone(), request: bad.request.clone(), why: None };
    let veto = NewVeto { id: ctx.ids.next(), reason: collapse.0.clone() };
    let provenance = Provenance { rollback_of: Some(bad.deploy.id), ..Provenance::default() };
    let order = Order::new(snapshot, wanted, Actor::Policy, cause);
    create(ctx, target, ledger, Order { provenance, undone: Some(undone), veto: Some(veto), ..order }).await?;
    Ok(true)
}

/// Reads a stored snapshot back.
pub fn read_snapshot(hash: &str, text: &str) -> Result<Snapshot, Error> {
    let unreadable = |message: String| Error::Snapshot { snapshot: hash.to_owned(), message };
    let document = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    Snapshot::from_json(&document).map_err(|error| unreadable(error.to_string()))
}

/// Logs, metrics and an event: at ends, not at every step.
fn tell(
    ctx: &Context,
    target: &Target<'_>,
    before: &Deploy,
    to: State,
    reason: Option<(&'static str, &str)>,
    close: Option<&str>,
    now: Timestamp,
) {
    let (word, message) = reason.unwrap_or(("Closed", close.unwrap_or_default()));
    tracing::info!(deploy = %before.id, stage = %target.key, from = %before.state, %to, reason = word, message, "deploy moved");
    let spent = |since: Timestamp| now.duration_since(since).try_into().unwrap_or_default();
    ctx.telemetry.metrics.deploy_left(before.state.word(), spent(before.since));
    let ends = to.is_terminal() || close.is_some();
    if ends {
        ctx.telemetry.metrics.deploy_closed(to.word(), spent(before.created_at));
    }
    let severity = match to {
        State::Success | State::Superseded => Severity::Normal,
        State::Failed | State::RolledBack | State::Aborted => Severity::Warning,
        _ => return,
    };
    if close.is_none() {
        let (events, object, id) = (ctx.events.clone(), target.object.clone(), before.id);
        let note = message.to_owned();
        // Best effort, and nothing waits for it.
        tokio::spawn(async move {
            let action = format!("Deploy {id}");
            events.publish(&object, &Notice { severity, reason: to.camel(), action: &action, note: &note }).await;
        });
    }
}
