//! A stage's status: a bounded projection of the ledger, and when it is worth a write. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        DeployStatus, GateStatus, HistoryEntry, HoldStatus, InstanceStatus, RequestStatus, StageStatus, Veto, bounded,
        conditions::{self, Outcome},
        status::MAX_HISTORY,
    },
    controllers::deploy::ledger::Ledger,
    domain::{
        deploy::{Deploy, State, Waiting},
        promotion::{Gate, Verdict},
    },
    store::Hold,
};

/// Changes on the way of a running deploy that follow each other within this time share one write.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Progress of this many stages is written per second at the most: of a thousand stages that move at once, each tells
/// how far it is every twenty seconds, and the API server's time goes into moving them.
const PROGRESS_PER_SECOND: u32 = 50;

/// What the status is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The database's word.
    pub ledger: &'a Ledger,
    /// The generation of the spec that was seen.
    pub generation: i64,
    /// How the pass ended.
    pub outcome: &'a Outcome,
    /// What the latest open deploy waits for.
    pub waiting: Option<&'a Waiting>,
    /// Instances that exist in the cluster, by name, with their URL.
    pub instances: &'a [(String, Option<String>)],
    /// Where the stage is served.
    pub url: Option<String>,
    /// The retry request that was acted on.
    pub handled_retry: Option<String>,
    /// What keeps policies away.
    pub held: Option<&'a Hold>,
    /// What the gates said of the latest deploy.
    pub gates: &'a [Gate],
    /// The request of an annotation.
    pub request: Option<&'a RequestStatus>,
}

/// The status that tells `facts`; equal to `before` when nothing changed.
pub fn status(before: &StageStatus, facts: &Facts<'_>, now: Timestamp) -> StageStatus {
    let good = facts.ledger.good.as_ref();
    let active = good.map(|entry| entry.deploy.instance.clone());
    StageStatus {
        observed_generation: facts.generation,
        conditions: conditions::conditions(&before.conditions, facts.outcome, facts.generation, now),
        release: good.map(|entry| entry.deploy.release.to_string()),
        images: good.map(|entry| bounded(entry.release().images())),
        url: facts.url.clone(),
        deploy: facts.ledger.latest().map(|deploy| deploy_status(deploy, facts.waiting)),
        instances: facts
            .instances
            .iter()
            .map(|(name, url)| instance(name, url.clone(), active.as_deref(), facts))
            .collect(),
        active,
        history: facts
            .ledger
            .history
            .iter()
            .take(MAX_HISTORY)
            .map(|finished| history(&finished.deploy, &finished.images))
            .collect(),
        vetoed: facts
            .ledger
            .vetoed
            .iter()
            .take(MAX_HISTORY)
            .map(|(release, veto)| Veto {
                release: release.to_string(),
                deploy: veto.deploy.map(|deploy| deploy.to_string()),
                reason: Some(bounded(veto.reason.clone())),
            })
            .collect(),
        gates: facts.gates.iter().map(gate).collect(),
        hold: facts.held.map(hold),
        last_request: facts.request.or(before.last_request.as_ref()).cloned(),
        last_handled_retry: facts.handled_retry.clone(),
    }
}

fn gate(gate: &Gate) -> GateStatus {
    let (verdict, until) = match gate.verdict {
        Verdict::Pass => ("Pass", None),
        Verdict::WaitUntil(until) => ("Wait", Some(Time(until))),
        Verdict::Needs => ("Needs", None),
        Verdict::Refuse => ("Refuse", None),
    };
    GateStatus {
        name: gate.name.into(),
        verdict: verdict.into(),
        until,
        message: (!gate.message.is_empty()).then(|| bounded(gate.message.clone())),
        opens: (!gate.opens.is_empty()).then(|| bounded(gate.opens.clone())),
    }
}

fn hold(hold: &Hold) -> HoldStatus {
    HoldStatus {
        owner: bounded(hold.owner.clone()),
        actor: Some(bounded(hold.actor.to_string())),
        reason: (!hold.reason.is_empty()).then(|| bounded(hold.reason.clone())),
        since: Some(Time(hold.at)),
        until: hold.expires_at.map(Time),
    }
}

/// A deploy that an error keeps from going on: that is what it waits for.
pub fn held_up(deploy: &Deploy, error: &Outcome) -> DeployStatus {
    let waiting =
        Waiting { reason: error.reason().into(), message: error.message().into(), blocker: None, until: None };
    deploy_status(deploy, Some(&waiting))
}

fn deploy_status(deploy: &Deploy, waiting: Option<&Waiting>) -> DeployStatus {
    let waiting = waiting.filter(|_| !deploy.is_closed());
    let message = waiting.map(|waiting| &waiting.message).or(deploy.message.as_ref()).unwrap_or(&deploy.cause);
    DeployStatus {
        id: deploy.id.to_string(),
        state: deploy.state.camel().into(),
        since: Some(time(deploy.since)),
        release: Some(deploy.release.to_string()),
        waiting_reason: waiting.map(|waiting| waiting.reason.clone()),
        blocker: waiting.and_then(|waiting| waiting.blocker.clone()),
        actor: Some(deploy.actor.to_string()),
        message: Some(bounded(message.clone())),
    }
}

fn instance(name: &str, url: Option<String>, active: Option<&str>, facts: &Facts<'_>) -> InstanceStatus {
    let row = facts.ledger.instances.get(name);
    let is_active = active == Some(name);
    let word = match row {
        _ if is_active => "running",
        Some(row) if row.failed => "failed",
        Some(_) => "running",
        None => "removing",
    };
    InstanceStatus {
        name: name.to_owned(),
        status: word.into(),
        release: row.map(|row| row.release.to_string()),
        deploy: row.map(|row| row.deploy.to_string()),
        url,
        active: is_active,
    }
}

fn history(deploy: &Deploy, images: &str) -> HistoryEntry {
    HistoryEntry {
        id: deploy.id.to_string(),
        state: deploy.state.camel().into(),
        release: Some(deploy.release.to_string()),
        images: Some(bounded(images)),
        finished_at: deploy.finished_at.map(time),
        actor: Some(deploy.actor.to_string()),
        reason: Some(bounded(deploy.message.clone().unwrap_or_else(|| deploy.cause.clone()))),
    }
}

/// The API carries whole seconds, and what is read back has to equal what was written.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// When a changed status is written: at once if it tells an end, a beginning or trouble, else when the changes of a
/// running deploy have settled. `None` when nothing changed. `pending_since` is when the first unwritten change was made,
/// `others` how many stages have such changes as well or soon will, `asked` whether somebody waits to hear of the deploy that
/// it tells of.
pub fn due(
    before: &StageStatus,
    after: &StageStatus,
    pending_since: Timestamp,
    others: usize,
    asked: bool,
) -> Option<Timestamp> {
    if before == after {
        return None;
    }
    let state = |status: &StageStatus| status.deploy.as_ref().map(|deploy| (deploy.id.clone(), deploy.state.clone()));
    let passing = state(after).is_some_and(|(_, word)| {
        State::ALL.iter().any(|known| known.camel() == word && (known.is_active() || *known == State::Pending))
    });
    let stalled =
        |status: &StageStatus| conditions::get(&status.conditions, conditions::STALLED).map(|c| c.reason.clone());
    let id = |status: &StageStatus| status.deploy.as_ref().map(|deploy| deploy.id.clone());
    let urgent = !passing && state(before) != state(after)
        || asked && id(before) != id(after)
        || stalled(before) != stalled(after);
    let turn = Duration::from_secs(1).saturating_mul(u32::try_from(others).unwrap_or(u32::MAX)) / PROGRESS_PER_SECOND;
    let settled = pending_since.saturating_add(SETTLE.saturating_add(turn)).unwrap_or(pending_since);
    Some(if urgent { pending_since } else { settled })
}

#[cfg(test)]
mod tests;
