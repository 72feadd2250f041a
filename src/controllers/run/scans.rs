//! Storing what registries answered, beside the passes and never in their way.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::stop::until_stopped;
use crate::{
    cluster::lease::Mandate,
    controllers::{backoff, images::ImageBook},
    store::{ImageScan, Store, StoreError},
    telemetry::metrics::Metrics,
};

/// How long answers are gathered before they are stored together.
const GATHER: Duration = Duration::from_secs(1);

/// Answers that one statement stores at most.
const BATCH: usize = 200;

/// How often the times of scans that told nothing new are looked at.
const TOUCH: Duration = Duration::from_mins(1);

/// Longest pause before another try.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a process that stops may take to store what it has heard.
const LAST: Duration = Duration::from_secs(1);

/// Stores what changes, and brings the times of what does not up to date. What cannot be stored now is stored later: it
/// is known all the same.
pub(super) async fn keep_scans(
    book: Arc<ImageBook>,
    store: Store,
    leader: Mandate,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(TOUCH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => until_stopped(&stop, touch(&book, &store, &leader)).await,
            () = book.unstored() => {
                until_stopped(&stop, tokio::time::sleep(GATHER)).await;
                until_stopped(&stop, put(&book, &store, &leader)).await
            }
        };
        metrics.images_frozen(book.frozen());
        match done {
            None => break,
            Some(Ok(())) => failures = 0,
            Some(Err(error)) => {
                failures += 1;
                tracing::warn!(%error, "answers of registries could not be stored; trying again");
                until_stopped(&stop, tokio::time::sleep(backoff::delay("scans", failures).min(PATIENCE))).await;
                book.store_again();
            }
        }
    }
    // Whoever comes next need not ask again.
    if !matches!(tokio::time::timeout(LAST, put(&book, &store, &leader)).await, Ok(Ok(()))) {
        tracing::debug!("the last answers of registries were not stored");
    }
}

/// Whoever leads no more, because it was frozen for a while, does not even try: the database would refuse it.
async fn put(book: &ImageBook, store: &Store, leader: &Mandate) -> Result<(), StoreError> {
    while leader.is_leader() {
        let rows = Taken { rows: book.take_unstored(BATCH), book };
        if rows.rows.is_empty() {
            return Ok(());
        }
        store.image_scans_put(&rows.rows).await?;
        rows.stored();
    }
    Ok(())
}

async fn touch(book: &ImageBook, store: &Store, leader: &Mandate) -> Result<(), StoreError> {
    if !leader.is_leader() {
        return Ok(());
    }
    for part in book.take_stale().chunks(10 * BATCH) {
        store.image_scans_touch(part).await?;
    }
    Ok(())
}

/// Rows on their way. Given up halfway, or refused, they are to be stored again.
struct Taken<'a> {
    rows: Vec<ImageScan>,
    book: &'a ImageBook,
}

impl Taken<'_> {
    fn stored(mut self) {
        self.rows.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            self.book.not_stored(&self.rows);
        }
    }
}
