//! A watch that lists anew now and then, and that comes back soon after an outage.
//!
//! An event that is lost on its way is lost for good: a watch goes on from the one after it,
//! and whoever listens stays behind without knowing.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api,
    runtime::{
        utils::Backoff,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

/// How often, where nobody says otherwise.
pub const RELIST: Duration = Duration::from_mins(5);

/// Longest pause before a watch that failed is tried again: so much later than the API server is back, at the most.
const LONGEST: Duration = Duration::from_secs(10);

/// The pauses of the Kubernetes client, but none longer than ten seconds: half a minute of not knowing is much when the
/// server has been back all the time.
#[derive(Default)]
pub struct Pauses(DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Watches, and lists everything anew after each `every`. For what is small and few: a list is in memory twice until its end.
pub fn relisting<K>(
    api: Api<K>,
    config: watcher::Config,
    every: Duration,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    stream::repeat_with(move || watcher(api.clone(), config.clone()).take_until(tokio::time::sleep(every))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_ten_seconds() {
        let mut pauses = Pauses::default();
        let first: Vec<Duration> = pauses.by_ref().take(30).collect();
        assert!(first.iter().all(|pause| *pause <= LONGEST), "{first:?}");
        assert_eq!(first[29], LONGEST, "it goes on, and no faster than that");
    }
}
