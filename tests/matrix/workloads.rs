//! What is disturbed: each workload has a beginning, which nobody disturbs, and a run.

use crate::{scene::Scene, stages};

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// The first release of a stage, with hooks at every moment.
    FirstDeploy,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::FirstDeploy];

    /// Its word in names of plans.
    pub const fn word(self) -> &'static str {
        match self {
            Self::FirstDeploy => "first-deploy",
        }
    }

    /// Whether its operator sees the whole cluster, so that there is one of it at a time.
    pub const fn is_whole(self) -> bool {
        match self {
            Self::FirstDeploy => false,
        }
    }

    /// The beginning. Where it starts no operator, the run does.
    pub async fn prepare(self, scene: &Scene) {
        match self {
            Self::FirstDeploy => stages::before_the_first(scene).await,
        }
    }

    /// The run, to its end.
    pub async fn run(self, scene: &Scene) {
        match self {
            Self::FirstDeploy => stages::first(scene).await,
        }
    }
}
