//! Promotion: how a release comes to a stage from others, and what may stand in the way. Nothing here looks at anything
//! or reads a clock.
//!
//! [`gates`] answers for one deploy that waits: nine functions over one [`Facts`], always all of them and in one order,
//! each with a sentence. [`verdict`] folds their answers into what the deploy waits for and when to look again.
//! [`newest`] says which release a stage should take, [`cycle`] and [`unknown`] what is wrong with the order of stages.

mod candidate;
mod facts;
mod gate;
mod gates;
mod order;
mod upstream;
mod window;

use std::time::Duration;

pub use candidate::{Candidate, Choice, Coming, Taken, Vetoed, newest};
pub use facts::{Approval, Emergency, Facts, Group, Hold, Kind, Mark, Upstream};
pub use gate::{
    APPROVALS, GROUP, Gate, HOLD, QUEUE, SOAK, SUSPENDED, Standing, UPSTREAM, VETO, Verdict, WAITS, WINDOW, Wait,
    verdict, waits,
};
pub use gates::gates;
pub use order::{Edges, cycle, unknown};
pub use window::{Action, Opening, Window, WindowError, WindowSpec, opening};

/// What a stage's owner decided about the releases that come to it. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Names of the stages that a release must have served on; none when images come from policies.
    pub from: Vec<String>,
    /// Whether all of them, or any.
    pub require: Require,
    /// Whether the newest release comes without anybody asking.
    pub auto: bool,
    /// How long a release must have served upstream.
    pub soak: Duration,
    /// Who must agree.
    pub approvals: Option<Approvals>,
    /// When deploys may begin.
    pub windows: Vec<Window>,
}

/// Whether a release needs all of several stages, or any one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Require {
    /// All of them.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// Who must agree before a release is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// How many different people.
    pub required: usize,
    /// One of these groups must be theirs; nobody is asked for a group when there are none.
    pub groups: Vec<String>,
    /// How long an approval counts.
    pub expires: Duration,
    /// Whether who asked may also approve.
    pub allow_requester: bool,
}

/// Something in a stage's promotion that the schema cannot see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.promotion.{field}: {why}")]
pub struct RulesError {
    /// The field within `spec.promotion`, such as `windows[1].schedule`.
    pub field: String,
    /// What is wrong with it and what to write instead.
    pub why: String,
}

/// Checks the windows of a stage as somebody wrote them.
///
/// # Errors
/// One for each window that cannot be read; each names its field.
pub fn windows(specs: &[WindowSpec]) -> Result<Vec<Window>, Vec<RulesError>> {
    let (mut windows, mut wrong) = (Vec::new(), Vec::new());
    for (place, spec) in specs.iter().enumerate() {
        match Window::parse(spec) {
            Ok(window) => windows.push(window),
            Err(WindowError { field, why }) => {
                wrong.push(RulesError { field: format!("windows[{place}].{field}"), why });
            }
        }
    }
    if wrong.is_empty() { Ok(windows) } else { Err(wrong) }
}

#[cfg(test)]
mod laws;
