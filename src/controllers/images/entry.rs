//! What is known about one question, who wants to know it, and when it is asked.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Answer, HINT_REST, Known, Listing, Question, Reply, Subscriber, Wish, keep::Stored};

/// Longest time over which the first questions after a restart are spread.
const SPREAD: Duration = Duration::from_mins(5);

/// What was refused is asked again within this time after a restart.
const SPREAD_REFUSED: Duration = Duration::from_secs(30);

/// One question.
pub(super) struct Entry {
    pub(super) known: Known,
    pub(super) failures: u32,
    /// What serves all subscribers, but for the dates.
    pub(super) interval: Option<Duration>,
    pub(super) max_loss: u8,
    pub(super) due: Option<Instant>,
    /// Since when it is being asked.
    pub(super) asking: Option<Instant>,
    /// When it was asked last.
    pub(super) asked: Option<Instant>,
    /// Somebody hinted at news while it was being asked.
    pub(super) again: bool,
    /// The registry wants to be left alone until then, whoever hints.
    pub(super) not_before: Option<Instant>,
    pub(super) subscribers: BTreeMap<Subscriber, Wish>,
    /// What the registry calls the listing that is known.
    pub(super) validator: Option<String>,
    pub(super) scanned_at: Option<Timestamp>,
    pub(super) stored: Stored,
}

impl Entry {
    pub(super) fn new() -> Self {
        Self {
            known: Known::default(),
            failures: 0,
            interval: None,
            max_loss: super::answer::MAX_TAG_LOSS,
            due: None,
            asking: None,
            asked: None,
            again: false,
            not_before: None,
            subscribers: BTreeMap::new(),
            validator: None,
            scanned_at: None,
            stored: Stored::default(),
        }
    }

    /// What all subscribers together want.
    pub(super) fn agree(&mut self) {
        let wishes = || self.subscribers.values();
        self.interval = wishes().filter_map(|wish| wish.interval).min();
        self.max_loss = wishes().map(|wish| wish.max_loss).min().unwrap_or(super::answer::MAX_TAG_LOSS);
        if let Some(Answer::Tags(listing)) = &self.known.answer
            && !listing.is_believed()
            && !listing.loss().exceeds(self.max_loss)
        {
            self.known.answer = Some(Answer::Tags(Arc::new(listing.believed())));
        }
    }

    /// When it is due now that somebody wants it more often: a shorter interval does not wait out the longer one.
    pub(super) fn hurried(&self, now: Instant) -> Option<Instant> {
        if self.asking.is_none() && self.lacks_dates() {
            let soon = self.soonest(now);
            return Some(self.due.map_or(soon, |due| due.min(soon)));
        }
        match (self.due, self.interval) {
            (Some(due), Some(interval)) => Some(due.min(now + interval)),
            (None, Some(_)) if self.asking.is_none() => Some(now),
            (due, _) => due,
        }
    }

    /// The earliest time at which a hint has it asked.
    pub(super) fn soonest(&self, now: Instant) -> Instant {
        let rested = self.asked.map_or(now, |asked| asked + HINT_REST);
        now.max(rested).max(self.not_before.unwrap_or(now))
    }

    /// The tags whose dates somebody wants.
    pub(super) fn dated(&self) -> Arc<[String]> {
        let mut wishes = self.subscribers.values().filter(|wish| wish.dated.is_some()).cloned();
        let first = wishes.next();
        first.and_then(|first| wishes.fold(first, |all, wish| all.and(&wish)).dated).unwrap_or_default()
    }

    /// Whether some of those dates were never looked up.
    pub(super) fn lacks_dates(&self) -> bool {
        match &self.known.answer {
            Some(Answer::Dates(dates)) => {
                let dated = self.dated();
                dates.read(&dated) < dated.len()
            }
            _ => false,
        }
    }

    /// Whether more of the listing is gone than may be.
    pub(super) fn is_frozen(&self) -> bool {
        matches!(&self.known.answer, Some(Answer::Tags(listing)) if !listing.is_believed())
    }

    /// Takes in what a registry answered; says whether it is something else than before.
    pub(super) fn learn(&mut self, reply: Reply, now: Timestamp) -> bool {
        self.failures = 0;
        self.not_before = None;
        let answer = match reply {
            Reply::Unchanged | Reply::Later => return false,
            Reply::Tags(tags, validator) => {
                self.validator = validator;
                Answer::Tags(Arc::new(match &self.known.answer {
                    Some(Answer::Tags(before)) => before.followed_by(tags, self.max_loss),
                    _ => Listing::new(tags),
                }))
            }
            Reply::Digest(digest) => Answer::Digest(digest),
            Reply::Dates(dates) => Answer::Dates(Arc::new(dates)),
        };
        let same = match (&self.known.answer, &answer) {
            (Some(Answer::Dates(before)), Answer::Dates(after)) => before.says_the_same_as(after),
            (before, after) => before.as_ref() == Some(after),
        };
        if !same {
            self.known.since = Some(now);
        }
        if !same || matches!(answer, Answer::Dates(_)) {
            self.known.answer = Some(answer);
        }
        !same
    }

    /// Whether there is anything left to ask.
    pub(super) fn is_watched(&self) -> bool {
        self.interval.is_some() || self.known.answer.is_none()
    }

    /// When an answer of an earlier process is asked for again: on schedule, and what is overdue not all at once.
    pub(super) fn due_after(&self, question: &Question, now: Instant, time: Timestamp) -> Option<Instant> {
        if self.known.answer.is_none() || self.known.refusal.is_some() {
            return Some(now + part(question, self.interval.unwrap_or(SPREAD_REFUSED).min(SPREAD_REFUSED)));
        }
        let interval = self.interval?;
        let rest = jittered(interval, question);
        let passed = self.scanned_at.map(|at| Duration::try_from(time.duration_since(at)).unwrap_or_default());
        let left = rest.saturating_sub(passed.unwrap_or(Duration::MAX));
        Some(now + if left.is_zero() { part(question, interval.min(SPREAD)) } else { left })
    }
}

/// The interval, up to a tenth longer by repository and login, so that equal intervals do not fall together.
pub(super) fn jittered(interval: Duration, question: &Question) -> Duration {
    interval + part(question, interval / 10)
}

/// A part of this time, by repository and login.
fn part(question: &Question, of: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (question.repository.path(), &question.login).hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
    of * thousandths / 1000
}
