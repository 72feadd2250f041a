//! How busy the operator is while nothing changes, measured by its own clockwork instead of by time: the watched images
//! are looked up again and again, and nothing may come of it.

use std::time::{Duration, Instant};

use crate::{cluster::DEADLINE, operator::Operator};

/// Waits until the operator has asked registries so many times more.
pub async fn through_scans(operator: &Operator, more: u64) {
    let goal = scans(operator).await + more;
    let started = Instant::now();
    while scans(operator).await < goal {
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {more} scans");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asserts that nothing is written and no object looked at while registries are asked so many times more.
pub async fn is_kept(operator: &Operator, scans: u64) {
    let before = busy(operator).await;
    through_scans(operator, scans).await;
    assert_eq!(busy(operator).await, before, "writes to the API server and passes, while nothing changed");
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
