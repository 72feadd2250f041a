//! What a target's owner decided about its deploys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a new release takes over from the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// A new instance beside the old one; traffic moves after health; the old one is kept a while.
    BlueGreen,
    /// The one instance is updated in place, pod by pod.
    Rolling,
    /// The one instance is stopped, then started with the new release.
    Recreate,
}

impl Strategy {
    /// Whether releases share one instance that is changed in place.
    pub const fn is_in_place(self) -> bool {
        matches!(self, Self::Rolling | Self::Recreate)
    }
}

/// What happens to a waiting deploy when a newer one arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePolicy {
    /// The newer one supersedes it.
    Latest,
    /// They run one after the other.
    Fifo,
}

/// The numbers the machine works with; durations are upper bounds for one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Longest wait before the start, whatever the gates.
    pub pending: Duration,
    /// Longest wait for images on the nodes.
    pub pull: Duration,
    /// Longest wait for readiness, for each wave of dependencies.
    pub start: Duration,
    /// Number of waves that `dependsOn` makes: 1 when nothing depends on anything.
    pub waves: u32,
    /// Number of waves with services that hooks before the start wait for; 0 when there are no such hooks.
    pub shared_waves: u32,
    /// Longest wait for routes to be accepted.
    pub proxy: Duration,
    /// Longest time of probing.
    pub health: Duration,
    /// Sum of the time limits of the hooks of each phase, added to the state that runs them.
    pub hooks: HookBudget,
    /// Consecutive good probes that make an instance healthy; 0 when nothing is probed.
    pub success_threshold: u32,
    /// Consecutive bad probes that fail the deploy.
    pub failure_threshold: u32,
    /// Whether a failure brings the last good release back.
    pub rollback_on_failure: bool,
    /// How long after success a crash loop or lost readiness still rolls back.
    pub watch: Duration,
}

/// Time that hooks may take, by the phase they run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookBudget {
    /// Before any pod of the new instance.
    pub before_start: Duration,
    /// After readiness.
    pub before_traffic: Duration,
    /// During health checking.
    pub verify: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            pending: Duration::from_hours(7 * 24),
            pull: Duration::from_mins(5),
            start: Duration::from_mins(5),
            waves: 1,
            shared_waves: 0,
            proxy: Duration::from_mins(1),
            health: Duration::from_mins(2),
            hooks: HookBudget::default(),
            success_threshold: 0,
            failure_threshold: 5,
            rollback_on_failure: true,
            watch: Duration::from_mins(5),
        }
    }
}
