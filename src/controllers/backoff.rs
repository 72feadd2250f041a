//! Retry delays: per object, doubling with jitter, forgotten on success.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Mutex,
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

/// How often each object has failed in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// The delay before the next try of `key`, which has just failed. Doubles from half a second to a minute; the jitter
    /// (up to a quarter) comes from the key and count, so that a thousand objects do not come back at once.
    pub fn next(&self, key: &str) -> Duration {
        let count = {
            let mut failures = self.lock();
            let count = failures.entry(key.to_owned()).or_default();
            *count = count.saturating_add(1);
            *count
        };
        delay(key, count)
    }

    /// Forgets the failures of `key`.
    pub fn reset(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The delay after the `count`-th failure in a row of `key`.
pub fn delay(key: &str, count: u32) -> Duration {
    let base = FIRST.saturating_mul(1u32.checked_shl(count.saturating_sub(1).min(16)).unwrap_or(u32::MAX)).min(LONGEST);
    let mut hasher = DefaultHasher::new();
    (key, count).hash(&mut hasher);
    let percent = u32::try_from(hasher.finish() % 26).unwrap_or_default();
    base.saturating_add(base * percent / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_are_forgotten() {
        let backoff = Backoff::default();
        let first = backoff.next("a");
        let second = backoff.next("a");
        assert!(first >= FIRST && first <= FIRST * 5 / 4, "{first:?}");
        assert!(second >= FIRST * 2, "{second:?}");
        for _ in 0..40 {
            backoff.next("a");
        }
        assert!(backoff.next("a") <= LONGEST * 5 / 4);
        assert!(backoff.next("b") <= FIRST * 5 / 4, "another object's failures do not count");
        backoff.reset("a");
        assert_eq!(backoff.next("a"), first);
    }
}
