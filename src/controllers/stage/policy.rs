//! From what a stage declares to the numbers the machine works with.

use std::time::Duration;

use crate::{
    api::{Queue, StageSpec},
    domain::deploy::{HookBudget, Phase, Policy, QueuePolicy},
    render::{self, Manifests, Scope, Snapshot},
};

/// The policy of one deploy: deadlines from the stage as it is now, thresholds and hooks from the deploy's snapshot,
/// waves from the order of its dependencies.
pub fn policy(spec: &StageSpec, snapshot: &Snapshot, manifests: &Manifests) -> Policy {
    let count = |waves: usize| u32::try_from(waves).unwrap_or(u32::MAX);
    let is_shared = |wave: &&render::Wave| wave.services.iter().any(|service| service.scope == Scope::Stage);
    let shared = match snapshot.hooks.of(Phase::BeforeStart) {
        [] => 0,
        _ => manifests.waves.iter().filter(is_shared).count(),
    };
    let health = || snapshot.services.iter().filter_map(|service| service.health.as_ref());
    let threshold = |value: i32| u32::try_from(value).unwrap_or_default().max(1);
    let budget = |phase: Phase| snapshot.hooks.of(phase).iter().map(|hook| hook.timeout.as_std()).sum::<Duration>();
    Policy {
        pull: spec.timeouts.pull.as_std(),
        start: spec.timeouts.start.as_std(),
        waves: count(manifests.waves.len()).max(1),
        shared_waves: count(shared),
        proxy: spec.timeouts.proxy.as_std(),
        health: spec.timeouts.health.as_std(),
        hooks: HookBudget {
            before_start: budget(Phase::BeforeStart),
            before_traffic: budget(Phase::BeforeTraffic),
            verify: budget(Phase::Verify),
        },
        success_threshold: health().map(|health| threshold(health.success_threshold)).max().unwrap_or_default(),
        failure_threshold: health().map(|health| threshold(health.failure_threshold)).max().unwrap_or(1),
        rollback_on_failure: spec.rollback.on_failure,
        watch: spec.rollback.watch.as_std(),
        ..Policy::default()
    }
}

/// What a newer deploy does to one that waits.
pub fn queue(spec: &StageSpec) -> QueuePolicy {
    match spec.queue {
        Queue::Latest => QueuePolicy::Latest,
        Queue::Fifo => QueuePolicy::Fifo,
    }
}
