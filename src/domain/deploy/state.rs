//! The ten states and which of them may follow which.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a deploy stands. SQL and JSON use the snake-case words, resource status the `CamelCase` ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The row exists and waits for its turn; what it waits for is always named.
    Pending,
    /// Hooks before the start have run or run, workloads are applied, nodes pull images.
    Pulling,
    /// Containers start and become ready in the order of their dependencies.
    Starting,
    /// Services and routes exist and wait to be accepted.
    ConfiguringProxy,
    /// The instance is probed and verified; as its last act traffic moves to it.
    HealthChecking,
    /// Traffic was seen to point at the instance.
    Success,
    /// It did not work; the reason is one sentence, the evidence is in the log.
    Failed,
    /// It failed and the last good release serves again.
    RolledBack,
    /// A newer deploy took its place before it began.
    Superseded,
    /// Somebody stopped it.
    Aborted,
}

impl State {
    /// Every state, in the order of the documented table.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Pulling,
        Self::Starting,
        Self::ConfiguringProxy,
        Self::HealthChecking,
        Self::Success,
        Self::Failed,
        Self::RolledBack,
        Self::Superseded,
        Self::Aborted,
    ];

    /// The word in SQL, JSON and the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::ConfiguringProxy => "configuring_proxy",
            Self::HealthChecking => "health_checking",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
            Self::Aborted => "aborted",
        }
    }

    /// The word in resource status and printer columns.
    pub const fn camel(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Pulling => "Pulling",
            Self::Starting => "Starting",
            Self::ConfiguringProxy => "ConfiguringProxy",
            Self::HealthChecking => "HealthChecking",
            Self::Success => "Success",
            Self::Failed => "Failed",
            Self::RolledBack => "RolledBack",
            Self::Superseded => "Superseded",
            Self::Aborted => "Aborted",
        }
    }

    /// Whether the deploy holds its target's one place: from pulling to health checking.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Pulling | Self::Starting | Self::ConfiguringProxy | Self::HealthChecking)
    }

    /// Whether no other state may follow. `Failed` may still become `RolledBack`.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::RolledBack | Self::Superseded | Self::Aborted)
    }

    /// The states that may follow this one.
    pub const fn successors(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Pulling, Self::Superseded, Self::Aborted],
            Self::Pulling => &[Self::Starting, Self::Failed, Self::Aborted],
            Self::Starting => &[Self::ConfiguringProxy, Self::Failed, Self::Aborted],
            Self::ConfiguringProxy => &[Self::HealthChecking, Self::Failed, Self::Aborted],
            Self::HealthChecking => &[Self::Success, Self::Failed, Self::Aborted],
            Self::Failed => &[Self::RolledBack],
            Self::Success | Self::RolledBack | Self::Superseded | Self::Aborted => &[],
        }
    }

    /// Whether `to` may follow this state.
    pub fn may_become(self, to: Self) -> bool {
        self.successors().contains(&to)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a deploy state: expected one of pending, pulling, starting, configuring_proxy, health_checking, success, failed, rolled_back, superseded, aborted"
)]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| UnknownState(word.into()))
    }
}
