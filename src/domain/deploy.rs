//! The deploy state machine: words, laws and the pure step function.
//!
//! A deploy is one attempt to make a target (a stage today, an environment later) run a release with a
//! snapshot. [`next`] takes what is known and says what happens; it touches nothing.

#[cfg(test)]
mod laws;
mod next;
mod observation;
mod policy;
mod queue;
mod state;
pub mod table;
pub mod watch;

pub use next::{Decision, Effect, Step, Transition, follow, next, overtaken, started, stopped};
pub use observation::{Health, Hooks, LastGood, Observation, Phase, Problem, Queue, Route, Shared, Waiting, Workloads};
pub use policy::{HookBudget, Policy, QueuePolicy, Strategy};
pub use queue::queue;
pub use state::{State, UnknownState};

use jiff::Timestamp;
use uuid::Uuid;

use super::{actor::Actor, release::ReleaseId};

/// One attempt to make a target run a release: the row that the machine advances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// Identity, made by whoever asked, so that asking twice is asking once.
    pub id: Uuid,
    /// The stage (or environment) row this deploy belongs to.
    pub target: Uuid,
    /// Position among the target's deploys, from 1 without gaps: two who ask at once cannot both have it.
    pub sequence: i64,
    /// What should run.
    pub release: ReleaseId,
    /// Content hash of everything it is rendered from; a rollback starts exactly this again.
    pub snapshot: String,
    /// Name of the instance it makes or updates.
    pub instance: String,
    /// Where it stands.
    pub state: State,
    /// When it entered that state; deadlines count from here.
    pub since: Timestamp,
    /// Rises by one with every write; whoever writes must have seen the latest.
    pub version: i64,
    /// Who asked.
    pub actor: Actor,
    /// Why it was made, in one sentence: `web 1.1.0 is newer than 1.0.0`.
    pub cause: String,
    /// Why it stands where it stands: set for failed, aborted, superseded and rolled-back deploys.
    pub reason: Option<String>,
    /// The reason as a sentence for people.
    pub message: Option<String>,
    /// The deploy that this one undoes, when it is a rollback.
    pub rollback_of: Option<Uuid>,
    /// When the evidence of its failure was stored.
    pub evidence_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When nothing more will happen to it. A failed deploy stays open until its rollback ended.
    pub finished_at: Option<Timestamp>,
}

impl Deploy {
    /// Whether the machine is done with it.
    pub fn is_closed(&self) -> bool {
        self.finished_at.is_some()
    }
}
