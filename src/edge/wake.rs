//! What the edge tells the rest: which environments somebody wants awake, and where somebody was.
//!
//! Both are written to Postgres, together and seldom. Postgres may be away: then it is told later.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::{sync::Semaphore, time::Instant};

use super::table::{Phase, Preview, Table};
use crate::{
    domain::clock::Clock,
    store::{Store, StoreError},
    telemetry::metrics::EdgeMetrics,
};

/// How often visits are looked at.
pub const PULSE: Duration = Duration::from_secs(5);
/// A visit is written down this long after the one before, in seconds.
const APART: i64 = 60;
/// An environment that still sleeps after this is asked for again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(15);
/// For how long an environment counts as being woken.
const WAKES: Duration = Duration::from_mins(5);
/// Pauses between tries to write down a wake.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
];
/// Wakes that are written at once.
const AT_ONCE: usize = 8;

/// Where visits and wakes are written down.
pub trait Records: Send + Sync + 'static {
    /// Somebody was at these subdomains, then.
    fn touch<'a>(&'a self, seen: &'a [(String, Timestamp)]) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Somebody wants this one awake.
    fn wake<'a>(&'a self, subdomain: &'a str, at: Timestamp) -> BoxFuture<'a, Result<(), StoreError>>;
}

impl Records for Store {
    fn touch<'a>(&'a self, seen: &'a [(String, Timestamp)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.environments_touch(seen))
    }

    fn wake<'a>(&'a self, subdomain: &'a str, at: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.environment_wake(subdomain, at))
    }
}

/// Wakes environments, each once however many ask.
pub(super) struct Waker {
    inner: Arc<Inner>,
}

struct Inner {
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    metrics: EdgeMetrics,
    asked: Mutex<HashMap<String, Asked>>,
    at_once: Semaphore,
}

/// When somebody asked for an environment.
#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    /// How often it had fallen asleep by then.
    naps: u64,
    /// Somebody is at it.
    telling: bool,
}

impl Inner {
    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a wake down, with some patience.
    async fn tell(&self, subdomain: &str) {
        let Ok(_turn) = self.at_once.acquire().await else { return };
        let mut pauses = PAUSES.iter();
        loop {
            let Err(error) = self.records.wake(subdomain, self.clock.now()).await else {
                return self.metrics.woke("asked");
            };
            let Some(pause) = pauses.next() else {
                tracing::warn!(subdomain, %error, "an environment is not woken: who asks next tries again");
                return self.metrics.woke("failed");
            };
            tracing::debug!(subdomain, %error, "a wake could not be written down yet");
            tokio::time::sleep(*pause).await;
        }
    }
}

impl Waker {
    pub(super) fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>, metrics: EdgeMetrics) -> Self {
        let inner = Inner { records, clock, metrics, asked: Mutex::default(), at_once: Semaphore::new(AT_ONCE) };
        Self { inner: Arc::new(inner) }
    }

    /// Somebody wants it awake. Does nothing while that is being told, or was a moment ago and it has not been awake since.
    pub(super) fn wake(&self, preview: &Preview) {
        let subdomain = preview.view.subdomain.as_str();
        let (now, naps) = (Instant::now(), preview.activity.naps.load(Ordering::Relaxed));
        let mut asked = self.inner.asked();
        let is_fresh = |known: &Asked| known.naps == naps && now.duration_since(known.at) < ASK_AGAIN;
        if asked.get(subdomain).is_some_and(|known| known.telling || is_fresh(known)) {
            return;
        }
        asked.insert(subdomain.to_owned(), Asked { at: now, naps, telling: true });
        drop(asked);
        let (inner, subdomain) = (self.inner.clone(), subdomain.to_owned());
        tokio::spawn(async move {
            inner.tell(&subdomain).await;
            if let Some(known) = inner.asked().get_mut(&subdomain) {
                known.telling = false;
            }
        });
    }

    /// Whether somebody asked not long ago.
    pub(super) fn has_asked(&self, subdomain: &str) -> bool {
        self.inner.asked().get(subdomain).is_some_and(|known| known.telling || known.at.elapsed() < WAKES)
    }

    /// Writes down who was here since, with one statement; each environment at most once a minute.
    pub(super) async fn write_visits(&self, table: &Table) {
        // What is awake needs no memory of being asked for, nor what is gone.
        let asleep: HashSet<&str> = table
            .previews()
            .filter(|preview| preview.view.phase != Phase::Ready)
            .map(|preview| preview.view.subdomain.as_str())
            .collect();
        self.inner.asked().retain(|subdomain, known| {
            known.telling || known.at.elapsed() < WAKES && asleep.contains(subdomain.as_str())
        });
        let now = self.inner.clock.now();
        let due = table.previews().filter(|preview| {
            let activity = &preview.activity;
            activity.seen.load(Ordering::Relaxed)
                && now.as_second().saturating_sub(activity.written.load(Ordering::Relaxed)) >= APART
        });
        // Whoever comes from now on is written down the next time.
        let due: Vec<_> = due.inspect(|preview| preview.activity.seen.store(false, Ordering::Relaxed)).collect();
        if due.is_empty() {
            return;
        }
        let seen: Vec<(String, Timestamp)> = due.iter().map(|preview| (preview.view.subdomain.clone(), now)).collect();
        match self.inner.records.touch(&seen).await {
            Ok(()) => {
                for preview in due {
                    preview.activity.written.store(now.as_second(), Ordering::Relaxed);
                }
            }
            Err(error) => {
                tracing::debug!(%error, environments = due.len(), "visits could not be written down yet");
                for preview in due {
                    preview.activity.seen.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
