//! The time after success: a crash loop or lost readiness soon after still goes back.

use std::time::Duration;

use jiff::Timestamp;

use super::{Deploy, State, Workloads};

/// Readiness that is gone for longer than this, while watched, is a failure: shorter gaps are what node drains
/// and rescheduling look like.
pub const LOST_READINESS: Duration = Duration::from_secs(30);

/// What to do about a release that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// The watch is over, or there is nothing to watch.
    Over,
    /// It runs well; look again at the end of the watch or when something changes.
    Fine(Timestamp),
    /// It went bad: go back, and say why.
    Rollback(String),
}

/// Judges the workloads of `deploy` at `now`. `unready_since` is when readiness was lost, if it is lost now.
pub fn watch(
    deploy: &Deploy,
    workloads: &Workloads,
    unready_since: Option<Timestamp>,
    length: Duration,
    now: Timestamp,
) -> Watch {
    let Some(end) = deploy.finished_at.and_then(|at| at.saturating_add(length).ok()) else {
        return Watch::Over;
    };
    if deploy.state != State::Success || now >= end {
        return Watch::Over;
    }
    if workloads.snapshot.as_deref() != Some(&deploy.snapshot) {
        return Watch::Fine(end);
    }
    if let Some(problem) = workloads.problem.as_ref().filter(|problem| problem.fatal) {
        return Watch::Rollback(format!("{}: {}", problem.reason, problem.message));
    }
    match unready_since.map(|since| since.saturating_add(LOST_READINESS).unwrap_or(Timestamp::MAX)) {
        Some(limit) if now >= limit => {
            Watch::Rollback(format!("readiness was lost after success: {}", workloads.progress))
        }
        Some(limit) => Watch::Fine(limit.min(end)),
        None => Watch::Fine(end),
    }
}
