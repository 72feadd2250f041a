//! How much is taken: from each receiver, from all together, and of paths that are none.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::http::rate::{Bucket, Rate};

/// Deliveries of one receiver: at once, and a second after that.
const EACH: Rate = Rate { burst: 200.0, per_second: 10.0 };

/// Deliveries of all receivers.
const ALL: Rate = Rate { burst: 1_000.0, per_second: 100.0 };

/// Paths that are looked up without having been right before.
const STRANGERS: Rate = Rate { burst: 100.0, per_second: 20.0 };

/// A path that was right is looked up without a limit for so long.
const ACQUAINTANCE: Duration = Duration::from_hours(1);

/// Receivers and paths that are remembered.
const REMEMBERED: usize = 10_000;

struct Inner {
    all: Bucket,
    strangers: Bucket,
    each: HashMap<Uuid, (Bucket, u32)>,
    known: HashMap<[u8; 32], Instant>,
}

/// What is left of every rate.
pub(super) struct Floods(Mutex<Option<Inner>>);

impl Default for Floods {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl Floods {
    /// Whether a path with this hash may be looked up; or after how many seconds.
    pub(super) fn look_up(&self, hash: &[u8; 32]) -> Result<(), u64> {
        let now = Instant::now();
        self.with(now, |inner| {
            let is_known = inner.known.get(hash).is_some_and(|at| now.saturating_duration_since(*at) < ACQUAINTANCE);
            if is_known { Ok(()) } else { inner.strangers.take(STRANGERS, now) }
        })
    }

    /// A path was right.
    pub(super) fn known(&self, hash: [u8; 32]) {
        let now = Instant::now();
        self.with(now, |inner| {
            if inner.known.len() >= REMEMBERED {
                inner.known.clear();
            }
            inner.known.insert(hash, now);
        });
    }

    /// Whether a receiver may have another delivery; or after how many seconds.
    pub(super) fn admit(&self, receiver: Uuid) -> Result<(), u64> {
        let now = Instant::now();
        self.with(now, |inner| {
            if inner.each.len() >= REMEMBERED {
                inner.each.clear();
            }
            inner.each.entry(receiver).or_insert_with(|| (Bucket::full(EACH, now), 0)).0.take(EACH, now)?;
            inner.all.take(ALL, now)
        })
    }

    /// A delivery of a receiver was stored: how many that are in all.
    pub(super) fn stored(&self, receiver: Uuid) -> u32 {
        let now = Instant::now();
        self.with(now, |inner| {
            let (_, stored) = inner.each.entry(receiver).or_insert_with(|| (Bucket::full(EACH, now), 0));
            *stored = stored.wrapping_add(1);
            *stored
        })
    }

    fn with<T>(&self, now: Instant, work: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner: MutexGuard<'_, Option<Inner>> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(inner.get_or_insert_with(|| Inner {
            all: Bucket::full(ALL, now),
            strangers: Bucket::full(STRANGERS, now),
            each: HashMap::new(),
            known: HashMap::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_receiver_may_have_two_hundred_at_once_and_ten_a_second() {
        let floods = Floods::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for number in 0..200 {
            assert_eq!(floods.admit(one), Ok(()), "{number}");
        }
        assert_eq!(floods.admit(one), Err(1));
        assert_eq!(floods.admit(other), Ok(()), "another one is not to blame");
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            assert_eq!(floods.admit(one), Ok(()));
        }
        assert_eq!(floods.admit(one), Err(1));
    }

    #[tokio::test(start_paused = true)]
    async fn all_receivers_together_have_an_end_too() {
        let floods = Floods::default();
        let admitted = (0..20).flat_map(|receiver| std::iter::repeat_n(Uuid::from_u128(receiver), 100));
        assert_eq!(admitted.filter(|receiver| floods.admit(*receiver).is_ok()).count(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_paths_does_not_keep_out_who_knows_one() {
        let floods = Floods::default();
        floods.known([1; 32]);
        assert_eq!((0..200).filter(|_| floods.look_up(&[0; 32]).is_ok()).count(), 100);
        assert!(floods.look_up(&[0; 32]).is_err());
        assert_eq!(floods.look_up(&[1; 32]), Ok(()));
        tokio::time::advance(ACQUAINTANCE).await;
        assert_eq!(floods.look_up(&[1; 32]), Ok(()), "and when it is a stranger again, there is room");
    }
}
