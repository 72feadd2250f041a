//! How busy the operator is while nothing changes, measured by its own clockwork instead of by time: the watched images
//! are looked up again and again, and nothing may come of it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use stagekeeper::api::Stage;

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
};

/// Waits until the operator has asked registries so many times more.
pub async fn through_scans(operator: &Operator, more: u64) {
    let goal = scans(operator).await + more;
    let started = Instant::now();
    while scans(operator).await < goal {
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {more} scans");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asserts that the operator comes to rest, and then writes nothing while registries are asked so many times more. It may
/// look at an object now and then, because a deadline has passed or a pod has ended, but not again and again.
pub async fn is_kept(env: &Env, operator: &Operator, scans: u64) {
    let started = Instant::now();
    let mut before = busy(operator).await;
    loop {
        // Longer than the look itself.
        through_scans(operator, 2 * (scans + 3)).await;
        let now = busy(operator).await;
        let at_rest = now.0 == before.0 && !something_goes(env).await;
        assert!(at_rest || started.elapsed() < DEADLINE, "it does not come to rest: {before:?}, then {now:?}");
        before = now;
        if at_rest {
            break;
        }
    }
    let told = operator.told_writes().len();
    through_scans(operator, scans).await;
    let after = busy(operator).await;
    let late = operator.told_writes().split_off(told).join("\n");
    assert_eq!(after.0, before.0, "writes to the API server, while nothing changed:\n{late}");
    assert!(after.1 <= before.1 + scans, "passes, while nothing changed: {before:?}, then {after:?}");
}

/// Whether an instance is being removed, or a pod ends: its end comes when the node has time for it, and the status tells of
/// it with one more write.
async fn something_goes(env: &Env) -> bool {
    let stages = env.list::<Stage>().await;
    let mut instances = stages.iter().filter_map(|stage| stage.status.as_ref()).flat_map(|status| &status.instances);
    instances.any(|instance| instance.status == "removing")
        || env.list::<Pod>().await.iter().any(|pod| pod.metadata.deletion_timestamp.is_some())
}

/// Writes to the API server, and passes over objects.
pub async fn busy(operator: &Operator) -> (u64, u64) {
    (operator.api_writes().await, sum(&operator.metrics().await, "controller_runtime_reconcile_total"))
}

async fn scans(operator: &Operator) -> u64 {
    sum(&operator.metrics().await, "stagekeeper_scan_total")
}

fn sum(metrics: &str, name: &str) -> u64 {
    let of_name = metrics.lines().filter(|line| line.starts_with(name));
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
