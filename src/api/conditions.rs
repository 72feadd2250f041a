//! Conditions that every tool reads the same way: one [`Outcome`] in, the condition list out.
//!
//! kstatus (used by Flux, Helm and `kubectl wait`) decides by the first of `Reconciling=True` (in progress) and
//! `Stalled=True` (failed), else by `Ready`. So the two are never true together, and neither is present when done.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::status::bounded;

/// Type of the condition that says whether what is wanted is what runs.
pub const READY: &str = "Ready";
/// Type of the condition that is present and true while the operator is at work or waits for something that comes
/// by itself.
pub const RECONCILING: &str = "Reconciling";
/// Type of the condition that is present and true when nothing moves until a person acts.
pub const STALLED: &str = "Stalled";

/// How a reconciliation ended. `reason` is a `CamelCase` word for programs, `message` a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What is wanted is what runs.
    Ready {
        /// Why, in one word.
        reason: &'static str,
        /// Why, in a sentence.
        message: String,
    },
    /// The operator is at work, retries, or waits for something that comes by itself.
    Reconciling {
        /// What for, in one word.
        reason: &'static str,
        /// What for, in a sentence.
        message: String,
    },
    /// Nothing moves until a person acts: the message says how.
    Stalled {
        /// Why, in one word.
        reason: &'static str,
        /// Why, and the way out.
        message: String,
    },
}

impl Outcome {
    /// What is wanted is what runs.
    pub fn ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Ready { reason, message: message.into() }
    }

    /// The operator is at work, retries, or waits for something that comes by itself.
    pub fn reconciling(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Reconciling { reason, message: message.into() }
    }

    /// Nothing moves until a person acts.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Stalled { reason, message: message.into() }
    }

    /// The word for programs; also fit for a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Ready { reason, .. } | Self::Reconciling { reason, .. } | Self::Stalled { reason, .. } => reason,
        }
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        match self {
            Self::Ready { message, .. } | Self::Reconciling { message, .. } | Self::Stalled { message, .. } => message,
        }
    }

    /// The condition beside `Ready` that this outcome needs, if any, and the status of `Ready`.
    fn shape(&self) -> (Option<&'static str>, &'static str) {
        match self {
            Self::Ready { .. } => (None, "True"),
            Self::Reconciling { .. } => (Some(RECONCILING), "Unknown"),
            Self::Stalled { .. } => (Some(STALLED), "False"),
        }
    }
}

/// The condition list that tells `outcome`, for the spec of `generation`.
///
/// `current` is the list so far: conditions of other types stay as they are, and a condition whose status stays the
/// same keeps its transition time, so that an unchanged outcome gives an equal list. While reconciling, `Ready` is
/// `Unknown`; when stalled, `False`.
pub fn conditions(current: &[Condition], outcome: &Outcome, generation: i64, now: Timestamp) -> Vec<Condition> {
    let (negative, ready) = outcome.shape();
    let condition = |type_: &str, status: &str| Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: outcome.reason().to_owned(),
        message: outcome.message().to_owned(),
        observed_generation: Some(generation),
        last_transition_time: Time(now),
    };
    let mut list: Vec<Condition> =
        current.iter().filter(|c| ![RECONCILING, STALLED].contains(&c.type_.as_str())).cloned().collect();
    if let Some(type_) = negative {
        let before = current.iter().find(|c| c.type_ == type_);
        list.insert(0, following(before, condition(type_, "True")));
    }
    set(&mut list, condition(READY, ready));
    list
}

/// Puts one condition of the kind's own into the list: in the place of the one of the same type, whose transition
/// time it keeps if the status stays the same, or at the end.
pub fn set(list: &mut Vec<Condition>, new: Condition) {
    match list.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => *old = following(Some(old), new),
        None => list.push(following(None, new)),
    }
}

/// The condition of this type.
pub fn get<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|c| c.type_ == type_)
}

/// `new` as the successor of `before`. The time loses its fraction: the API carries whole seconds, and what is
/// read back has to equal what was written.
fn following(before: Option<&Condition>, mut new: Condition) -> Condition {
    new.message = bounded(new.message);
    new.last_transition_time = match before {
        Some(before) if before.status == new.status => before.last_transition_time.clone(),
        _ => Time(whole_seconds(new.last_transition_time.0)),
    };
    new
}

/// The instant without its fraction of a second.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
