//! The gates of a promoted stage: asked in the transaction that takes a deploy out of pending.

use jiff::Timestamp;

use super::{
    Target,
    ledger::{Entry, Ledger},
    record,
};
use crate::{
    controllers::{context::Context, error::Error},
    domain::{
        deploy::{Deploy, Queue, Transition, started},
        promotion::{self, Emergency, Facts, Gate, Hold, Kind, Mark, Rules},
    },
    store::{self, Proof},
};

/// Takes the deploy at `position` out of pending if every gate is open. Returns what the gates said if one is not.
pub async fn begin(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    position: usize,
    rules: &Rules,
    queue: Queue,
    now: Timestamp,
) -> Result<Option<Vec<Gate>>, Error> {
    let Some(entry) = ledger.open.get(position) else {
        return Ok(None);
    };
    let asked = Asked::of(target, ledger, entry, queue);
    let mut said = Vec::new();
    let open = |found: &Proof| {
        said = promotion::gates(&asked.facts(found, now), rules, now);
        said.iter().all(Gate::is_open)
    };
    let step: Transition = started(&entry.deploy);
    let moved = record::begin(ctx, ledger, position, &step, (target.id, &rules.from), open, now).await?;
    let Some(moved) = moved else {
        return Ok(Some(said));
    };
    record::begun(ctx, target, ledger, position, moved, &step, now);
    Ok(None)
}

/// A deploy that waits, and everything around it that memory knows.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Name of the stage.
    pub stage: &'a str,
    /// What is suspended, if anything is.
    pub suspended: Option<&'a str>,
    /// The stage's deploys.
    pub ledger: &'a Ledger,
    /// The deploy.
    pub deploy: &'a Deploy,
    /// The explicit request behind it.
    pub request: Option<&'a str>,
    /// Soak, approvals and windows are passed over.
    pub emergency: bool,
    /// Whose turn it is.
    pub queue: Queue,
}

impl<'a> Asked<'a> {
    /// A deploy of a target's ledger, whose turn is as `queue` says.
    pub fn of(target: &'a Target<'_>, ledger: &'a Ledger, entry: &'a Entry, queue: Queue) -> Self {
        Self {
            stage: &target.key.name,
            suspended: target.suspended.as_deref(),
            ledger,
            deploy: &entry.deploy,
            request: entry.request.as_deref(),
            emergency: entry.provenance.emergency,
            queue,
        }
    }

    /// With what was found out about its release.
    pub fn facts(&self, found: &Proof, now: Timestamp) -> Facts {
        let Self { stage, suspended, ledger, deploy, request, emergency, queue } = self;
        Facts {
            stage: (*stage).to_owned(),
            release: deploy.release.clone(),
            kind: kind(ledger, deploy, *request),
            explicit: request.is_some(),
            suspended: suspended.map(Into::into),
            holds: holds(&ledger.holds, now),
            veto: ledger.vetoed.get(&deploy.release).map(|veto| veto.reason.clone()),
            upstreams: found.upstreams.clone(),
            approvals: found.approvals.clone(),
            requester: deploy.actor.clone(),
            emergency: emergency.then(|| Emergency { actor: deploy.actor.clone(), reason: deploy.cause.clone() }),
            group: None,
            queue: queue.clone(),
        }
    }
}

/// The holds that count, as the gates know them.
pub fn holds(holds: &[store::Hold], now: Timestamp) -> Vec<Hold> {
    let active = holds.iter().filter(|hold| hold.expires_at.is_none_or(|end| end > now));
    let one = |hold: &store::Hold| Hold {
        owner: hold.owner.clone(),
        actor: hold.actor.clone(),
        reason: hold.reason.clone(),
        since: hold.at,
        until: hold.expires_at,
        from: hold.from.as_ref().map(|from| Mark { release: from.id(), summary: from.summary(), at: hold.at }),
    };
    active.map(one).collect()
}

/// How a deploy came about.
fn kind(ledger: &Ledger, deploy: &Deploy, request: Option<&str>) -> Kind {
    if deploy.rollback_of.is_some() {
        return Kind::Rollback;
    }
    if request.is_some_and(|request| request.starts_with("pin:")) {
        return Kind::Pin;
    }
    match &ledger.good {
        Some(good) if good.deploy.release == deploy.release => Kind::Configuration,
        _ => Kind::Promotion,
    }
}
