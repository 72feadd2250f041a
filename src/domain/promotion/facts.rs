//! What is known about a deploy that waits, gathered by whoever can look.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::{actor::Actor, deploy::Queue, release::ReleaseId};

/// Everything that the gates may base an answer on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Name of the stage that it goes to.
    pub stage: String,
    /// What it deploys.
    pub release: ReleaseId,
    /// How it came about.
    pub kind: Kind,
    /// Somebody asked for exactly this deploy, so that a hold and a veto do not stop it.
    pub explicit: bool,
    /// What is suspended, as in `stage production`.
    pub suspended: Option<String>,
    /// What keeps policy away from the stage: one for each owner.
    pub holds: Vec<Hold>,
    /// Why the release is vetoed on the stage.
    pub veto: Option<String>,
    /// How the release fared on the stages that it comes from, by their names and in any order.
    pub upstreams: Vec<Upstream>,
    /// Approvals on the stage that were not withdrawn; of other releases too.
    pub approvals: Vec<Approval>,
    /// Who asked for the deploy.
    pub requester: Actor,
    /// Soak, approvals and windows are passed over.
    pub emergency: Option<Emergency>,
    /// The deploys that begin together with this one, or not at all.
    pub group: Option<Group>,
    /// Whose turn it is on the stage.
    pub queue: Queue,
}

/// How a deploy came about, which decides what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Another release comes, from other stages or from a policy: every gate is asked.
    Promotion,
    /// An image is pinned in the stage's spec: explicit, and nothing is asked of other stages or people.
    Pin,
    /// Another configuration of the release that serves: nothing is asked of other stages or people.
    Configuration,
    /// Back to what served before: only what is suspended and whose turn it is count.
    Rollback,
}

/// What keeps policy away from a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose it is.
    pub owner: String,
    /// Who asked for it.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// What the stage went back from: a newer release than this one ends the hold.
    pub from: Option<Mark>,
}

impl Hold {
    /// Whether it holds at this instant.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held by {} since {}", self.owner, self.since)?;
        if self.actor.to_string().strip_prefix("user:") != Some(&self.owner) {
            write!(f, " ({} asked)", self.actor)?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// A release with its place in the order of releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The release.
    pub release: ReleaseId,
    /// What it is, for people: `web 1.4.2`.
    pub summary: String,
    /// When the required stages had first proven it; for one that they never had, when it began on this stage.
    pub at: Timestamp,
}

/// How one release fared on one of the stages that it must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The stage.
    pub name: String,
    /// Whether there is such a stage in the project.
    pub exists: bool,
    /// When the release first succeeded there, if it ever did.
    pub first: Option<Timestamp>,
    /// How long it served there, without the time since `serving_since`.
    pub served: Duration,
    /// Since when it serves there, if it does.
    pub serving_since: Option<Timestamp>,
    /// What is wrong with it there now, while it serves.
    pub unready: Option<String>,
    /// When it was healthy there again, after it had not been: `served` and `serving_since` count from there.
    pub recovered: Option<Timestamp>,
    /// Why it is vetoed there.
    pub veto: Option<String>,
    /// The older release that the stage went back to from it, for people: `web 1.4.1`.
    pub went_back_to: Option<String>,
}

impl Upstream {
    /// A stage on which the release was never seen.
    pub fn never(name: &str) -> Self {
        Self { exists: true, ..Self::missing(name) }
    }

    /// A stage that is not there.
    pub fn missing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            exists: false,
            first: None,
            served: Duration::ZERO,
            serving_since: None,
            unready: None,
            recovered: None,
            veto: None,
            went_back_to: None,
        }
    }
}

/// Somebody agreed to a release on a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What was agreed to: these digests and no others.
    pub release: ReleaseId,
    /// Who.
    pub actor: Actor,
    /// Whether it is certain that it was them: otherwise it does not count.
    pub verified: bool,
    /// The groups they were in then.
    pub groups: Vec<String>,
    /// When.
    pub at: Timestamp,
    /// When it ceases to count.
    pub expires: Option<Timestamp>,
}

/// Somebody passes over soak, approvals and windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// Who.
    pub actor: Actor,
    /// Why: never empty.
    pub reason: String,
}

/// Deploys of several stages that leave pending together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// The other members that cannot begin yet, each with why: `prod-us: 1 of 2 approvals`.
    pub waits_for: Vec<String>,
}
