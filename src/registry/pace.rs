//! How fast a registry may be asked: a token bucket, and the rests that it asks for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How fast a registry is asked whose settings name no rate, in requests per second. Generous: it keeps a loop from
/// becoming an attack. What a registry itself allows is for its answers to say.
const DEFAULT_RATE: f64 = 100.0;
/// How many may go at once after a quiet time, where no rate is set.
const DEFAULT_BURST: f64 = 500.0;
/// Longest that a request waits here for its turn. Whoever would wait longer is sent away to come back then.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time that is counted, in seconds: a rate may be as small as anybody likes.
const LONGEST: f64 = 86_400.0 * 365.0;
/// The first rest after a 429 that names none. Each one that follows without an answer between is twice as long.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_mins(5);
/// Shortest rest: a `Retry-After` of 0 does not mean to go on as before.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// How much of its rate a registry keeps at least that answers 429 again and again.
const SLOWEST: f64 = 1.0 / 64.0;
/// How the rate recovers with each answer.
const RECOVERY: f64 = 1.05;

/// A token bucket that can be closed for a while. Whoever comes first goes first, and whoever gives up takes nothing.
pub(super) struct Pace {
    state: Mutex<State>,
    /// Held by the first of those who wait; the others stand behind it, in their order.
    queue: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
}

struct State {
    set: Option<f64>,
    tokens: f64,
    at: Instant,
    /// What is left of the rate after answers of 429.
    factor: f64,
    /// Rests without an answer between them.
    rests: u32,
    closed_until: Option<Instant>,
}

/// Why somebody is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotYet {
    /// The registry asked for a rest.
    Resting(Instant),
    /// More is asked than the rate allows.
    Queue(Instant),
}

impl Pace {
    /// At most `rate` requests per second on average, which is more than 0; the default if none is set.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let (_, burst) = limits(rate);
        let state = State { set: rate, tokens: burst, at: Instant::now(), factor: 1.0, rests: 0, closed_until: None };
        Self { state: Mutex::new(state), queue: tokio::sync::Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// Goes on at another rate. At the same one, where it was: nobody gets a new burst by changing something else.
    pub(super) fn set(&self, rate: Option<f64>) {
        let mut state = self.state();
        if state.set != rate {
            state.set = rate;
            state.tokens = limits(rate).1;
            state.at = Instant::now();
        }
    }

    /// Waits until it is this request's turn, if that is soon.
    pub(super) async fn turn(&self) -> Result<(), NotYet> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        patient(self.state().next(before))?;
        let _first = self.queue.lock().await;
        loop {
            let next = {
                let mut state = self.state();
                let next = state.next(0);
                if next.is_none() {
                    state.tokens -= 1.0;
                    return Ok(());
                }
                patient(next)?
            };
            if let Some(at) = next {
                // Timers are no finer than this; a shorter wait would be none.
                sleep_until(at.max(Instant::now() + Duration::from_millis(1))).await;
            }
        }
    }

    /// When the next one may go who comes now; None: at once.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.state().next(self.waiting.load(Ordering::Relaxed)).map(NotYet::at)
    }

    /// The registry answered that it was too much. Without a time of its own, it rests longer each time.
    pub(super) fn refused(&self, wait: Option<Duration>) {
        let mut state = self.state();
        let now = Instant::now();
        if !state.is_closed(now) {
            // Not for each of those who were under way at the same time.
            state.factor = (state.factor / 2.0).max(SLOWEST);
            state.rests = state.rests.saturating_add(1);
            state.tokens = 0.0;
        }
        let doubled = FIRST_REST.saturating_mul(1 << state.rests.saturating_sub(1).min(10)).min(LONGEST_REST);
        state.close(now + wait.unwrap_or(doubled).max(SHORTEST_REST));
    }

    /// The registry says that its quota allows nothing more, or little, until then.
    pub(super) fn spare(&self, wait: Duration) {
        self.state().close(Instant::now() + wait);
    }

    /// The registry answered.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.factor = (state.factor * RECOVERY).min(1.0);
        if !state.is_closed(Instant::now()) {
            state.rests = 0;
        }
    }

    /// Whether nothing is lost when it is forgotten.
    pub(super) fn is_idle(&self) -> bool {
        let mut state = self.state();
        let waiting = self.waiting.load(Ordering::Relaxed) > 0;
        let free = state.next(0).is_none();
        !waiting && free && state.tokens >= limits(state.set).1 && state.factor >= 1.0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Average per second, and how many at once.
fn limits(rate: Option<f64>) -> (f64, f64) {
    rate.map_or((DEFAULT_RATE, DEFAULT_BURST), |rate| (rate, rate.max(1.0)))
}

impl State {
    /// When whoever stands behind so many may go; None: now.
    fn next(&mut self, behind: usize) -> Option<NotYet> {
        let now = Instant::now();
        let (rate, burst) = limits(self.set);
        let rate = rate * self.factor;
        let gained = now.duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min((burst * self.factor).max(1.0));
        self.at = now;
        if let Some(at) = self.closed_until {
            if at > now {
                return Some(NotYet::Resting(at));
            }
            self.closed_until = None;
        }
        let behind = u32::try_from(behind).unwrap_or(u32::MAX);
        let missing = f64::from(behind) + 1.0 - self.tokens;
        (missing > 0.0).then(|| NotYet::Queue(now + Duration::from_secs_f64((missing / rate).min(LONGEST))))
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.closed_until.is_some_and(|at| at > now)
    }

    fn close(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
    }
}

/// When to go, if that is soon.
fn patient(next: Option<NotYet>) -> Result<Option<Instant>, NotYet> {
    match next {
        Some(not_yet) if not_yet.at().saturating_duration_since(Instant::now()) > PATIENCE => Err(not_yet),
        next => Ok(next.map(NotYet::at)),
    }
}

impl NotYet {
    pub(super) fn at(self) -> Instant {
        match self {
            Self::Resting(at) | Self::Queue(at) => at,
        }
    }
}

/// One of those who wait.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
