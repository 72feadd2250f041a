//! The laws of the machine, each as a property over random deploys, observations, policies and instants.

use std::time::Duration;

use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::{
    Decision, Deploy, Effect, Health, Hooks, LastGood, Observation, Policy, Problem, Queue, Route, Shared, State, Step,
    Waiting, Workloads, follow, next, overtaken, stopped, table::EDGES,
};
use crate::domain::{actor::Actor, release::ReleaseId};

const SNAPSHOT: &str = "this-snapshot";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn deploy(state: State, since: i64) -> Deploy {
    Deploy {
        id: Uuid::from_u128(1),
        target: Uuid::from_u128(2),
        sequence: 3,
        release: ReleaseId("ab".repeat(32)),
        snapshot: SNAPSHOT.into(),
        instance: "i1".into(),
        state,
        since: at(since),
        version: 1,
        actor: Actor::Policy,
        cause: "web 1.1.0 is newer than 1.0.0".into(),
        reason: None,
        message: None,
        rollback_of: None,
        evidence_at: None,
        created_at: at(0),
        finished_at: state.is_terminal().then(|| at(since)),
    }
}

fn states() -> impl Strategy<Value = State> {
    prop::sample::select(State::ALL.to_vec())
}

fn hooks() -> impl Strategy<Value = Hooks> {
    prop_oneof![
        4 => Just(Hooks::Done),
        1 => Just(Hooks::Outstanding("migrate runs".into())),
        1 => Just(Hooks::Failed("migrate: exit code 1".into())),
    ]
}

fn queues() -> impl Strategy<Value = Queue> {
    prop_oneof![
        3 => Just(Queue::Clear),
        1 => (option::of(0i64..2_000)).prop_map(|until| Queue::Wait(Waiting {
            reason: "Suspended".into(),
            message: "the stage is suspended".into(),
            blocker: None,
            until: until.map(at),
        })),
        1 => Just(Queue::SupersededBy(Uuid::from_u128(9))),
    ]
}

prop_compose! {
    fn workloads()(
        snapshot in prop_oneof![4 => Just(Some(SNAPSHOT.to_owned())), 1 => Just(Some("another".to_owned())), 1 => Just(None)],
        pulled: bool,
        ready: bool,
        problem in option::weighted(0.2, any::<bool>().prop_map(|fatal| Problem {
            reason: "CrashLoopBackOff".into(),
            message: "pod p: container web exited with code 1".into(),
            fatal,
        })),
    ) -> Workloads {
        Workloads { snapshot, pulled, ready, progress: "web 1/2 ready".into(), problem }
    }
}

fn shared() -> impl Strategy<Value = Shared> {
    let starting = |fatal| Shared::Starting { progress: "db 0/1 ready".into(), problem: fatal };
    prop_oneof![
        3 => Just(Shared::Ready),
        1 => Just(starting(None)),
        1 => any::<bool>().prop_map(move |fatal| starting(Some(Problem {
            reason: "ImagePullBackOff".into(),
            message: "pod db-1: no such image".into(),
            fatal,
        }))),
    ]
}

prop_compose! {
    fn observations()(
        queue in queues(),
        before_start in hooks(), before_traffic in hooks(), verify in hooks(),
        workloads in workloads(), shared in shared(),
        routed: bool,
        successes in 0u32..4, failures in 0u32..6,
        traffic_here: bool,
        evidence_collected: bool,
        good in option::of(any::<bool>()),
    ) -> Observation {
        Observation {
            queue, before_start, before_traffic, verify, shared, workloads, refused: None,
            route: if routed { Route::Ready } else { Route::Waiting("ingress has no address".into()) },
            health: Health { successes, failures, last_failure: Some("GET /healthz: 503".into()) },
            traffic_here, evidence_collected,
            last_good: good.map(|serving| LastGood { deploy: Uuid::from_u128(7), summary: "web 1.0.0".into(), serving }),
        }
    }
}

prop_compose! {
    fn policies()(rollback: bool, successes in 0u32..4, failures in 0u32..6, waves in 0u32..4, shared_waves in 0u32..3, limit in 0u64..400) -> Policy {
        Policy {
            pending: Duration::from_secs(limit * 3),
            pull: Duration::from_secs(limit),
            start: Duration::from_secs(limit / 2),
            waves,
            shared_waves,
            success_threshold: successes,
            failure_threshold: failures,
            rollback_on_failure: rollback,
            ..Policy::default()
        }
    }
}

/// What the store does with a decision.
fn take(deploy: &mut Deploy, step: &Step, now: Timestamp) {
    match step {
        Step::Stay => {}
        Step::Advance(transition) => {
            assert_eq!(transition.from, deploy.state);
            deploy.state = transition.to;
            deploy.since = now;
            deploy.finished_at = transition.to.is_terminal().then_some(now);
        }
        Step::Close { .. } => deploy.finished_at = Some(now),
    }
}

proptest! {
    #[test]
    fn closed_deploys_are_quiet(state in states(), seen in observations(), policy in policies(), now in 0i64..100_000) {
        let mut deploy = deploy(state, 0);
        deploy.finished_at = Some(at(0));
        let quiet = Decision { step: Step::Stay, effects: vec![], wake: None, waiting: None };
        prop_assert_eq!(next(&deploy, &seen, &policy, at(now)), quiet);
    }

    #[test]
    fn every_transition_is_an_edge_of_the_table(state in states(), seen in observations(), policy in policies(), now in 0i64..10_000) {
        if let Step::Advance(taken) = next(&deploy(state, 0), &seen, &policy, at(now)).step {
            let edge = EDGES.iter().find(|edge| edge.reason == taken.reason && edge.to == taken.to);
            prop_assert!(edge.is_some_and(|edge| edge.from.contains(&taken.from)), "{taken:?}");
            prop_assert_eq!(taken.from, state);
            prop_assert!(!taken.message.is_empty());
        }
    }

    #[test]
    fn whatever_waits_says_for_what_and_until_when(state in states(), seen in observations(), policy in policies(), now in 0i64..10_000) {
        let deploy = deploy(state, 0);
        let decision = next(&deploy, &seen, &policy, at(now));
        if !deploy.is_closed() && decision.step == Step::Stay {
            let waiting = decision.waiting.expect("an open deploy that stays waits for something");
            prop_assert!(!waiting.reason.is_empty() && !waiting.message.is_empty());
            prop_assert!(decision.wake.is_some_and(|wake| wake > at(now) || waiting.until.is_some_and(|until| until <= at(now))));
        }
    }

    #[test]
    fn nothing_waits_for_ever(state in states(), seen in observations(), policy in policies()) {
        // The world never changes; only time passes, from deadline to deadline.
        let mut deploy = deploy(state, 0);
        let mut now = at(0);
        for _ in 0..12 {
            let decision = next(&deploy, &seen, &policy, now);
            take(&mut deploy, &decision.step, now);
            if deploy.is_closed() {
                return Ok(());
            }
            // An effect may never come true and a gate may say "until" an instant that has passed: only deadlines end those.
            now = decision.wake.map_or(now, |wake| if wake > now { wake } else { now + Duration::from_hours(1) });
        }
        prop_assert!(false, "still {} at {now}", deploy.state);
    }

    #[test]
    fn one_observation_settles_within_six_steps(state in states(), seen in observations(), policy in policies(), now in 0i64..10_000) {
        let mut deploy = deploy(state, 0);
        for _ in 0..6 {
            let decision = next(&deploy, &seen, &policy, at(now));
            take(&mut deploy, &decision.step, at(now));
        }
        let settled = next(&deploy, &seen, &policy, at(now));
        prop_assert_eq!(settled.step, Step::Stay);
    }

    #[test]
    fn following_is_taking_one_step_after_the_other(state in states(), seen in observations(), policy in policies(), now in 0i64..10_000) {
        let mut stepped = deploy(state, 0);
        let (taken, last) = follow(&stepped, &seen, &policy, at(now));
        for transition in taken {
            let decision = next(&stepped, &seen, &policy, at(now));
            prop_assert_eq!(&decision.step, &Step::Advance(transition));
            take(&mut stepped, &decision.step, at(now));
        }
        prop_assert_eq!(next(&stepped, &seen, &policy, at(now)), last);
    }

    #[test]
    fn success_needs_its_own_snapshot_ready_probed_and_serving(seen in observations(), policy in policies(), now in 0i64..10_000) {
        let decision = next(&deploy(State::HealthChecking, 0), &seen, &policy, at(now));
        if matches!(&decision.step, Step::Advance(taken) if taken.to == State::Success) {
            prop_assert_eq!(seen.workloads.snapshot.as_deref(), Some(SNAPSHOT));
            prop_assert!(seen.workloads.ready && seen.traffic_here && seen.verify == Hooks::Done);
            prop_assert!(seen.health.successes >= policy.success_threshold);
        }
    }

    #[test]
    fn the_health_of_another_snapshot_moves_nothing_forward(state in states(), mut seen in observations(), policy in policies(), now in 0i64..10_000) {
        seen.workloads.snapshot = Some("another".into());
        seen.shared = Shared::Ready;
        if let Step::Advance(taken) = next(&deploy(state, 0), &seen, &policy, at(now)).step {
            prop_assert!(!matches!(taken.to, State::Starting | State::Success), "{taken:?}");
            prop_assert!(taken.from != State::Starting || taken.to != State::ConfiguringProxy, "{taken:?}");
            prop_assert!(taken.reason != "WorkloadFailed", "{taken:?}");
        }
    }

    #[test]
    fn traffic_moves_only_to_a_healthy_instance(state in states(), seen in observations(), policy in policies(), now in 0i64..10_000) {
        let decision = next(&deploy(state, 0), &seen, &policy, at(now));
        if decision.effects.contains(&Effect::SwitchTraffic) {
            prop_assert_eq!(state, State::HealthChecking);
            prop_assert!(seen.workloads.ready && seen.verify == Hooks::Done);
            prop_assert!(seen.health.successes >= policy.success_threshold);
        }
    }

    #[test]
    fn no_pod_starts_before_its_migrations_succeeded(mut seen in observations(), policy in policies(), now in 0i64..10_000) {
        seen.before_start = Hooks::Outstanding("migrate runs".into());
        let decision = next(&deploy(State::Pulling, 0), &seen, &policy, at(now));
        prop_assert!(!decision.effects.contains(&Effect::ApplyInstance));
    }

    #[test]
    fn no_migration_runs_before_what_it_talks_to_is_ready(mut seen in observations(), policy in policies(), now in 0i64..10_000) {
        let starting = Shared::Starting { progress: "db 0/1 ready".into(), problem: None };
        seen.before_start = Hooks::Outstanding("migrate is to run".into());
        seen.shared = starting;
        seen.workloads = Workloads::default();
        let decision = next(&deploy(State::Pulling, 0), &seen, &policy, at(now));
        prop_assert!(!decision.effects.iter().any(|effect| matches!(effect, Effect::RunHooks(_))));
        let limit = policy.pull + policy.start * policy.shared_waves;
        if now < i64::try_from(limit.as_secs()).unwrap() {
            prop_assert_eq!(decision.effects, vec![Effect::ApplyShared]);
        } else {
            let Step::Advance(taken) = decision.step else { panic!("it waits for ever") };
            prop_assert_eq!((taken.to, taken.reason), (State::Failed, "StartDeadlineExceeded"));
            prop_assert!(taken.message.contains("db 0/1 ready"), "{}", taken.message);
        }
    }

    #[test]
    fn what_the_cluster_refuses_is_what_a_deploy_waits_for_and_why_it_fails(
        state in prop::sample::select(vec![State::Pulling, State::Starting, State::ConfiguringProxy, State::HealthChecking]),
        mut seen in observations(), policy in policies(), now in 0i64..10_000,
    ) {
        let message = "services dev-web exists and is not ours";
        seen.refused = Some(Problem { reason: "NameTaken".into(), message: message.into(), fatal: false });
        let decision = next(&deploy(state, 0), &seen, &policy, at(now));
        if let Some(waiting) = decision.waiting {
            prop_assert_eq!((waiting.reason.as_str(), waiting.message.as_str()), ("NameTaken", message));
        }
        if let Step::Advance(taken) = decision.step
            && taken.reason.ends_with("DeadlineExceeded")
        {
            prop_assert!(taken.message.contains(message), "{}", taken.message);
        }
    }

    #[test]
    fn rolled_back_means_the_last_good_release_serves(seen in observations(), policy in policies(), now in 0i64..10_000) {
        let decision = next(&deploy(State::Failed, 0), &seen, &policy, at(now));
        if matches!(&decision.step, Step::Advance(taken) if taken.to == State::RolledBack) {
            prop_assert!(policy.rollback_on_failure);
            prop_assert!(seen.last_good.is_some_and(|good| good.serving));
        }
    }

    #[test]
    fn a_deploy_that_began_is_never_superseded(state in states(), mut seen in observations(), policy in policies(), now in 0i64..10_000) {
        seen.queue = Queue::SupersededBy(Uuid::from_u128(9));
        if let Step::Advance(taken) = next(&deploy(state, 0), &seen, &policy, at(now)).step {
            prop_assert!(taken.to != State::Superseded || state == State::Pending);
        }
    }

    #[test]
    fn what_is_overtaken_ends(state in states()) {
        let mut deploy = deploy(state, 0);
        prop_assume!(!deploy.is_closed());
        let (steps, close) = overtaken(&deploy, Uuid::from_u128(9));
        prop_assert!(steps.iter().all(|step| step.from.may_become(step.to) && step.to.is_terminal()));
        for step in steps {
            take(&mut deploy, &Step::Advance(step), at(1));
        }
        if let Some(message) = close {
            take(&mut deploy, &Step::Close { message }, at(1));
        }
        prop_assert!(deploy.is_closed());
    }

    #[test]
    fn whoever_stops_a_deploy_ends_it_from_every_state_that_is_not_terminal(state in states()) {
        prop_assume!(!state.is_terminal() && state != State::Failed);
        let mut deploy = deploy(state, 0);
        let step = stopped(&deploy, "jane stopped it".into());
        prop_assert!(step.from.may_become(step.to), "{state} → {}", step.to);
        take(&mut deploy, &Step::Advance(step), at(1));
        prop_assert!(deploy.is_closed());
    }

    #[test]
    fn random_histories_end_and_never_leave_an_end(
        history in vec((0i64..600, observations()), 1..60), policy in policies(),
    ) {
        let mut deploy = deploy(State::Pending, 0);
        let mut now = at(0);
        for (passed, seen) in history {
            now += Duration::from_secs(passed.unsigned_abs());
            let before = deploy.clone();
            let decision = next(&deploy, &seen, &policy, now);
            take(&mut deploy, &decision.step, now);
            prop_assert!(!before.is_closed() || deploy == before);
        }
    }
}
