//! Stages that begin together: all gates of all of them are asked in the transaction that takes their deploys out of
//! pending. The first of them, by name, does it, with the memories of the others.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use uuid::Uuid;

use super::{memory::Memory, promoted};
use crate::{
    api::{Project, Stage},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        deploy::{
            self, Target, gate, group,
            ledger::{Entry, Ledger},
            record::{self, Leaving},
        },
        error::Error,
    },
    domain::{
        deploy::{Queue, State},
        promotion::{self, Facts, Gate, Group, Rules},
    },
    store::{Beginning, BegunTogether, Proof, StoredGroup},
};

/// One of them.
struct Hand<'a> {
    target: Target<'a>,
    rules: Arc<Rules>,
    ledger: &'a mut Ledger,
    position: usize,
    queue: Queue,
    leaving: Leaving,
}

/// Begins the deploys of a group, all or none. `ledger` is that of `target`, whose pass this is. Whoever finds that somebody
/// is not ready after all leaves it: that one's own pass tells the others.
pub async fn begin(ctx: &Context, target: &Target<'_>, ledger: &mut Ledger, group: &StoredGroup) -> Result<(), Error> {
    let members = group::members(group);
    let others: Vec<StageKey> = members.iter().filter(|key| **key != target.key).cloned().collect();
    let Ok(mut lent) = ctx.memories.lend(&others, &target.key) else {
        return Ok(());
    };
    let begun = with(ctx, target, ledger, group, &mut lent).await;
    if begun.is_err() {
        // What the database says of them is not known any more.
        for (_, memory) in &mut lent {
            memory.ledger = None;
        }
    }
    ctx.memories.give_back(lent);
    if begun? {
        ctx.groups.begun(group.id, &members);
    } else {
        for other in &others {
            ctx.groups.call(other);
        }
    }
    Ok(())
}

async fn with(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    group: &StoredGroup,
    lent: &mut [(StageKey, Box<Memory>)],
) -> Result<bool, Error> {
    let now = ctx.clock.now();
    let mut stages: Vec<Arc<Stage>> = Vec::with_capacity(lent.len());
    for (key, memory) in &*lent {
        match ctx.stages.get(&ObjectRef::<Stage>::new(&key.name).within(&key.namespace)) {
            Some(stage) if stage.metadata.uid.as_ref() == Some(&memory.uid) => stages.push(stage),
            _ => return Ok(false),
        }
    }
    let mut targets = vec![target.clone()];
    for ((key, memory), stage) in lent.iter().zip(&stages) {
        let project = ctx.projects.get(&ObjectRef::<Project>::new(&stage.spec.project).within(&key.namespace));
        let mut other = super::target(ctx, stage, project.as_deref(), key, memory);
        match promoted::checked(ctx, stage, key) {
            Ok(rules) => other.rules = rules,
            Err(refusal) => other.unreadable = Some(refusal.waiting()),
        }
        targets.push(other);
    }
    let ledgers = std::iter::once(Some(ledger)).chain(lent.iter_mut().map(|(_, memory)| memory.ledger.as_mut()));
    let mut hands = Vec::with_capacity(targets.len());
    for (target, ledger) in targets.into_iter().zip(ledgers) {
        let Some(hand) = ledger.and_then(|ledger| hand(ctx, target, ledger, group.id, now)) else {
            return Ok(false);
        };
        hands.push(hand);
    }
    let beginnings: Vec<Beginning<'_>> = hands.iter().map(Hand::beginning).collect();
    let begun = {
        let open = |place: usize, proof: &_| hands[place].gates(group.id, proof, now).iter().all(Gate::is_open);
        ctx.store.group_begin(group.id, &beginnings, now, open).await?
    };
    drop(beginnings);
    let BegunTogether::Moved(versions) = begun else {
        return Ok(false);
    };
    for (hand, version) in hands.into_iter().zip(versions) {
        let Hand { target, ledger, position, leaving, .. } = hand;
        record::left(ctx, &target, ledger, position, leaving, version, now);
    }
    Ok(true)
}

/// The deploy of a group on one of its stages, if it waits there.
fn hand<'a>(
    ctx: &Context,
    target: Target<'a>,
    ledger: &'a mut Ledger,
    group: Uuid,
    now: Timestamp,
) -> Option<Hand<'a>> {
    let waits = |entry: &Entry| entry.deploy.state == State::Pending && entry.provenance.group == Some(group);
    let position = ledger.open.iter().position(waits)?;
    let (rules, queue) = deploy::turn(&target, ledger, position, now);
    let leaving = record::leaving(ctx, ledger, position, now)?;
    Some(Hand { target, rules: rules.unwrap_or_default(), ledger, position, queue, leaving })
}

impl Hand<'_> {
    fn beginning(&self) -> Beginning<'_> {
        Beginning {
            advance: self.leaving.change.clone(),
            target: self.target.id,
            from: &self.rules.from,
            release: self.ledger.open[self.position].deploy.release.clone(),
        }
    }

    /// What its gates say when everybody else is ready.
    fn gates(&self, group: Uuid, found: &Proof, now: Timestamp) -> Vec<Gate> {
        let entry = &self.ledger.open[self.position];
        let asked = gate::Asked::of(&self.target, self.ledger, entry, self.queue.clone());
        let facts = Facts { group: Some(Group { id: group, waits_for: Vec::new() }), ..asked.facts(found, now) };
        promotion::gates(&facts, &self.rules, now)
    }
}
