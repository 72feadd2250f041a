//! The gates of a deploy that begins together with others, or not at all.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Target,
    gate::Asked,
    ledger::Ledger,
    record::{self, Moved},
};
use crate::{
    cluster::index::StageKey,
    controllers::{context::Context, error::Error, groups::Said},
    domain::{
        actor::Actor,
        deploy::{Queue, Waiting, stopped},
        group::{self, Phase},
        promotion::{self, Gate, Group, Rules},
        request::RequestState,
    },
    store::{Proof, StoreError, StoredGroup},
};

/// What comes of a look at a group.
#[derive(Debug)]
pub enum Look {
    /// Not everybody is ready, or somebody else begins them all.
    Waits(Vec<Gate>),
    /// Every gate of every member was open when it was asked last. This stage is the first of them and begins them all.
    Ready(Vec<Gate>, Box<StoredGroup>),
}

/// Asks the gates of the deploy at `position`, tells the other members of its group, and looks how they fare.
pub async fn look(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &Ledger,
    position: usize,
    rules: &Rules,
    queue: Queue,
    now: Timestamp,
) -> Result<Look, Error> {
    let Some(entry) = ledger.open.get(position) else {
        return Ok(Look::Waits(Vec::new()));
    };
    let Some(id) = entry.provenance.group else {
        return Ok(Look::Waits(Vec::new()));
    };
    let news = ctx.groups.news();
    let Some(group) = ctx.store.group_get(id).await? else {
        return Err(StoreError::Conflict(format!("group {id} is not recorded any more")).into());
    };
    let release = entry.deploy.release.clone();
    let mut found = ctx.store.proofs_list(target.id, &rules.from, std::slice::from_ref(&release)).await?;
    let proof = found.pop().unwrap_or_else(|| Proof::none(release));
    let asked = Asked::of(target, ledger, entry, queue);
    let mut facts = asked.facts(&proof, now);
    let own = promotion::verdict(&promotion::gates(&facts, rules, now)).waiting;
    let members = members(&group);
    let said = own.map_or(Said::Ready, |waiting| Said::Waits(waiting.message));
    let ready = said == Said::Ready;
    ctx.groups.say(id, &members, &target.key, said);
    if ctx.groups.news() != news {
        // Whatever happened may not have found this stage among those to be told.
        ctx.groups.call(&target.key);
    }
    let mut waits_for = waits_for(ctx, &group, &target.key);
    if let Phase::Broken(why) = group::phase(&group.members, group.started_at.is_some()) {
        // The next pass stops it, before it decides anything.
        ctx.groups.changed(id, &target.key);
        ctx.groups.call(&target.key);
        waits_for.push(why);
    }
    let all_ready = ready && waits_for.is_empty();
    let first = members.first().filter(|first| **first != target.key);
    if let (true, Some(first)) = (all_ready, first) {
        ctx.groups.call(first);
        waits_for.push(format!("{}: it begins them all", first.name));
    }
    facts.group = Some(Group { id, waits_for });
    let gates = promotion::gates(&facts, rules, now);
    Ok(if all_ready && first.is_none() { Look::Ready(gates, Box::new(group)) } else { Look::Waits(gates) })
}

/// What a deploy waits for whose group begins outside of this pass.
pub fn begins(group: Uuid) -> Waiting {
    let message = format!("every member of group {group} is ready: they begin now");
    Waiting { reason: "GroupWaits".into(), message, blocker: Some(group.to_string()), until: None }
}

/// The stages of a group, by name.
pub fn members(group: &StoredGroup) -> Vec<StageKey> {
    group.members.iter().map(|member| StageKey::new(group.namespace.as_str(), member.stage.as_str())).collect()
}

/// What the other members wait for.
fn waits_for(ctx: &Context, group: &StoredGroup, own: &StageKey) -> Vec<String> {
    let mut all = Vec::new();
    for (member, key) in group.members.iter().zip(members(group)).filter(|(_, key)| key != own) {
        let stage = &member.stage;
        match (member.request, ctx.groups.said(group.id, &key)) {
            (RequestState::Pending, _) | (_, None) => all.push(format!("{stage}: its gates were not asked yet")),
            (_, Some(Said::Waits(why))) => all.push(format!("{stage}: {why}")),
            (_, Some(Said::Ready)) => {}
        }
    }
    all
}

/// Stops the deploy at `position`, which waits for a group that cannot begin. The hold that came with it ends: nothing was
/// gone back to.
pub async fn stop(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    why: &str,
) -> Result<(), Error> {
    let Some(entry) = ledger.open.get(position) else {
        return Ok(());
    };
    let now = ctx.clock.now();
    let message = group::told(why);
    let (made, by) = (entry.deploy.created_at, entry.deploy.actor.clone());
    let step = stopped(&entry.deploy, message.clone());
    let came_with_it = ledger.holds.iter().find(|hold| hold.at == made && hold.actor == by).map(|hold| hold.id);
    if let Some(hold) = came_with_it {
        ctx.store.holds_lift(target.id, Some(hold), &Actor::Controller, &message, now).await?;
        ledger.holds.retain(|other| other.id != hold);
    }
    record::advance(ctx, target, ledger, position, &[step], None, &Moved::default(), now).await
}
