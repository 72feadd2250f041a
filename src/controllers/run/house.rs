//! Housekeeping: what the leader does for the database a few times a day.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::stop::until_stopped;
use crate::{
    domain::clock::Clock,
    store::{Store, StoreError},
};

/// Months for which log partitions are made ahead.
const MONTHS_AHEAD: i32 = 2;

/// How often log partitions are made and old ones dropped.
const HOUSEKEEPING: Duration = Duration::from_hours(6);

/// Finished deploys, or records of uses, that one transaction of housekeeping deletes at most.
const PRUNED_AT_ONCE: i64 = 1_000;

/// Days for which settled deliveries are known: one that is repeated within them is recognised.
const WEBHOOK_RETENTION_DAYS: i32 = 14;

/// Days for which closed pull requests are known, and what they were told: a word that comes later opens one again.
const PULLS_KEPT: i32 = 90;

/// Days for which the answer to a question is kept that nobody asks any more.
const SCANS_KEPT: i32 = 7;

/// Makes log partitions ahead of time, drops those that are too old, and deletes old deploys, old records of who opened
/// what, old deliveries of webhooks, closed pull requests, and answers of registries that nobody asks for any more.
pub(super) async fn keep_house(store: Store, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    while until_stopped(&stop, ticks.tick()).await.is_some() {
        if let Some(Err(error)) = until_stopped(&stop, house(&store, clock.now())).await {
            tracing::warn!(%error, "old logs and deploys could not be looked after");
        }
    }
}

async fn house(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    store.partitions_ensure(now, MONTHS_AHEAD).await?;
    let settings = store.settings_get().await?;
    store.logs_prune(days_before(now, settings.log_retention_days)).await?;
    let horizon = days_before(now, settings.deploy_retention_days);
    let mut pruned = store.deploys_prune(horizon, PRUNED_AT_ONCE).await?;
    let mut all = pruned;
    while i64::try_from(pruned).is_ok_and(|pruned| pruned == PRUNED_AT_ONCE) {
        pruned = store.deploys_prune(horizon, PRUNED_AT_ONCE).await?;
        all += pruned;
    }
    if all > 0 {
        tracing::info!(deploys = all, "deleted what is older than its retention");
    }
    let old = days_before(now, WEBHOOK_RETENTION_DAYS);
    let mut pruned = PRUNED_AT_ONCE.unsigned_abs();
    while pruned == PRUNED_AT_ONCE.unsigned_abs() {
        pruned = store.inbox_prune(old, PRUNED_AT_ONCE).await?;
    }
    let mut pruned = PRUNED_AT_ONCE.unsigned_abs();
    while pruned == PRUNED_AT_ONCE.unsigned_abs() {
        pruned = store.uses_prune(horizon, PRUNED_AT_ONCE).await?;
    }
    let old = days_before(now, PULLS_KEPT);
    let mut pruned = PRUNED_AT_ONCE.unsigned_abs();
    while pruned == PRUNED_AT_ONCE.unsigned_abs() {
        pruned = store.pull_requests_prune(old, PRUNED_AT_ONCE).await?;
    }
    let mut pruned = PRUNED_AT_ONCE.unsigned_abs();
    while pruned == PRUNED_AT_ONCE.unsigned_abs() {
        pruned = store.outbox_prune(old, PRUNED_AT_ONCE).await?;
    }
    let horizon = days_before(now, SCANS_KEPT);
    let mut pruned = PRUNED_AT_ONCE.unsigned_abs();
    while pruned == PRUNED_AT_ONCE.unsigned_abs() {
        pruned = store.image_scans_prune(horizon, PRUNED_AT_ONCE).await?;
    }
    Ok(())
}

/// So many days earlier; the beginning of time when there were not so many.
fn days_before(now: Timestamp, days: i32) -> Timestamp {
    let days = Duration::from_hours(24 * u64::try_from(days).unwrap_or_default());
    now.saturating_sub(days).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_counts_days_back() {
        let now: Timestamp = "2026-03-31T12:00:00Z".parse().expect("an instant");
        assert_eq!(days_before(now, 30).to_string(), "2026-03-01T12:00:00Z");
        assert!(days_before(now, i32::MAX) < "0001-01-01T00:00:00Z".parse().expect("an instant"));
    }
}
