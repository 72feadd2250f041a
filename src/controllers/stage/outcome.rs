//! What a pass amounts to, in the words of conditions. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use reqwest::Url;

use super::{
    decide::Decided,
    status::{self, Facts},
    wanted::SHRANK,
};
use crate::{
    api::{
        RequestStatus, Route, RouteType, Stage, StageStatus,
        conditions::{self, Outcome},
    },
    cluster::index::StageChildren,
    controllers::{
        deploy::ledger::Ledger,
        error::{Class, Error},
    },
    domain::{
        deploy::{State, Waiting},
        promotion::Gate,
    },
    render,
    store::StoreError,
};

/// Type of the condition that says whether registries answered for every watched image.
pub const IMAGES_CURRENT: &str = "ImagesCurrent";

/// Type of the condition that says whether something else is declared than runs.
pub const DRIFTED: &str = "Drifted";

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
    /// What the gates said of it.
    pub gates: &'a [Gate],
    /// The request of an annotation.
    pub request: Option<&'a RequestStatus>,
    /// The serving instance is not ready.
    pub unready: bool,
    /// Why it sleeps, if it does.
    pub asleep: Option<String>,
    /// Where the built-in proxy is reached, but for the host.
    pub edge: Option<&'a Url>,
}

/// The outcome for the conditions. The first of these that applies: declarations that cannot be used, a deploy under
/// way, images that are not known, a failure that needs a person, a serving release.
pub fn outcome(situation: &Situation<'_>) -> Outcome {
    let Situation { ledger, decided, .. } = situation;
    if let Some(refused) = &decided.refused {
        return if refused.passing {
            Outcome::reconciling(refused.reason, &refused.message)
        } else {
            Outcome::stalled(refused.reason, &refused.message)
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
        return if missing.transient {
            Outcome::reconciling(missing.reason, message)
        } else {
            Outcome::stalled(missing.reason, message)
        };
    }
    settled(situation)
}

/// Nothing is under way: what runs, and whether that is what is wanted.
fn settled(situation: &Situation<'_>) -> Outcome {
    const AGAIN: &str = "ask again with the annotation stagekeeper.dev/retry=<any new value>";
    let Situation { ledger, decided, .. } = situation;
    let latest = ledger.history.front();
    let failed = latest.filter(|latest| matches!(latest.deploy.state, State::Failed | State::RolledBack));
    let Some(serves) = ledger.good.as_ref().map(|good| good.release().summary()) else {
        let Some(latest) = latest else {
            return Outcome::reconciling("Starting", "no deploy has been made yet");
        };
        let why = latest.deploy.message.as_deref().unwrap_or("the first deploy did not succeed");
        return Outcome::stalled("DeployFailed", format!("{why}; change the spec, push a newer image, or {AGAIN}"));
    };
    let stays = |word, images: &str, why: &str| {
        let ways = format!("push a newer image, change the spec, or {AGAIN}");
        Outcome::stalled(word, format!("{images} failed: {why}; {serves} serves; {ways}"))
    };
    match (&decided.held_back, failed) {
        (Some(held), _) => stays("RolledBack", &held.images, &held.why),
        (None, Some(failed)) if !decided.serves => {
            let word = if failed.deploy.state == State::RolledBack { "RolledBack" } else { "DeployFailed" };
            stays(word, &failed.images, failed.deploy.message.as_deref().unwrap_or("it did not succeed"))
        }
        (None, None) if !decided.serves && latest.is_some_and(|latest| latest.deploy.state == State::Aborted) => {
            let why =
                latest.and_then(|latest| latest.deploy.message.as_deref()).unwrap_or("the last deploy was stopped");
            let ways = format!("push a newer image, change the spec, or {AGAIN}");
            Outcome::stalled("Aborted", format!("{why}; {serves} serves; {ways}"))
        }
        _ if situation.asleep.is_some() => {
            let why = situation.asleep.as_deref().unwrap_or_default();
            Outcome::ready("Asleep", format!("{serves} sleeps: {why}; a request wakes it, or `stagekeeper env wake`"))
        }
        _ if decided.held.is_some() && !situation.unready => {
            let held = decided.held.as_ref().map(|hold| (hold.owner.clone(), hold.reason.clone())).unwrap_or_default();
            Outcome::ready("Held", format!("{serves} serves; held by {}: {}", held.0, held.1))
        }
        _ if situation.unready => Outcome::reconciling("Unready", format!("{serves}: not all pods are ready")),
        _ => Outcome::ready("Serving", format!("{serves} serves")),
    }
}

/// The outcome of a pass that failed; `None` for errors that the next pass forgets.
pub fn of_error(error: &Error) -> Option<Outcome> {
    match error.class() {
        Class::Stalled => Some(Outcome::stalled(error.reason(), error.to_string())),
        Class::StoreAway => {
            let why = match error {
                Error::Store(StoreError::Unwritable(_)) => {
                    "the database takes no writes: it is read-only, or its disk is full"
                }
                _ => "the database does not answer",
            };
            let text = format!("{why}; what runs keeps running, and deploys go on when it is back");
            Some(Outcome::reconciling(error.reason(), text))
        }
        Class::Conflict | Class::Transient => None,
    }
}

/// Where people reach a stage through the built-in proxy: its host, at the scheme and port that are the proxy's for previews.
fn at_edge(edge: &Url, route: Option<&Route>) -> Option<String> {
    let host = route.filter(|route| route.type_ == RouteType::Edge)?.host.as_ref()?;
    let port = edge.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", edge.scheme()))
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
        url: ledger.good.as_ref().and_then(|good| {
            let at = |edge| at_edge(edge, route);
            situation.edge.and_then(at).or_else(|| render::stage_url(&good.snapshot, route))
        }),
        handled_retry: decided.handled_retry.clone(),
        held: decided.held.as_ref(),
        gates: situation.gates,
        request: situation.request,
    };
    let mut status = status::status(before, &facts, now);
    images_current(&mut status.conditions, decided, facts.generation, now);
    drifted(&mut status.conditions, decided, facts.generation, now);
    status
}

/// Tells about registries that do not answer and about listings that are not believed; the condition appears with the
/// first trouble.
fn images_current(list: &mut Vec<Condition>, decided: &Decided, generation: i64, now: Timestamp) {
    let shrank = || decided.missing.iter().filter(|one| one.reason == SHRANK);
    let all: Vec<_> = shrank().chain(&decided.stale).collect();
    let trouble = all.iter().find(|one| one.reason == SHRANK).or(all.first());
    if trouble.is_none() && conditions::get(list, IMAGES_CURRENT).is_none() {
        return;
    }
    let message = match trouble {
        Some(_) => all.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; "),
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

/// Tells what is declared and does not run, because a rollback went over it; the condition appears with the first drift.
fn drifted(list: &mut Vec<Condition>, decided: &Decided, generation: i64, now: Timestamp) {
    if decided.drift.is_none() && conditions::get(list, DRIFTED).is_none() {
        return;
    }
    let (status, reason, message) = match &decided.drift {
        Some(drift) => ("True", "RolledBack", drift.clone()),
        None => ("False", "AsDeclared", "what is declared runs".to_owned()),
    };
    conditions::set(
        list,
        Condition {
            type_: DRIFTED.into(),
            status: status.into(),
            reason: reason.into(),
            message,
            observed_generation: Some(generation),
            last_transition_time: Time(now),
        },
    );
}

/// What is to be said once: a listing has lost too many tags, and the status before did not say so.
pub fn newly_shrank<'a>(before: &StageStatus, after: &'a StageStatus) -> Option<&'a str> {
    let told = |status: &'_ StageStatus| {
        conditions::get(&status.conditions, IMAGES_CURRENT).is_some_and(|one| one.reason == SHRANK)
    };
    if told(before) || !told(after) {
        return None;
    }
    conditions::get(&after.conditions, IMAGES_CURRENT).map(|one| one.message.as_str())
}

#[cfg(test)]
mod tests;
