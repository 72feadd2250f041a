//! What people ask of a stage: one action, who asked and how it came.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Something that is asked of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Bring a release here that stages before this one have proven.
    Promote {
        /// Its hash, or at least eight digits of its beginning; none is the newest that may come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<String>,
        /// The stage that it comes from, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// Pass over soak, approvals and windows; the reason says why.
        #[serde(default, skip_serializing_if = "is_false")]
        emergency: bool,
    },
    /// Start again what ran here before, exactly as it was stored, and keep it until somebody resumes.
    Rollback {
        /// Which.
        to: Destination,
    },
    /// Agree to a release.
    Approve {
        /// Its hash, or its beginning; none is the one that waits for approvals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<String>,
    },
    /// Stop a deploy.
    Abort {
        /// Which; none is the one that runs, or else the one that waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deploy: Option<Uuid>,
    },
    /// Try again what failed, with what it was rendered from.
    Retry {
        /// Which; none is the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deploy: Option<Uuid>,
    },
    /// Let no policy bring anything here.
    Hold {
        /// Whose hold it is: each owner has one. None is whoever asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// Until when; none is until somebody resumes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// End a hold.
    Resume {
        /// Whose; none ends all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
    /// Keep a release from coming here by itself.
    Veto {
        /// Its hash, or its beginning; none is the one that serves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<String>,
    },
    /// Let a release come again.
    Unveto {
        /// Its hash, or its beginning.
        release: String,
    },
    /// Wake an environment.
    Wake,
    /// Put an environment to sleep until somebody uses it.
    Sleep,
    /// Move the end of an environment.
    Extend {
        /// To when; never to an earlier end than it has.
        until: Timestamp,
    },
    /// Let an environment not end by itself.
    Pin,
    /// Let it end by itself again.
    Unpin,
    /// End an environment.
    Delete,
}

/// What a rollback goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// The last good deploy before the one that serves, with another snapshot.
    Previous,
    /// A deploy that succeeded here.
    Deploy(Uuid),
    /// What served at this instant.
    LastGoodBefore(Timestamp),
}

/// The verb that somebody must be allowed to use on the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Bring a release here.
    Promote,
    /// Go back.
    Rollback,
    /// Agree.
    Approve,
    /// Stop.
    Abort,
    /// Try again.
    Retry,
    /// Hold, resume, veto and unveto.
    Hold,
    /// Change an environment: wake, sleep, extend, pin and unpin.
    Update,
    /// End an environment.
    Delete,
}

impl Verb {
    /// Every verb of stages.
    pub const ALL: [Self; 6] = [Self::Promote, Self::Rollback, Self::Approve, Self::Abort, Self::Retry, Self::Hold];

    /// The word in Kubernetes roles.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Approve => "approve",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Action {
    /// What somebody must be allowed to do to ask for it.
    pub const fn verb(&self) -> Verb {
        match self {
            Self::Promote { .. } => Verb::Promote,
            Self::Rollback { .. } => Verb::Rollback,
            Self::Approve { .. } => Verb::Approve,
            Self::Abort { .. } => Verb::Abort,
            Self::Retry { .. } => Verb::Retry,
            Self::Hold { .. } | Self::Resume { .. } | Self::Veto { .. } | Self::Unveto { .. } => Verb::Hold,
            Self::Wake | Self::Sleep | Self::Extend { .. } | Self::Pin | Self::Unpin => Verb::Update,
            Self::Delete => Verb::Delete,
        }
    }

    /// Its word: in JSON, in the audit log and on the command line.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Promote { .. } => "promote",
            Self::Rollback { .. } => "rollback",
            Self::Approve { .. } => "approve",
            Self::Abort { .. } => "abort",
            Self::Retry { .. } => "retry",
            Self::Hold { .. } => "hold",
            Self::Resume { .. } => "resume",
            Self::Veto { .. } => "veto",
            Self::Unveto { .. } => "unveto",
            Self::Wake => "wake",
            Self::Sleep => "sleep",
            Self::Extend { .. } => "extend",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Delete => "delete",
        }
    }

    /// Whether only environments can be asked for it.
    pub const fn is_of_environments(&self) -> bool {
        matches!(self.verb(), Verb::Update | Verb::Delete)
    }

    /// Whether it passes over what protects a stage, so that it is not done without a reason.
    pub const fn needs_reason(&self) -> bool {
        matches!(self, Self::Promote { emergency: true, .. } | Self::Hold { .. } | Self::Veto { .. })
    }
}

/// The way on which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Via {
    /// The HTTP API.
    Api,
    /// The command line, straight to the database.
    Cli,
    /// An annotation of the Stage.
    Annotation,
}

impl Via {
    /// The word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cli => "cli",
            Self::Annotation => "annotation",
        }
    }
}

impl FromStr for Via {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Api, Self::Cli, Self::Annotation];
        all.into_iter().find(|via| via.word() == word).ok_or_else(|| format!("`{word}` is no way for a request"))
    }
}

/// How a request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// On which way.
    pub via: Via,
    /// Whether it is certain that the actor asked: somebody else than they vouches for it.
    pub verified: bool,
    /// The address that it came from.
    pub source: Option<String>,
    /// What the caller, or the port, calls it.
    pub request_id: Option<String>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestState {
    /// It waits for the leader.
    Pending,
    /// What was asked is so, or is a deploy now.
    Done,
    /// It cannot be done; the sentence says why.
    Refused,
}

impl RequestState {
    /// The word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for RequestState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Pending, Self::Done, Self::Refused];
        all.into_iter().find(|state| state.word() == word).ok_or_else(|| format!("`{word}` is no state of a request"))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn actions_are_written_as_people_would_write_them() {
        let deploy = Uuid::from_u128(1);
        let cases = [
            (Action::Promote { release: None, from: None, emergency: false }, json!({"action": "promote"})),
            (Action::Rollback { to: Destination::Previous }, json!({"action": "rollback", "to": "previous"})),
            (
                Action::Rollback { to: Destination::Deploy(deploy) },
                json!({"action": "rollback", "to": {"deploy": deploy}}),
            ),
            (
                Action::Rollback { to: Destination::LastGoodBefore(Timestamp::UNIX_EPOCH) },
                json!({"action": "rollback", "to": {"lastGoodBefore": "1970-01-01T00:00:00Z"}}),
            ),
            (Action::Abort { deploy: None }, json!({"action": "abort"})),
            (Action::Unveto { release: "abc".into() }, json!({"action": "unveto", "release": "abc"})),
        ];
        for (action, written) in cases {
            assert_eq!(serde_json::to_value(&action).unwrap(), written);
            assert_eq!(serde_json::from_value::<Action>(written).unwrap(), action);
        }
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for wrong in
            [json!({"action": "promote", "realease": "x"}), json!({"action": "explode"}), json!({"to": "previous"})]
        {
            assert!(serde_json::from_value::<Action>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
