//! How long an environment lives, and when it sleeps.
//!
//! It ends at the first of: what it was made for is closed, its project is deleted, its time is over, nobody has looked at it
//! for too long. The first two are for others to see; here is time. It sleeps while nobody looks, while somebody wants it to,
//! and in the spans in which it is to; whoever uses it after that wakes it.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::promotion::{Opening, Window, opening};

/// Without `idle_after`, this long after its last use an environment that was woken in a span of sleep goes back to sleep.
const NAP_ENDS: Duration = Duration::from_mins(30);

/// What decides about an environment's life.
#[derive(Debug, Clone)]
pub struct Life<'a> {
    /// When it was made.
    pub born: Timestamp,
    /// How long it lives.
    pub ttl: Duration,
    /// Until when somebody extended it.
    pub extended: Option<Timestamp>,
    /// It does not end by itself.
    pub pinned: bool,
    /// When it was used last: by a visitor, or by a deploy.
    pub used: Timestamp,
    /// When somebody asked that it wakes.
    pub wake_asked: Option<Timestamp>,
    /// When somebody asked that it sleeps.
    pub sleep_asked: Option<Timestamp>,
    /// It sleeps when it was not used for so long.
    pub idle_after: Option<Duration>,
    /// It ends when it was not used for so long.
    pub delete_after_idle: Option<Duration>,
    /// Spans in which it sleeps: windows that deny.
    pub sleep: &'a [Window],
}

/// Why an environment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its time is over.
    Ttl,
    /// Nobody has looked at it for too long.
    Idle,
}

impl Ending {
    /// In a few words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Ttl => "its time to live is over",
            Self::Idle => "nobody has looked at it for too long",
        }
    }
}

/// Whether it is awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// It is.
    Awake,
    /// Nobody has looked at it for a while.
    Idle,
    /// Somebody asked for that.
    Asked,
    /// It is time to.
    Scheduled,
}

impl Span {
    /// Whether it is awake.
    pub const fn is_awake(self) -> bool {
        matches!(self, Self::Awake)
    }

    /// Why it sleeps, in a few words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Awake => "awake",
            Self::Idle => "nobody looks at it",
            Self::Asked => "somebody put it to sleep",
            Self::Scheduled => "it is its time to sleep",
        }
    }
}

/// What is true of an environment at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its end has come.
    Over(Ending),
    /// It lives.
    Lives {
        /// Awake, or why not.
        span: Span,
        /// When it ends by itself if nothing happens, and why then.
        ends: Option<(Timestamp, Ending)>,
        /// When this changes if nothing happens.
        wake: Option<Timestamp>,
    },
}

/// What is true of an environment now.
pub fn standing(life: &Life<'_>, now: Timestamp) -> Standing {
    let used = life.used.max(life.wake_asked.unwrap_or(life.born)).max(life.born);
    let ends = end(life, used);
    if let Some((at, why)) = ends
        && at <= now
    {
        return Standing::Over(why);
    }
    let (span, changes) = span(life, used, now);
    let wake = changes.into_iter().chain(ends.map(|(at, _)| at)).min();
    Standing::Lives { span, ends, wake }
}

/// When it ends if nobody uses it.
fn end(life: &Life<'_>, used: Timestamp) -> Option<(Timestamp, Ending)> {
    if life.pinned {
        return None;
    }
    let over = later(life.born, life.ttl).max(life.extended.unwrap_or(life.born));
    let idle = life.delete_after_idle.map(|after| later(used, after).max(life.extended.unwrap_or(life.born)));
    match idle {
        Some(idle) if idle < over => Some((idle, Ending::Idle)),
        _ => Some((over, Ending::Ttl)),
    }
}

/// Whether it is awake, and when that changes.
fn span(life: &Life<'_>, used: Timestamp, now: Timestamp) -> (Span, Option<Timestamp>) {
    if life.sleep_asked.is_some_and(|asked| asked >= used) {
        return (Span::Asked, None);
    }
    let idle = life.idle_after.map(|after| later(used, after));
    if idle.is_some_and(|at| at <= now) {
        return (Span::Idle, None);
    }
    match opening(life.sleep, now) {
        Opening::Open { until, .. } => (Span::Awake, idle.into_iter().chain(until).min()),
        closed => {
            let begun = life.sleep.iter().filter_map(|window| window.open_since(now)).max();
            let nap = later(used, life.idle_after.unwrap_or(NAP_ENDS));
            let opens = match closed {
                Opening::Closed { opens, .. } => Some(opens),
                _ => None,
            };
            if begun.is_some_and(|begun| used >= begun) && now < nap {
                (Span::Awake, opens.into_iter().chain([nap]).min())
            } else {
                (Span::Scheduled, opens.into_iter().chain(idle).min())
            }
        }
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
