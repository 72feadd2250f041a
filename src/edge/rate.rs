//! Pure: so many requests a second, without a lock.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u64 = 2;
const SECOND: u64 = 1_000_000_000;

/// When the next request would come if all had come evenly (GCRA), in nanoseconds.
#[derive(Debug, Default)]
pub struct Pace(AtomicU64);

impl Pace {
    /// Takes one request at `now`, a time since any fixed moment.
    ///
    /// # Errors
    /// There were too many; after this time there may be another one.
    pub fn take(&self, rate: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let apart = SECOND / u64::from(rate.get());
        let ahead = (SECOND * BURST_SECONDS).saturating_sub(apart);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            (due.saturating_sub(now) <= ahead).then(|| due.max(now).saturating_add(apart))
        });
        taken.map(|_| ()).map_err(|due| Duration::from_nanos(due.saturating_sub(now).saturating_sub(ahead)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate() {
        let pace = Pace::default();
        let start = Duration::from_secs(100);
        let taken = (0..100).filter(|_| pace.take(rate(10), start).is_ok()).count();
        assert_eq!(taken, 20);
        let wait = pace.take(rate(10), start).unwrap_err();
        assert!(wait <= Duration::from_millis(100) && !wait.is_zero(), "{wait:?}");
        assert!(pace.take(rate(10), start + wait).is_ok());
        assert!(pace.take(rate(10), start + wait).is_err());
        let later = start + Duration::from_mins(1);
        assert_eq!((0..100).filter(|_| pace.take(rate(10), later).is_ok()).count(), 20);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_a_burst(number in 1_u32..1000, gaps in prop::collection::vec(0_u64..50_000_000, 1..300)) {
            let pace = Pace::default();
            let mut now = Duration::from_secs(1);
            let begin = now;
            let mut taken = 0_u64;
            for gap in gaps {
                now += Duration::from_nanos(gap);
                taken += u64::from(pace.take(rate(number), now).is_ok());
                let allowed = now.saturating_sub(begin).as_secs_f64() * f64::from(number) + f64::from(number) * 2.0 + 1.0;
                #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
                let so_far = taken as f64;
                prop_assert!(so_far <= allowed, "{so_far} of {allowed}");
            }
        }
    }
}
