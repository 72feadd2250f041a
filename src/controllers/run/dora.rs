//! DORA's four numbers as metrics: computed once an hour, for as many stages as a dashboard can bear.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::stop::until_stopped;
use crate::{
    domain::clock::Clock,
    store::{DoraFilter, DoraNumbers, Place, Store, StoreError},
    telemetry::{Telemetry, metrics::StageDora},
};

/// How often they are computed.
const INTERVAL: Duration = Duration::from_hours(1);

/// How far back they look.
const WINDOW: Duration = Duration::from_hours(30 * 24);

/// Stages that are told at most, those with the most changes: five series each.
const TOLD: usize = 500;

/// Computes and tells them until `stop`; then they are gone, so that nobody reads two leaders' numbers.
pub(super) async fn tell_dora(store: Store, clock: Arc<dyn Clock>, telemetry: Telemetry, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    while until_stopped(&stop, ticks.tick()).await.is_some() {
        match until_stopped(&stop, numbers(&store, clock.now())).await {
            Some(Ok(numbers)) => telemetry.metrics.set_dora(&numbers),
            Some(Err(error)) => tracing::warn!(%error, "the numbers about delivery could not be computed"),
            None => {}
        }
    }
    telemetry.metrics.set_dora(&[]);
}

async fn numbers(store: &Store, now: Timestamp) -> Result<Vec<StageDora>, StoreError> {
    let since = now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN);
    let filter = DoraFilter { namespace: None, project: None, stage: None, since, until: now };
    Ok(busiest(store.dora_stats(&filter).await?.stages))
}

/// Those with the most changes; among equals, the first by name.
fn busiest(mut stages: Vec<(Place, DoraNumbers)>) -> Vec<StageDora> {
    stages.sort_by_key(|(_, numbers)| Reverse(numbers.changes));
    stages.truncate(TOLD);
    let told = |(place, numbers): (Place, DoraNumbers)| StageDora {
        namespace: place.namespace,
        project: place.project,
        stage: place.stage,
        changes: numbers.changes,
        succeeded: numbers.succeeded,
        failed: numbers.failed,
        lead_seconds: numbers.lead.map(|spread| spread.median),
        restore_seconds: numbers.restore.map(|spread| spread.median),
    };
    stages.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_stages_are_told() {
        let stage = |number: i64| {
            let place = Place { namespace: "acme".into(), project: "shop".into(), stage: format!("s{number}") };
            (place, DoraNumbers { changes: number, ..DoraNumbers::default() })
        };
        let told = busiest((1..=600).map(stage).collect());
        assert_eq!(told.len(), TOLD);
        assert_eq!((told[0].changes, told[TOLD - 1].changes), (600, 101));
    }
}
