//! The step function: what is known and what was decided go in; a transition, effects and a wake-up come out.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Deploy, Hooks, Observation, Phase, Policy, Queue, Route, Shared, State, Waiting,
    table::{self, Edge},
};

/// What the machine decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The write to the deploy's row, if any.
    pub step: Step,
    /// What must hold now. Each is idempotent: an effect that already holds costs nothing.
    pub effects: Vec<Effect>,
    /// When to look again even if nothing is seen to change.
    pub wake: Option<Timestamp>,
    /// What an open deploy that stays waits for; `None` only with a step or when the deploy is closed.
    pub waiting: Option<Waiting>,
}

/// The write to the deploy's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// None.
    Stay,
    /// Another state.
    Advance(Transition),
    /// The same state, but nothing more will happen: a failure that is not rolled back.
    Close {
        /// Why it ends here.
        message: String,
    },
}

/// One step of the machine, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state it leaves.
    pub from: State,
    /// The state it enters.
    pub to: State,
    /// One word from the transition table.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// What must hold while a deploy is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The jobs of this phase run, each once.
    RunHooks(Phase),
    /// The services that instances share exist as rendered, as far as their dependencies are ready.
    ApplyShared,
    /// The instance's services and workloads exist as rendered, as far as their dependencies are ready.
    ApplyInstance,
    /// The instance's and the target's routes exist.
    ApplyRoute,
    /// The instance is probed.
    Probe,
    /// The target's traffic points at the instance.
    SwitchTraffic,
    /// The evidence of the failure is written to the log.
    CollectEvidence,
    /// The last good deploy's snapshot runs and has the traffic.
    Restore(Uuid),
}

/// The next step of `deploy`, given what is known at `now`. Deterministic and without side effects.
pub fn next(deploy: &Deploy, seen: &Observation, policy: &Policy, now: Timestamp) -> Decision {
    if deploy.is_closed() || deploy.state.is_terminal() {
        return Decision { step: Step::Stay, effects: Vec::new(), wake: None, waiting: None };
    }
    match deploy.state {
        State::Pending => pending(deploy, seen, policy, now),
        State::Failed => failed(deploy, seen, policy, now),
        _ => active(deploy, seen, policy, now),
    }
}

fn pending(deploy: &Deploy, seen: &Observation, policy: &Policy, now: Timestamp) -> Decision {
    let waiting = match &seen.queue {
        Queue::Clear => return advance(deploy, &table::STARTED, deploy.cause.clone()),
        Queue::SupersededBy(id) => {
            return advance(deploy, &table::SUPERSEDED, format!("deploy {id} is newer and takes its place"));
        }
        Queue::Wait(waiting) => waiting,
    };
    let deadline = after(deploy.since, policy.pending);
    if now >= deadline {
        let message = format!("it could not begin within {}: {}", human(policy.pending), waiting.message);
        return advance(deploy, &table::PENDING_TOO_LONG, message);
    }
    let wake = waiting.until.map_or(deadline, |until| until.min(deadline));
    stay(Vec::new(), wake, waiting.clone())
}

/// The four states that hold the target's one place. Progress is looked for before failure, and failure before the
/// deadline, so that work that was done in time is never thrown away by a late look.
fn active(deploy: &Deploy, seen: &Observation, policy: &Policy, now: Timestamp) -> Decision {
    let look = match deploy.state {
        State::Pulling => pulling(deploy, seen),
        State::Starting => starting(deploy, seen),
        State::ConfiguringProxy => configuring_proxy(seen),
        _ => health_checking(deploy, seen, policy),
    };
    let (effects, waiting) = match look {
        Look::Done(edge, message) | Look::Broken(edge, message) => {
            return advance(deploy, edge, message);
        }
        Look::Outstanding(effects, outstanding) => match &seen.refused {
            Some(refused) => (effects, waiting(&refused.reason, refused.message.clone())),
            None => (effects, outstanding),
        },
    };
    let fatal = seen.workloads.problem.as_ref().filter(|problem| problem.fatal && runs_this(deploy, seen));
    if let Some(problem) = fatal {
        return advance(deploy, &table::WORKLOAD_FAILED, format!("{}: {}", problem.reason, problem.message));
    }
    let (limit, edge) = deadline(deploy.state, seen, policy);
    let deadline = after(deploy.since, limit);
    if now >= deadline {
        let named = seen.workloads.problem.as_ref().filter(|problem| problem.reason == waiting.reason);
        let word = named.map_or_else(String::new, |problem| format!("{}: ", problem.reason));
        return advance(deploy, edge, format!("not done within {}: {word}{}", human(limit), waiting.message));
    }
    stay(effects, deadline, waiting)
}

enum Look {
    Done(&'static Edge, String),
    Broken(&'static Edge, String),
    Outstanding(Vec<Effect>, Waiting),
}

fn pulling(deploy: &Deploy, seen: &Observation) -> Look {
    match &seen.before_start {
        Hooks::Failed(message) => return Look::Broken(&table::HOOK_FAILED, message.clone()),
        Hooks::Outstanding(which) => return before_start(seen, which),
        Hooks::Done => {}
    }
    if runs_this(deploy, seen) && seen.workloads.pulled {
        return Look::Done(&table::PULLED, "every pod has its images".into());
    }
    Look::Outstanding(vec![Effect::ApplyInstance], workloads_waiting(seen, "PullingImages"))
}

/// Migrations talk to what all instances share, such as the database, so that is there first.
fn before_start(seen: &Observation, which: &str) -> Look {
    let held = vec![Effect::ApplyShared];
    match &seen.shared {
        Shared::Ready => hooks_outstanding(held, Phase::BeforeStart, which),
        Shared::Starting { problem: Some(problem), .. } if problem.fatal => {
            Look::Broken(&table::WORKLOAD_FAILED, format!("{}: {}", problem.reason, problem.message))
        }
        Shared::Starting { problem: Some(problem), .. } => {
            Look::Outstanding(held, waiting(&problem.reason, problem.message.clone()))
        }
        Shared::Starting { progress, .. } => {
            let message = format!("beforeStart hooks wait for shared services: {progress}");
            Look::Outstanding(held, waiting("StartingShared", message))
        }
    }
}

fn starting(deploy: &Deploy, seen: &Observation) -> Look {
    if !runs_this(deploy, seen) || !seen.workloads.ready {
        // Probed for the sake of the message only: what is not ready yet may answer badly for good reasons.
        let mut waiting = workloads_waiting(seen, "StartingContainers");
        if let (None, Some(last)) = (&seen.workloads.problem, &seen.health.last_failure) {
            waiting.message.push_str("; ");
            waiting.message.push_str(last);
        }
        return Look::Outstanding(vec![Effect::ApplyInstance, Effect::Probe], waiting);
    }
    match &seen.before_traffic {
        Hooks::Failed(message) => Look::Broken(&table::HOOK_FAILED, message.clone()),
        Hooks::Outstanding(which) => hooks_outstanding(vec![Effect::ApplyInstance], Phase::BeforeTraffic, which),
        Hooks::Done => Look::Done(&table::READY, "every replica is ready".into()),
    }
}

fn configuring_proxy(seen: &Observation) -> Look {
    match &seen.route {
        Route::Ready => Look::Done(&table::ROUTED, "services and route are accepted".into()),
        Route::Waiting(message) => Look::Outstanding(
            vec![Effect::ApplyInstance, Effect::ApplyRoute],
            waiting("ConfiguringRoute", message.clone()),
        ),
    }
}

fn health_checking(deploy: &Deploy, seen: &Observation, policy: &Policy) -> Look {
    let held = vec![Effect::ApplyInstance, Effect::ApplyRoute];
    let with = |effect: Effect| held.iter().copied().chain([effect]).collect::<Vec<_>>();
    if !runs_this(deploy, seen) || !seen.workloads.ready {
        return Look::Outstanding(held, workloads_waiting(seen, "ReadinessLost"));
    }
    if policy.success_threshold > 0 {
        let health = &seen.health;
        if health.failures >= policy.failure_threshold.max(1) {
            let last = health.last_failure.as_deref().unwrap_or("no answer was good");
            return Look::Broken(&table::UNHEALTHY, format!("{} bad probes in a row: {last}", health.failures));
        }
        if health.successes < policy.success_threshold {
            let mut message = format!("{} of {} good probes", health.successes, policy.success_threshold);
            if let Some(last) = &health.last_failure {
                message.push_str("; last bad one: ");
                message.push_str(last);
            }
            return Look::Outstanding(with(Effect::Probe), waiting("ProbingHealth", message));
        }
    }
    match &seen.verify {
        Hooks::Failed(message) => return Look::Broken(&table::HOOK_FAILED, message.clone()),
        Hooks::Outstanding(which) => return hooks_outstanding(held, Phase::Verify, which),
        Hooks::Done => {}
    }
    if seen.traffic_here {
        return Look::Done(&table::HEALTHY, "traffic points at the new instance".into());
    }
    Look::Outstanding(with(Effect::SwitchTraffic), waiting("SwitchingTraffic", "traffic is being switched".into()))
}

fn failed(deploy: &Deploy, seen: &Observation, policy: &Policy, now: Timestamp) -> Decision {
    let limit = policy.start.saturating_mul(policy.waves.max(1)).saturating_add(policy.proxy);
    let deadline = after(deploy.since, limit);
    let mut effects = Vec::new();
    if !seen.evidence_collected {
        effects.push(Effect::CollectEvidence);
    }
    let Some(good) = seen.last_good.as_ref().filter(|_| policy.rollback_on_failure) else {
        if seen.evidence_collected || now >= deadline {
            let why = if policy.rollback_on_failure {
                "no earlier release to go back to"
            } else {
                "rollback.onFailure is off"
            };
            return close(why.into());
        }
        return stay(effects, deadline, waiting("CollectingEvidence", "pod events and logs are being stored".into()));
    };
    if good.serving && (seen.evidence_collected || now >= deadline) {
        return advance(deploy, &table::ROLLED_BACK, format!("{} serves again", good.summary));
    }
    if now >= deadline {
        return close(format!("rollback to {} did not serve within {}", good.summary, human(limit)));
    }
    effects.push(Effect::Restore(good.deploy));
    stay(effects, deadline, waiting("RollingBack", format!("going back to {}", good.summary)))
}

/// How an open deploy ends when a later one, `by`, is found to serve: with a step, or, if it had failed, without one.
pub fn overtaken(deploy: &Deploy, by: Uuid) -> (Vec<Transition>, Option<String>) {
    let message = format!("deploy {by} is later and serves already");
    if deploy.state == State::Failed {
        return (Vec::new(), Some(message));
    }
    let Edge { to, reason, .. } = table::OVERTAKEN;
    (vec![Transition { from: deploy.state, to, reason, message }], None)
}

/// The step of a deploy whose gates are open.
pub fn started(deploy: &Deploy) -> Transition {
    let Edge { to, reason, .. } = table::STARTED;
    Transition { from: deploy.state, to, reason, message: deploy.cause.clone() }
}

/// The step of a deploy that somebody stops, and why.
pub fn stopped(deploy: &Deploy, why: String) -> Transition {
    let Edge { to, reason, .. } = table::ABORTED;
    Transition { from: deploy.state, to, reason, message: why }
}

/// How long a state may last and which edge ends it.
fn deadline(state: State, seen: &Observation, policy: &Policy) -> (Duration, &'static Edge) {
    match state {
        State::Pulling => {
            // Shared services pull and start within the same state, before its hooks.
            let shared = policy.pull.saturating_add(policy.start.saturating_mul(policy.shared_waves));
            match (&seen.before_start, &seen.shared) {
                (Hooks::Outstanding(_), Shared::Starting { .. }) => (shared, &table::START_TOO_LONG),
                _ => (shared.saturating_add(policy.hooks.before_start), &table::PULL_TOO_LONG),
            }
        }
        State::Starting => {
            let waves = policy.start.saturating_mul(policy.waves.max(1));
            (waves.saturating_add(policy.hooks.before_traffic), &table::START_TOO_LONG)
        }
        State::ConfiguringProxy => (policy.proxy, &table::PROXY_TOO_LONG),
        _ => (policy.health.saturating_add(policy.hooks.verify), &table::HEALTH_TOO_LONG),
    }
}

/// Readiness counts only for the snapshot it was observed on: the old pods' health must not promote the new image.
fn runs_this(deploy: &Deploy, seen: &Observation) -> bool {
    seen.workloads.snapshot.as_deref() == Some(&deploy.snapshot)
}

fn workloads_waiting(seen: &Observation, reason: &str) -> Waiting {
    match &seen.workloads.problem {
        Some(problem) => waiting(&problem.reason, problem.message.clone()),
        None if seen.workloads.progress.is_empty() => waiting(reason, "workloads are being applied".into()),
        None => waiting(reason, seen.workloads.progress.clone()),
    }
}

fn hooks_outstanding(mut held: Vec<Effect>, phase: Phase, which: &str) -> Look {
    held.push(Effect::RunHooks(phase));
    Look::Outstanding(held, waiting("RunningHooks", format!("{} hooks: {which}", phase.word())))
}

fn waiting(reason: &str, message: String) -> Waiting {
    Waiting { reason: reason.into(), message, blocker: None, until: None }
}

fn advance(deploy: &Deploy, edge: &'static Edge, message: String) -> Decision {
    let transition = Transition { from: deploy.state, to: edge.to, reason: edge.reason, message };
    Decision { step: Step::Advance(transition), effects: Vec::new(), wake: None, waiting: None }
}

fn close(message: String) -> Decision {
    Decision { step: Step::Close { message }, effects: Vec::new(), wake: None, waiting: None }
}

fn stay(effects: Vec<Effect>, wake: Timestamp, waiting: Waiting) -> Decision {
    Decision { step: Step::Stay, effects, wake: Some(wake), waiting: Some(waiting) }
}

fn after(since: Timestamp, limit: Duration) -> Timestamp {
    since.saturating_add(limit).unwrap_or(Timestamp::MAX)
}

/// A duration as people write it: `5m`, `1h 30m`.
fn human(limit: Duration) -> String {
    jiff::SignedDuration::try_from(limit).map_or_else(|_| "a very long time".into(), |limit| format!("{limit:#}"))
}

/// Follows [`next`] as far as one observation carries: the transitions that come after each other without anything
/// to do between them, and the decision that stays. They are stored together, so that states passed through in a
/// moment cost one write.
pub fn follow(deploy: &Deploy, seen: &Observation, policy: &Policy, now: Timestamp) -> (Vec<Transition>, Decision) {
    let mut at = deploy.clone();
    let mut taken = Vec::new();
    loop {
        let decision = next(&at, seen, policy, now);
        match decision.step {
            Step::Advance(transition) => {
                at.state = transition.to;
                at.since = now;
                at.finished_at = transition.to.is_terminal().then_some(now);
                taken.push(transition);
            }
            Step::Stay | Step::Close { .. } => return (taken, decision),
        }
    }
}
