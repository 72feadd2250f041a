//! How fast a registry may be asked.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// A token bucket. Whoever comes first goes first, and whoever gives up takes nothing.
pub(super) struct Pace {
    rate: f64,
    /// How many may go at once after a rest.
    burst: f64,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Longest time that is counted, in seconds: a rate may be as small as anybody likes.
const LONGEST: f64 = 86_400.0 * 365.0;

impl Pace {
    /// At most `rate` requests per second on average, which is more than 0.
    pub(super) fn new(rate: f64) -> Self {
        let burst = rate.max(1.0);
        Self { rate, burst, bucket: Mutex::new(Bucket { tokens: burst, at: Instant::now() }) }
    }

    /// Waits until it is this request's turn.
    pub(super) async fn turn(&self) {
        // Held while waiting: that is the queue, and it is a fair one.
        let mut bucket = self.bucket.lock().await;
        loop {
            let now = Instant::now();
            let gained = now.duration_since(bucket.at).as_secs_f64() * self.rate;
            *bucket = Bucket { tokens: (bucket.tokens + gained).min(self.burst), at: now };
            if bucket.tokens >= 1.0 {
                bucket.tokens -= 1.0;
                return;
            }
            let missing = ((1.0 - bucket.tokens) / self.rate).min(LONGEST);
            // Timers are no finer than this; a shorter wait would be none.
            sleep_until(now + Duration::from_secs_f64(missing).max(Duration::from_millis(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// When each of so many requests had its turn, in milliseconds.
    async fn turns(pace: &Pace, many: usize) -> Vec<u128> {
        let begun = Instant::now();
        let mut all = Vec::new();
        for _ in 0..many {
            pace.turn().await;
            all.push(begun.elapsed().as_millis());
        }
        all
    }

    fn near(found: &[u128], expected: &[u128]) -> bool {
        found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.abs_diff(*expected) <= 5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_one_at_a_time() {
        let pace = Pace::new(4.0);
        let found = turns(&pace, 7).await;
        assert!(near(&found, &[0, 0, 0, 0, 250, 500, 750]), "{found:?}");
        tokio::time::sleep(Duration::from_secs(100)).await;
        let found = turns(&pace, 6).await;
        assert!(near(&found, &[0, 0, 0, 0, 250, 500]), "a long rest allows one burst and no more: {found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn less_than_one_a_second_still_lets_the_first_one_pass() {
        let found = turns(&Pace::new(0.1), 3).await;
        assert!(near(&found, &[0, 10_000, 20_000]), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_takes_nothing_and_the_others_keep_their_order() {
        let pace = Arc::new(Pace::new(1.0));
        pace.turn().await;
        let begun = Instant::now();
        for _ in 0..50 {
            assert!(tokio::time::timeout(Duration::from_millis(1), pace.turn()).await.is_err());
        }
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..3 {
            let (pace, order) = (pace.clone(), order.clone());
            waiting.spawn(async move {
                pace.turn().await;
                order.lock().unwrap().push(number);
            });
            tokio::task::yield_now().await;
        }
        waiting.join_all().await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert!(begun.elapsed() < Duration::from_millis(3100), "{:?}", begun.elapsed());
    }
}
