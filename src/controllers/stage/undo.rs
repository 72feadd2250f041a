//! What becomes of a stage when something happens to another one of its group. If they cannot begin any more, what waits is
//! stopped. If they have begun and `onFailure` is `rollback`, a deploy under way is stopped, and one that succeeded is gone
//! back from.

use uuid::Uuid;

use super::requests::Scene;
use crate::{
    controllers::{
        deploy::{
            group,
            ledger::{Entry, Ledger, Undone},
            record::{self, Moved, Order},
        },
        error::Error,
    },
    domain::{
        actor::Actor,
        deploy::{State, stopped},
        group::{OnFailure, Phase, phase},
        plan::Wanted,
        request::Action,
    },
    store::{NewVeto, Provenance, StoreError, StoredGroup},
};

/// Looks how the groups of this stage fare, unless that is known, and goes along. `settled` are those of
/// which nothing is left to do here.
pub async fn undo(scene: &Scene<'_>, ledger: &mut Ledger, settled: &mut Vec<Uuid>) -> Result<(), Error> {
    let ctx = scene.ctx;
    let mut groups: Vec<Uuid> =
        ledger.open.iter().chain(&ledger.good).filter_map(|entry| entry.provenance.group).collect();
    groups.dedup();
    settled.retain(|known| groups.contains(known));
    for id in groups {
        if settled.contains(&id) || ctx.groups.is_quiet(id) {
            continue;
        }
        let news = ctx.groups.news();
        let Some(stored) = ctx.store.group_get(id).await? else {
            return Err(StoreError::Conflict(format!("group {id} is not recorded any more")).into());
        };
        match (phase(&stored.members, stored.started_at.is_some()), stored.on_failure) {
            (Phase::Failed(why), OnFailure::Rollback) => {
                leave(scene, ledger, &stored, &why).await?;
                ctx.groups.forget(id);
                settled.push(id);
            }
            (Phase::Failed(_) | Phase::Over, _) => {
                ctx.groups.forget(id);
                settled.push(id);
            }
            (Phase::Broken(why), _) => {
                let waits = |entry: &Entry| entry.deploy.state == State::Pending && entry.provenance.group == Some(id);
                while let Some(position) = ledger.open.iter().position(waits) {
                    group::stop(ctx, scene.target, ledger, position, &why).await?;
                }
                ctx.groups.changed(id, &scene.target.key);
                ctx.groups.forget(id);
                settled.push(id);
            }
            (Phase::Begun | Phase::Forming, _) => {
                ctx.groups.looked(id, group::members(&stored), news);
            }
        }
    }
    Ok(())
}

async fn leave(scene: &Scene<'_>, ledger: &mut Ledger, group: &StoredGroup, why: &str) -> Result<(), Error> {
    let Scene { ctx, target, .. } = scene;
    let why = format!("group {} did not succeed: {why}", group.id);
    let of_group = |entry: &Entry| entry.provenance.group == Some(group.id);
    while let Some(position) = ledger.open.iter().position(|entry| of_group(entry) && entry.deploy.state.is_active()) {
        let step = stopped(&ledger.open[position].deploy, why.clone());
        record::advance(ctx, target, ledger, position, &[step], None, &Moved::default(), ctx.clock.now()).await?;
    }
    let Some(good) = ledger.good.clone().filter(of_group) else {
        return Ok(());
    };
    let member = group.members.iter().filter_map(|member| member.deploy.as_ref()).find(|one| one.id == good.deploy.id);
    if member.is_some_and(|member| member.undone) {
        return Ok(());
    }
    let before = ctx.store.deploy_good_before(target.id, good.deploy.sequence).await?;
    let Some(before) = before.filter(|before| before.stored.deploy.snapshot != good.deploy.snapshot) else {
        tracing::warn!(stage = %target.key, group = %group.id, "nothing served before, so there is nothing to go back to");
        return Ok(());
    };
    let hash = before.stored.deploy.snapshot;
    let snapshot = record::read_snapshot(&hash, &before.snapshot)?;
    let wanted = Wanted { release: snapshot.release.id(), snapshot: hash, request: None };
    let promoted = matches!(group.action, Action::Promote { .. }) && wanted.release != good.deploy.release;
    let cause = format!("rollback of {}: {why}", good.release().summary());
    let order = Order {
        provenance: Provenance { rollback_of: Some(good.deploy.id), ..Provenance::default() },
        undone: Some(Undone { snapshot: good.deploy.snapshot.clone(), request: good.request.clone(), why: None }),
        veto: promoted.then(|| NewVeto { id: ctx.ids.next(), reason: why.clone() }),
        // What was gone back to is left again, and so is what kept it.
        lifts: (!promoted && !ledger.holds.is_empty()).then_some(why),
        ..Order::new(snapshot, wanted, Actor::Policy, cause)
    };
    ctx.lanes.tell(&target.key);
    record::create(ctx, target, ledger, order).await?;
    Ok(())
}
