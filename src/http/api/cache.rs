//! Answers that are kept for a moment: a bounded number of them, the one that was used longest ago goes first. Who asks what
//! somebody else is asking at the moment waits for that answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

/// An answer, and until when it is one.
type Kept<V> = Arc<OnceCell<(V, Instant)>>;

struct Entry<V> {
    kept: Kept<V>,
    used: u64,
}

struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Rises with every use.
    turn: u64,
}

/// Answers of one kind.
pub(super) struct Cache<K, V> {
    inner: Mutex<Inner<K, V>>,
    capacity: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Room for `capacity` answers.
    pub(super) fn new(capacity: usize) -> Self {
        Self { inner: Mutex::new(Inner { entries: HashMap::new(), turn: 0 }), capacity: capacity.max(1) }
    }

    /// The answer to `key`: a kept one, or what `ask` says, which is kept for as long as `keep` says. One that is kept for
    /// no time goes to those who wait for it, and to nobody after them.
    pub(super) async fn get(&self, key: &K, keep: impl Fn(&V) -> Duration, ask: impl AsyncFnOnce() -> V) -> V {
        let kept = self.entry(key);
        let (answer, _) = kept
            .get_or_init(async || {
                let answer = ask().await;
                let until = Instant::now() + keep(&answer);
                (answer, until)
            })
            .await;
        answer.clone()
    }

    /// Whether there is an answer, or somebody is asking.
    pub(super) fn knows(&self, key: &K) -> bool {
        let now = Instant::now();
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries.get(key).is_some_and(|entry| is_good(&entry.kept, now))
    }

    fn entry(&self, key: &K) -> Kept<V> {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        inner.turn += 1;
        if let Some(entry) = inner.entries.get_mut(key)
            && is_good(&entry.kept, now)
        {
            entry.used = inner.turn;
            return entry.kept.clone();
        }
        if inner.entries.len() >= self.capacity {
            inner.entries.retain(|_, entry| is_good(&entry.kept, now));
        }
        if inner.entries.len() >= self.capacity {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| inner.entries.remove(&key));
        }
        let kept: Kept<V> = Arc::default();
        inner.entries.insert(key.clone(), Entry { kept: kept.clone(), used: inner.turn });
        kept
    }
}

/// Whether an answer is still one. One that is being asked for is.
fn is_good<V>(kept: &Kept<V>, now: Instant) -> bool {
    kept.get().is_none_or(|(_, until)| now < *until)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_until_its_time_and_no_longer() {
        let asked = AtomicUsize::new(0);
        let cache = Cache::new(3);
        let ask = async || cache.get(&1, |_| TEN, async || asked.fetch_add(1, Ordering::SeqCst)).await;
        assert_eq!((ask().await, ask().await), (0, 0));
        tokio::time::advance(TEN.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert_eq!(ask().await, 0);
        assert!(cache.knows(&1) && !cache.knows(&2));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!cache.knows(&1));
        assert_eq!(ask().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_at_once_share_one_answer() {
        let asked = AtomicUsize::new(0);
        let cache = Cache::new(3);
        let ask = async || {
            let slow = async || {
                tokio::time::sleep(TEN).await;
                asked.fetch_add(1, Ordering::SeqCst)
            };
            // Not worth keeping, but those who waited have it.
            cache.get(&1, |_| Duration::ZERO, slow).await
        };
        let all = futures::future::join_all((0..100).map(|_| ask())).await;
        assert_eq!(all, [0; 100]);
        assert_eq!(ask().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_more_than_fits_and_what_was_not_used_goes() {
        let cache = Cache::new(3);
        let put = async |key: i32| cache.get(&key, |_| TEN, async || key).await;
        for key in [1, 2, 3, 1, 4] {
            put(key).await;
        }
        let known: Vec<i32> = (0..10).filter(|key| cache.knows(key)).collect();
        assert_eq!(known, [1, 3, 4]);
        for key in 100..10_000 {
            put(key).await;
        }
        assert_eq!(cache.inner.lock().unwrap().entries.len(), 3);
    }
}
