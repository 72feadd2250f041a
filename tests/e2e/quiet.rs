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

/// Asserts that the operator comes to rest: that it writes nothing while registries are asked so many times, and a few
/// more, one after the other. A node that has something else to say meanwhile begins the count anew; an operator that is
/// kept busy by what it does itself never gets there. It may look at an object now and then, because a deadline has passed
/// or a pod has ended, but not again and again.
pub async fn is_kept(operator: &Operator, scans: u64) {
    let started = Instant::now();
    loop {
        let before = busy(operator).await;
        let mut now = before;
        for _ in 0..scans + 3 {
            through_scans(operator, 1).await;
            now = busy(operator).await;
            if now.0 != before.0 {
                break;
            }
        }
        if now.0 == before.0 && now.1 <= before.1 + scans {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "writes and passes do not come to rest: {before:?}, then {now:?}");
    }
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
