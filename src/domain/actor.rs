//! Who caused something.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Who caused a deploy, a transition or an audit entry; written as one word with an optional name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Actor {
    /// A person or service account, by name: `user:jane`.
    User(String),
    /// A group action over several stages: `group`.
    Group,
    /// A declared policy, such as an image policy or automatic rollback: `policy`.
    Policy,
    /// A webhook, by source: `webhook:harbor`.
    Webhook(String),
    /// The controller itself: `controller`.
    Controller,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group => f.write_str("group"),
            Self::Policy => f.write_str("policy"),
            Self::Webhook(source) => write!(f, "webhook:{source}"),
            Self::Controller => f.write_str("controller"),
        }
    }
}

/// A text that names no actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an actor: expected user:NAME, group, policy, webhook:SOURCE or controller")]
pub struct UnknownActor(String);

impl FromStr for Actor {
    type Err = UnknownActor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("user", name)) if !name.is_empty() => Ok(Self::User(name.into())),
            Some(("webhook", source)) if !source.is_empty() => Ok(Self::Webhook(source.into())),
            None if text == "group" => Ok(Self::Group),
            None if text == "policy" => Ok(Self::Policy),
            None if text == "controller" => Ok(Self::Controller),
            _ => Err(UnknownActor(text.into())),
        }
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

impl TryFrom<String> for Actor {
    type Error = UnknownActor;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_actor_reads_back_as_written() {
        for actor in [
            Actor::User("jane@acme.test".into()),
            Actor::Group,
            Actor::Policy,
            Actor::Webhook("harbor".into()),
            Actor::Controller,
        ] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
    }

    #[test]
    fn an_actor_without_its_name_is_refused() {
        for text in ["", "user", "user:", "webhook:", "root", "group:x"] {
            assert!(text.parse::<Actor>().is_err(), "{text:?} was accepted");
        }
    }
}
