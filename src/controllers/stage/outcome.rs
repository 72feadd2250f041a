//! What a pass amounts to, in the words of conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    decide::Decided,
    status::{self, Facts},
};
use crate::{
    api::{
        Stage, StageStatus,
        conditions::{self, Outcome},
    },
    cluster::index::StageChildren,
    controllers::{
        deploy::ledger::Ledger,
        error::{Class, Error},
    },
    domain::deploy::{State, Waiting},
    render,
};

/// Type of the condition that says whether registries answered for every watched image.
pub const IMAGES_CURRENT: &str = "ImagesCurrent";

/// Everything that the status tells about.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The stage.
    pub stage: &'a Stage,
    /// Its deploys.
    pub ledger: &'a Ledger,
    /// What was decided about images and declarations.
    pub decided: &'a Decided,
    /// What the newest open deploy waits for.
    pub waiting: Option<&'a Waiting>,
    /// The serving instance is not ready.
    pub unready: bool,
}

/// The outcome for the conditions. The first of these that applies: declarations that cannot be used, a deploy under
/// way, images that are not known, a failure that needs a person, a serving release.
pub fn outcome(situation: &Situation<'_>) -> Outcome {
    let Situation { ledger, decided, .. } = situation;
    if let Some(refused) = &decided.refused {
        return match refused.passing {
            true => Outcome::reconciling(refused.reason, &refused.message),
            false => Outcome::stalled(refused.reason, &refused.message),
        };
    }
    if let Some(open) = ledger.open.last() {
        let images = open.release().summary();
        let (word, sentence) = match situation.waiting {
            Some(waiting) if open.deploy.state == State::Pending => ("DeployPending", &waiting.message),
            Some(waiting) => ("Deploying", &waiting.message),
            None => ("Deploying", &open.deploy.cause),
        };
        return Outcome::reconciling(word, format!("{images}: {}: {sentence}", open.deploy.state));
    }
    if let Some(missing) = decided.missing.first() {
        let message = decided.missing.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; ");
        return match missing.transient {
            true => Outcome::reconciling(missing.reason, message),
            false => Outcome::stalled(missing.reason, message),
        };
    }
    settled(situation)
}

/// Nothing is under way: what runs, and whether that is what is wanted.
fn settled(situation: &Situation<'_>) -> Outcome {
    let Situation { ledger, decided, .. } = situation;
    let way_out =
        "push a newer image, change the spec, or ask again with the annotation stagekeeper.dev/retry=<any new value>";
    let failure =
        ledger.history.iter().find(|finished| matches!(finished.deploy.state, State::Failed | State::RolledBack));
    let why = failure.and_then(|finished| finished.deploy.message.as_deref()).unwrap_or("it failed before");
    let serves = ledger.good.as_ref().map(|good| good.release().summary());
    let latest = ledger.latest();
    let failed = latest.is_some_and(|latest| matches!(latest.state, State::Failed | State::RolledBack));
    match (serves, &decided.held_back) {
        (Some(serves), Some(held)) => {
            Outcome::stalled("RolledBack", format!("{held} failed: {why}; {serves} serves; {way_out}"))
        }
        (Some(serves), None) if failed => Outcome::stalled("RolledBack", format!("{why}; {serves} serves; {way_out}")),
        (Some(serves), None) if latest.is_some_and(|latest| latest.state == State::Aborted) => {
            let aborted = latest.and_then(|latest| latest.message.as_deref()).unwrap_or("the last deploy was stopped");
            Outcome::stalled("Aborted", format!("{aborted}; {serves} serves; {way_out}"))
        }
        (Some(serves), None) if situation.unready => {
            Outcome::reconciling("Unready", format!("{serves}: not all pods are ready"))
        }
        (Some(serves), None) => Outcome::ready("Serving", format!("{serves} serves")),
        (None, _) => match latest {
            Some(latest) => {
                let why = latest.message.as_deref().unwrap_or("the first deploy did not succeed");
                Outcome::stalled("DeployFailed", format!("{why}; {way_out}"))
            }
            None => Outcome::reconciling("Starting", "no deploy has been made yet"),
        },
    }
}

/// The outcome of a pass that failed; `None` for errors that the next pass forgets.
pub fn of_error(error: &Error) -> Option<Outcome> {
    match error.class() {
        Class::Stalled => Some(Outcome::stalled(error.reason(), error.to_string())),
        Class::StoreAway => Some(Outcome::reconciling(
            error.reason(),
            "the database does not answer; what runs keeps running, and deploys go on when it is back",
        )),
        Class::Conflict | Class::Transient => None,
    }
}

/// The whole status; equal to `before` when nothing changed.
pub fn status(
    before: &StageStatus,
    situation: &Situation<'_>,
    children: &StageChildren,
    now: Timestamp,
) -> StageStatus {
    let Situation { stage, ledger, decided, .. } = situation;
    let route = stage.spec.route.as_ref();
    let snapshot = ledger.good.as_ref().or(ledger.open.last()).map(|entry| &entry.snapshot);
    let instances: Vec<(String, Option<String>)> = children
        .instances()
        .into_iter()
        .map(|name| (name.to_owned(), snapshot.and_then(|snapshot| render::instance_url(snapshot, route, name))))
        .collect();
    let outcome = outcome(situation);
    let facts = Facts {
        ledger,
        generation: stage.metadata.generation.unwrap_or_default(),
        outcome: &outcome,
        waiting: situation.waiting,
        instances: &instances,
        url: ledger.good.as_ref().and_then(|good| render::stage_url(&good.snapshot, route)),
        handled_retry: decided.handled_retry.clone(),
    };
    let mut status = status::status(before, &facts, now);
    images_current(&mut status.conditions, decided, facts.generation, now);
    status
}

/// Tells about registries that do not answer; the condition appears with the first trouble.
fn images_current(list: &mut Vec<Condition>, decided: &Decided, generation: i64, now: Timestamp) {
    let trouble = decided.stale.first();
    if trouble.is_none() && conditions::get(list, IMAGES_CURRENT).is_none() {
        return;
    }
    let message = match trouble {
        Some(_) => decided.stale.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; "),
        None => "every registry answers".to_owned(),
    };
    conditions::set(
        list,
        Condition {
            type_: IMAGES_CURRENT.into(),
            status: if trouble.is_some() { "False" } else { "True" }.into(),
            reason: trouble.map_or("Answered", |one| one.reason).into(),
            message,
            observed_generation: Some(generation),
            last_transition_time: Time(now),
        },
    );
}

#[cfg(test)]
mod tests;
