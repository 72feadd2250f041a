//! What registries answer, or why they do not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    dates::Dates,
    listing::{Listing, TagList},
};
use crate::domain::image::Digest;

/// How much of a listing may be gone, in percent, before it is not believed, where nobody says otherwise.
pub const MAX_TAG_LOSS: u8 = 50;

/// What is known of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The tags of the repository, and what became of those that it had.
    Tags(Arc<Listing>),
    /// The digest that the tag points to.
    Digest(Digest),
    /// When the images of its tags were built, as far as they were looked at.
    Dates(Arc<Dates>),
}

/// What a registry answered just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What it answered before.
    Unchanged,
    /// It was not asked: it is not its turn yet.
    Later,
    /// All tags, and what the registry calls this listing, if it does.
    Tags(TagList, Option<String>),
    /// The digest that the tag points to.
    Digest(Digest),
    /// Everything that is known of the tags by now.
    Dates(Dates),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One `CamelCase` word: `TagNotFound`, `RegistryUnreachable`, …
    pub reason: &'static str,
    /// What, where and what to do next.
    pub message: String,
    /// Whether trying again soon may help.
    pub transient: bool,
    /// How long the registry asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// What is known about a question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The last good answer.
    pub answer: Option<Answer>,
    /// When it was first given.
    pub since: Option<Timestamp>,
    /// Why the last try failed, if it did.
    pub refusal: Option<Refusal>,
}

/// How somebody wants a question to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// At which interval to ask again; `None` asks until there is an answer, then no more.
    pub interval: Option<Duration>,
    /// How much of a listing may be gone at once and it is still believed, in percent.
    pub max_loss: u8,
    /// The tags, and digests, whose dates are wanted.
    pub dated: Option<Arc<[String]>>,
}

impl Wish {
    /// Asked again and again, or until there is an answer.
    pub fn every(interval: Option<Duration>) -> Self {
        Self { interval, max_loss: MAX_TAG_LOSS, dated: None }
    }

    /// What serves both.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let dated = match (self.dated, &other.dated) {
            (Some(mine), Some(theirs)) if mine != *theirs => {
                let all: BTreeSet<&String> = mine.iter().chain(theirs.iter()).collect();
                Some(all.into_iter().cloned().collect())
            }
            (mine, theirs) => mine.or_else(|| theirs.clone()),
        };
        Self {
            interval: self.interval.into_iter().chain(other.interval).min(),
            max_loss: self.max_loss.min(other.max_loss),
            dated,
        }
    }
}

/// Reasons that outlive the process: what is stored is one of these.
const REASONS: [&str; 23] = [
    "RegistrySettingsInvalid",
    "RegistryUnreachable",
    "RegistryUnavailable",
    "RegistryRateLimited",
    "RegistryDenied",
    "RegistryRealmRefused",
    "RepositoryNotFound",
    "TagNotFound",
    "PlatformMissing",
    "ImageUnsupported",
    "DigestMismatch",
    "RegistryAnswerMalformed",
    "RegistryAnswerTooLarge",
    "RegistryAnswerUnexpected",
    "RegistryOptionsInvalid",
    "NoEncryptionKeys",
    "CredentialMissing",
    "CredentialUnusable",
    "CredentialForAnotherHost",
    "CredentialExpired",
    "StoreUnavailable",
    "StoreUnwritable",
    "StoreFailed",
];

impl Refusal {
    /// One that was stored. None when its reason is of another version of this program: it is asked again then.
    pub fn recalled(reason: &str, message: String, transient: bool) -> Option<Self> {
        let reason = REASONS.into_iter().find(|known| *known == reason)?;
        Some(Self { reason, message, transient, retry_after: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_wishes_are_served_by_one_question() {
        let minute = Some(Duration::from_mins(1));
        let once = Wish::every(None);
        let often = Wish { interval: minute, max_loss: 10, dated: Some(["b".to_owned(), "c".into()].into()) };
        let both = once.clone().and(&often);
        assert_eq!(both, often);
        assert_eq!(often.clone().and(&once), often);
        let other =
            Wish { dated: Some(["a".to_owned(), "b".into()].into()), ..Wish::every(Some(Duration::from_hours(1))) };
        let all = often.and(&other);
        assert_eq!((all.interval, all.max_loss), (minute, 10));
        assert_eq!(all.dated.as_deref(), Some(&["a".to_owned(), "b".into(), "c".into()][..]));
    }
}
