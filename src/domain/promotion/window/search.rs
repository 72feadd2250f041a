//! Whether deploys may begin at an instant, and when they may next.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Window};

/// How far into the future is looked.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How many beginnings and ends of windows are looked at: more than any year with windows that people make, and few enough
/// for windows of a minute in each minute.
const STEPS: usize = 4_000;

/// What a set of windows says of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening<'w> {
    /// Deploys may begin.
    Open {
        /// The allow window that is open, where there are any.
        by: Option<&'w Window>,
        /// Until when, if that is near enough to be found.
        until: Option<Timestamp>,
    },
    /// Deploys may not begin.
    Closed {
        /// The deny window that is open; none when only an allow window is missing.
        by: Option<&'w Window>,
        /// When they may next.
        opens: Timestamp,
    },
    /// Deploys may not begin, and no instant at which they may was found.
    Never {
        /// How far was looked.
        searched: Timestamp,
    },
}

/// What windows say of an instant. A deny window that is open always wins; without any allow window, whatever is not
/// denied is allowed.
pub fn opening(windows: &[Window], now: Timestamp) -> Opening<'_> {
    let of = |action| windows.iter().filter(move |window| window.action == action).collect::<Vec<_>>();
    let (allow, deny) = (of(Action::Allow), of(Action::Deny));
    match open_at(&allow, &deny, now) {
        Ok(by) => Opening::Open { by, until: closes(&allow, &deny, now) },
        Err(by) => opens(&allow, &deny, by, now),
    }
}

/// The allow window that is open, if there are any, or the deny window that is, if that is why not.
fn open_at<'w>(
    allow: &[&'w Window],
    deny: &[&'w Window],
    at: Timestamp,
) -> Result<Option<&'w Window>, Option<&'w Window>> {
    let open = |windows: &[&'w Window]| windows.iter().find(|window| window.latest(at).is_some()).copied();
    match (open(deny), open(allow)) {
        (Some(denied), _) => Err(Some(denied)),
        (None, None) if !allow.is_empty() => Err(None),
        (None, by) => Ok(by),
    }
}

/// The next instant at which deploys may begin: from end to end of deny windows, and from beginning to beginning of allow
/// windows.
fn opens<'w>(allow: &[&'w Window], deny: &[&'w Window], by: Option<&'w Window>, now: Timestamp) -> Opening<'w> {
    let horizon = after(now, HORIZON);
    let (mut at, mut why) = (now, by);
    for _ in 0..STEPS {
        let next = match why {
            Some(denied) => denied.latest(at).map(|start| denied.end(start)),
            None => allow.iter().filter_map(|window| window.pattern.next(&window.zone, at, horizon)).min(),
        };
        match next {
            Some(next) if next <= horizon => at = next,
            _ => return Opening::Never { searched: horizon },
        }
        match open_at(allow, deny, at) {
            Ok(_) => return Opening::Closed { by, opens: at },
            Err(denied) => why = denied,
        }
    }
    Opening::Never { searched: at }
}

/// When an open set of windows closes: at the beginning of a deny window, or at the end of the last allow window that
/// hangs together with the one that is open now.
fn closes(allow: &[&Window], deny: &[&Window], now: Timestamp) -> Option<Timestamp> {
    let horizon = after(now, HORIZON);
    let denied = deny.iter().filter_map(|window| window.pattern.next(&window.zone, now, horizon)).min();
    let mut end = now;
    for _ in 0..STEPS {
        let later = allow.iter().filter_map(|window| window.latest(end).map(|start| window.end(start))).max();
        match later.filter(|later| *later > end) {
            Some(later) if denied.is_none_or(|denied| later < denied) && later < horizon => end = later,
            Some(_) => return denied,
            None if allow.is_empty() => return denied,
            None => return Some(end),
        }
    }
    denied
}

impl Window {
    /// When it closes that opened at an instant.
    fn end(&self, start: Timestamp) -> Timestamp {
        start.saturating_add(self.duration).unwrap_or(Timestamp::MAX)
    }
}

fn after(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}
