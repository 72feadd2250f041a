//! One answer, and what many answers come to.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::deploy::Waiting;

/// Whether stage or project are suspended.
pub const SUSPENDED: &str = "suspended";
/// Whether the stage is held.
pub const HOLD: &str = "hold";
/// Whether the release is vetoed on the stage.
pub const VETO: &str = "veto";
/// Whether the stages that it comes from have proven it.
pub const UPSTREAM: &str = "upstream";
/// Whether it served there for long enough.
pub const SOAK: &str = "soak";
/// Whether people agreed.
pub const APPROVALS: &str = "approvals";
/// Whether deploys may begin at this time.
pub const WINDOW: &str = "window";
/// Whether the deploys that begin together with it can.
pub const GROUP: &str = "group";
/// Whether it is its turn.
pub const QUEUE: &str = "queue";

/// One gate's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Which gate.
    pub name: &'static str,
    /// Its answer.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// One `CamelCase` word for programs: what a deploy waits for when this gate is closed.
    pub reason: String,
    /// Why, in one sentence.
    pub message: String,
    /// What would open it; empty when it is open.
    pub opens: String,
    /// What is in the way, where it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocker: Option<String>,
}

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "until", rename_all = "camelCase")]
pub enum Verdict {
    /// It is open.
    Pass,
    /// It opens by itself at this instant.
    WaitUntil(Timestamp),
    /// It opens when somebody or something acts; when is not known.
    Needs,
    /// It does not open for this deploy.
    Refuse,
}

impl Verdict {
    /// How far from open: the higher, the farther.
    const fn distance(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::WaitUntil(_) => 1,
            Self::Needs => 2,
            Self::Refuse => 3,
        }
    }

    /// The one that is farther from open; of two instants the later one.
    pub(super) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::WaitUntil(one), Self::WaitUntil(two)) => Self::WaitUntil(one.max(two)),
            _ if other.distance() > self.distance() => other,
            _ => self,
        }
    }

    /// The one that is nearer to open; of two instants the earlier one.
    pub(super) fn better(self, other: Self) -> Self {
        match (self, other) {
            (Self::WaitUntil(one), Self::WaitUntil(two)) => Self::WaitUntil(one.min(two)),
            _ if other.distance() < self.distance() => other,
            _ => self,
        }
    }
}

impl Gate {
    /// An open gate.
    pub(super) fn pass(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Pass,
            reason: "Open".into(),
            message: message.into(),
            opens: String::new(),
            blocker: None,
        }
    }

    /// A closed gate.
    pub(super) fn closed(
        name: &'static str,
        verdict: Verdict,
        message: impl Into<String>,
        opens: impl Into<String>,
    ) -> Self {
        let (message, opens) = (message.into(), opens.into());
        Self { name, verdict, reason: word(name).into(), message, opens, blocker: None }
    }

    /// Whether it lets the deploy through.
    pub fn is_open(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}

/// Something that a pending deploy may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// The gate that is closed.
    pub gate: &'static str,
    /// What it waits for, in a word for programs.
    pub reason: &'static str,
    /// What the word means.
    pub about: &'static str,
    /// What the blocker names; empty where there is none.
    pub blocker: &'static str,
}

/// Everything that a pending deploy may wait for, in the order of the gates. The first reason of a gate is the one that it
/// gives where nothing more is known.
pub const WAITS: [Wait; 12] = [
    Wait {
        gate: SUSPENDED,
        reason: "Suspended",
        about: "the Stage or its Project has `suspend: true`",
        blocker: "`stage NAME` or `project NAME`",
    },
    Wait {
        gate: HOLD,
        reason: "Held",
        about: "somebody holds the stage, or a rollback does; `stagekeeper resume` ends it",
        blocker: "whose hold it is",
    },
    Wait {
        gate: VETO,
        reason: "Vetoed",
        about: "the release is vetoed on this stage: it failed here, or somebody said so",
        blocker: "",
    },
    Wait {
        gate: UPSTREAM,
        reason: "NotProven",
        about: "the release has not succeeded on the stages in `promotion.from`, is vetoed there, or was gone back from",
        blocker: "",
    },
    Wait {
        gate: SOAK,
        reason: "Soaking",
        about: "it has not served there for `promotion.soak`, or is not healthy there",
        blocker: "",
    },
    Wait {
        gate: APPROVALS,
        reason: "ApprovalNeeded",
        about: "people have to agree: `stagekeeper approve`",
        blocker: "",
    },
    Wait {
        gate: WINDOW,
        reason: "WindowClosed",
        about: "a deny window is open, or no allow window is",
        blocker: "the deny window, if it is one",
    },
    Wait {
        gate: GROUP,
        reason: "GroupWaits",
        about: "other deploys of its group cannot begin yet; all of them begin together",
        blocker: "the group's id",
    },
    Wait {
        gate: QUEUE,
        reason: "Queued",
        about: "with `queue: fifo`, an earlier pending deploy is before it",
        blocker: "its id",
    },
    Wait {
        gate: QUEUE,
        reason: "EarlierDeploy",
        about: "another deploy of this stage is between `pulling` and `health_checking`; only one may be, by a unique index",
        blocker: "its id",
    },
    Wait {
        gate: QUEUE,
        reason: "RollingBack",
        about: "an earlier deploy failed, and the last good release is brought back",
        blocker: "its id",
    },
    Wait {
        gate: QUEUE,
        reason: "OthersFirst",
        about: "its project has begun many deploys in the last seconds, and other projects begin theirs meanwhile",
        blocker: "",
    },
];

/// [`WAITS`] as Markdown, for `docs/deploy-states.md`.
pub fn waits() -> String {
    let mut text = String::from("| `waitingReason` | gate | what it waits for | `blocker` |\n|---|---|---|---|\n");
    for Wait { gate, reason, about, blocker } in WAITS {
        let _ = writeln!(text, "| `{reason}` | `{gate}` | {about} | {blocker} |");
    }
    text
}

/// What a deploy waits for at a gate, in a word for programs.
fn word(name: &str) -> &'static str {
    WAITS.iter().find(|wait| wait.gate == name).map_or("Closed", |wait| wait.reason)
}

/// What all gates come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The answer that is farthest from open, and of instants the last one.
    pub verdict: Verdict,
    /// What the deploy waits for; none when every gate is open.
    pub waiting: Option<Waiting>,
    /// When to ask again: the first instant at which a gate opens by itself.
    pub wake: Option<Timestamp>,
}

/// Folds answers into one: refused, then what somebody must do, then what time brings. Of equals the first one speaks,
/// and of those that time opens the last.
pub fn verdict(gates: &[Gate]) -> Standing {
    let all = gates.iter().fold(Verdict::Pass, |all, gate| all.worse(gate.verdict));
    let speaks = gates.iter().find(|gate| !gate.is_open() && gate.verdict == all);
    let waiting = speaks.map(|gate| Waiting {
        reason: gate.reason.clone(),
        message: match gate.opens.as_str() {
            "" => gate.message.clone(),
            opens => format!("{}; {opens}", gate.message),
        },
        blocker: gate.blocker.clone(),
        until: match all {
            Verdict::WaitUntil(until) => Some(until),
            _ => None,
        },
    });
    let wake = gates.iter().filter_map(|gate| match gate.verdict {
        Verdict::WaitUntil(until) => Some(until),
        _ => None,
    });
    Standing { verdict: all, waiting, wake: wake.min() }
}
