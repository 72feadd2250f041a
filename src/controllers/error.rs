//! Errors that know how they are handled.

use std::time::Duration;

use crate::{
    cluster::error::{ApiError, Class as ApiClass},
    domain::deploy::Problem,
    store::{Class as StoreClass, StoreError},
};

/// What a failed pass does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing helps but a change of the spec or of the cluster's permissions; it is looked at again rarely.
    Stalled,
    /// Somebody else was faster, or a process is being replaced: observe again at once.
    Conflict,
    /// The database is away.
    StoreAway,
    /// Retry with backoff.
    Transient,
}

/// How long something that only a person can mend rests before it is looked at again.
pub const STALLED_REST: Duration = Duration::from_secs(30);

/// Why a pass could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ApiError),
    /// A stored snapshot cannot be read back.
    #[error("snapshot {snapshot} cannot be read: {message}; it was written by another version")]
    Snapshot {
        /// Its hash.
        snapshot: String,
        /// What the reader said.
        message: String,
    },
    /// What is sealed cannot be opened, or is not there.
    #[error("{message}")]
    Sealed {
        /// One `CamelCase` word.
        reason: &'static str,
        /// What, where and what to do next; nothing of a value.
        message: String,
    },
    /// This process is not the leader any more.
    #[error("leadership was lost; the next leader goes on")]
    Deposed,
}

impl Error {
    /// How it is handled.
    pub fn class(&self) -> Class {
        match self {
            Self::Store(error) => match error.class() {
                StoreClass::Unavailable => Class::StoreAway,
                StoreClass::Conflict => Class::Conflict,
                StoreClass::Taken => Class::Stalled,
                _ => Class::Transient,
            },
            Self::Cluster(error) => match error.class() {
                ApiClass::Conflict | ApiClass::NotFound => Class::Conflict,
                ApiClass::Transient => Class::Transient,
                _ => Class::Stalled,
            },
            Self::Snapshot { .. } | Self::Sealed { .. } => Class::Stalled,
            Self::Deposed => Class::Conflict,
        }
    }

    /// What will go on being refused until somebody changes something.
    pub fn refusal(&self) -> Option<Problem> {
        match self {
            Self::Cluster(error) if self.class() == Class::Stalled => {
                Some(Problem { reason: error.reason().into(), message: error.to_string(), fatal: false })
            }
            Self::Sealed { reason, message } => {
                Some(Problem { reason: (*reason).into(), message: message.clone(), fatal: false })
            }
            _ => None,
        }
    }

    /// One static `CamelCase` word for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.reason(),
            Self::Cluster(error) => error.reason(),
            Self::Snapshot { .. } => "SnapshotUnreadable",
            Self::Sealed { reason, .. } => reason,
            Self::Deposed => "Deposed",
        }
    }
}
