//! Pull requests, whatever provider they are of: what is known of them, which get an environment, and what follows from what
//! a provider says. Pure.
//!
//! A provider tells of the same pull request by webhooks, in any order and more than once, and by answers to questions, which
//! may be late, partial or empty. What is believed is decided in one place ([`Known::hear`]), by the provider's own times; what
//! is made and ended because of it in another ([`plan`]).

mod gate;
mod known;
mod name;
mod plan;
mod tag;

#[cfg(test)]
mod laws;

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;

pub use self::{
    gate::{Forks, Gate, Refused},
    known::{ABSENCES, Answer, Known, Look, Made, Sweep, Word, sweep},
    name::environment_name,
    plan::{Ending, Object, Plan, plan},
    tag::{TagError, TagPattern},
};

/// A git provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// GitHub.
    GitHub,
    /// GitLab, which calls them merge requests.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GitHub, Self::GitLab, Self::Gitea];

    /// The word for it in declarations and SQL.
    pub const fn word(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
        }
    }

    /// Its name, for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
            Self::Gitea => "Gitea",
        }
    }

    /// Whether a label proves that somebody with rights in the repository set it. GitHub asks for the role *triage*, GitLab
    /// for *planner* or *reporter*. Gitea's API lets whoever opens a pull request give it labels.
    pub const fn labels_are_for_maintainers(self) -> bool {
        matches!(self, Self::GitHub | Self::GitLab)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|provider| provider.word() == word);
        found.ok_or_else(|| format!("`{word}` is no git provider: expected github, gitlab or gitea"))
    }
}

/// How far a pull request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PullState {
    /// It waits to be merged.
    Open,
    /// It was closed without being merged.
    Closed,
    /// It was merged.
    Merged,
}

impl PullState {
    /// The word for it in SQL.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }

    /// Whether it is open.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open)
    }
}

impl FromStr for PullState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = [Self::Open, Self::Closed, Self::Merged].into_iter().find(|state| state.word() == word);
        found.ok_or_else(|| format!("`{word}` is no state of a pull request"))
    }
}

/// A pull request as its provider told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number in the repository: what it is known by. Two of them may have one branch.
    pub number: i64,
    /// What it is called.
    pub title: String,
    /// Who opened it.
    pub author: String,
    /// The branch that it brings.
    pub branch: String,
    /// The branch that it wants to go into.
    pub target: String,
    /// The commit at the end of its branch, in hexadecimal digits.
    pub head: String,
    /// The repository of its branch; empty if that is gone.
    pub head_repository: String,
    /// Whether its branch is in another repository.
    pub fork: bool,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// Those of its labels that somebody else than its author is known to have set.
    pub vouched: BTreeSet<String>,
    /// How far it has come.
    pub state: PullState,
    /// When it last changed, by the provider's clock.
    pub updated_at: Timestamp,
}
