//! Rates: so many at once, and so many a second after that.

use std::time::Duration;

use tokio::time::Instant;

/// How much is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// At once.
    pub(super) burst: f64,
    /// A second after that.
    pub(super) per_second: f64,
}

/// What is left of a rate.
#[derive(Debug)]
pub(super) struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Nothing was taken yet.
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    /// Takes one; or says after how many seconds there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), u64> {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        self.left = (self.left + refilled).min(rate.burst);
        self.at = now;
        if self.left < 1.0 {
            // A fraction of a second is a second.
            let wait = Duration::from_secs_f64((1.0 - self.left) / rate.per_second);
            return Err(wait.as_secs() + 1);
        }
        self.left -= 1.0;
        Ok(())
    }

    /// Whether it would be full by now: forgetting it changes nothing.
    pub(super) fn is_full(&self, rate: Rate, now: Instant) -> bool {
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second >= rate.burst
    }
}
