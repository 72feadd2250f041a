//! What of the book outlives the process: answers as rows, and rows as answers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    About, Answer, Dates, ImageBook, Inner, Known, Listing, Question, Refusal, Subscriber, TagList, entry::Entry,
};
use crate::store::ImageScan;

/// The time of a scan that answered what is stored is brought up to date when it is older than this.
const STALE: SignedDuration = SignedDuration::from_hours(1);

/// How long stored answers wait for somebody who asks.
const RECALL: Duration = Duration::from_mins(10);

/// Bytes that one statement carries, about.
const STATEMENT: usize = 4 << 20;

/// What is known to be stored of a question.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// Time of the scan that is stored.
    pub(super) at: Option<Timestamp>,
    /// How many times a person accepted a listing.
    pub(super) accepts: i64,
}

/// Answers to questions that nobody asks, by their key, until somebody does: those of an earlier process, and those that
/// were asked until a moment ago.
#[derive(Default)]
pub(super) struct Recalled(HashMap<String, Recollection>);

struct Recollection {
    known: Known,
    validator: Option<String>,
    accepts: i64,
    scanned_at: Timestamp,
    /// Since when it is kept, by both clocks.
    since: (Instant, Timestamp),
}

impl Recalled {
    /// What is known about a question that nobody has asked yet in this process.
    pub(super) fn known(&self, question: &Question) -> Known {
        if self.0.is_empty() {
            return Known::default();
        }
        self.0.get(&question.key().hex()).map(|one| one.known.clone()).unwrap_or_default()
    }

    /// Fills an entry with what is known, and says when to ask again.
    pub(super) fn fill(&mut self, question: &Question, entry: &mut Entry, now: Instant) -> Option<Instant> {
        let found = if self.0.is_empty() { None } else { self.0.remove(&question.key().hex()) };
        let Some(found) = found else {
            return Some(now);
        };
        let (since, time) = found.since;
        entry.known = found.known;
        entry.validator = found.validator;
        entry.scanned_at = Some(found.scanned_at);
        entry.stored = Stored { at: Some(found.scanned_at), accepts: found.accepts };
        let time = time.saturating_add(now.duration_since(since)).unwrap_or(time);
        entry.due_after(question, now, time)
    }

    /// Keeps for a while what nobody asks any more: a Stage that is corrected or made again goes on with the listing that
    /// was believed.
    pub(super) fn keep(&mut self, question: &Question, entry: Entry) {
        if question.about == About::Tags
            && let (Some(asked), Some(scanned_at)) = (entry.asked, entry.scanned_at)
        {
            let since = (asked, scanned_at);
            let Entry { known, validator, stored: Stored { accepts, .. }, .. } = entry;
            self.0.insert(question.key().hex(), Recollection { known, validator, accepts, scanned_at, since });
        }
    }

    /// Forgets what nobody asked for in time.
    fn sweep(&mut self) {
        self.0.retain(|_, one| one.since.0.elapsed() <= RECALL);
    }
}

impl ImageBook {
    /// Takes what was stored by whoever led before, at the beginning of a term.
    pub fn recall(&self, scans: Vec<ImageScan>, now: Timestamp) {
        let since = (Instant::now(), now);
        let answers = scans.into_iter().map(|scan| (scan.key.clone(), Recollection::of(scan, since)));
        self.lock().recalled = Recalled(answers.collect());
    }

    /// Waits until there is something to store.
    pub async fn unstored(&self) {
        self.unstored.notified().await;
    }

    /// Another try, if something is not stored.
    pub fn store_again(&self) {
        if !self.lock().dirty.is_empty() {
            self.unstored.notify_one();
        }
    }

    /// Answers that are not stored yet, at most `limit` of them; they count as stored from now on.
    pub fn take_unstored(&self, limit: usize) -> Vec<ImageScan> {
        let mut inner = self.lock();
        let mut rows = Vec::new();
        let mut size = 0;
        while rows.len() < limit && size < STATEMENT {
            let Some(question) = inner.dirty.pop_first() else { break };
            let Some(row) = inner.entries.get_mut(&question).and_then(|entry| row(&question, entry)) else { continue };
            size += row.tags.as_ref().map_or(0, String::len) + row.accepted.as_ref().map_or(0, String::len);
            rows.push(row);
        }
        rows
    }

    /// These could not be stored: they are to be stored again.
    pub fn not_stored(&self, rows: &[ImageScan]) {
        let keys: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let mut inner = self.lock();
        let of: Vec<Arc<Question>> =
            inner.entries.keys().filter(|question| keys.contains(question.key().hex().as_str())).cloned().collect();
        inner.dirty.extend(of);
    }

    /// Answers that are what is stored and whose stored time is old, with the time of their last scan; it counts as stored
    /// from now on.
    pub fn take_stale(&self) -> Vec<(String, Timestamp)> {
        let mut inner = self.lock();
        inner.recalled.sweep();
        let stale = inner.entries.iter_mut().filter_map(|(question, entry)| {
            let (scanned, stored) = (entry.scanned_at?, entry.stored.at?);
            let interval = SignedDuration::try_from(entry.interval.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
            if scanned.duration_since(stored) <= STALE.max(interval) {
                return None;
            }
            entry.stored.at = Some(scanned);
            Some((question.key().hex(), scanned))
        });
        stale.collect()
    }

    /// How many listings are not believed.
    pub fn frozen(&self) -> usize {
        self.lock().entries.values().filter(|entry| entry.is_frozen()).count()
    }

    /// Keys of the questions whose listings are not believed.
    pub fn frozen_keys(&self) -> Vec<String> {
        let inner = self.lock();
        inner.entries.iter().filter(|(_, entry)| entry.is_frozen()).map(|(question, _)| question.key().hex()).collect()
    }

    /// A person accepted a listing, as it is stored.
    pub fn accept(&self, scan: &ImageScan) {
        let mut inner = self.lock();
        let of = |(question, entry): &(&Arc<Question>, &mut Entry)| {
            question.about == About::Tags && scan.accepts > entry.stored.accepts && question.key().hex() == scan.key
        };
        let Some((question, entry)) = inner.entries.iter_mut().find(of) else {
            return;
        };
        entry.stored.accepts = scan.accepts;
        let accepted = scan.accepted.as_ref().or(scan.tags.as_ref());
        let (Some(Answer::Tags(listing)), Some(accepted)) = (&entry.known.answer, accepted) else {
            return;
        };
        let accepted = Listing::of(listing.tags().clone(), Arc::new(TagList::from_lines(accepted)));
        let listing = if accepted.loss().exceeds(entry.max_loss) { accepted } else { accepted.believed() };
        entry.known.answer = Some(Answer::Tags(Arc::new(listing)));
        let told: Vec<Subscriber> = entry.subscribers.keys().cloned().collect();
        let question = question.clone();
        inner.dirty.insert(question);
        drop(inner);
        self.unstored.notify_one();
        for subscriber in &told {
            (self.trigger)(subscriber);
        }
    }
}

impl Inner {
    /// Notes that an answer is to be stored.
    pub(super) fn store(&mut self, question: &Arc<Question>) {
        self.dirty.insert(question.clone());
    }
}

/// The row of a question that was asked.
fn row(question: &Question, entry: &mut Entry) -> Option<ImageScan> {
    let scanned_at = entry.scanned_at?;
    entry.stored.at = Some(scanned_at);
    let login = question.login.as_ref();
    let known = &entry.known;
    let (mut tags, mut accepted, mut digest, mut dates) = (None, None, None, None);
    match &known.answer {
        Some(Answer::Tags(listing)) => {
            tags = Some(listing.tags().lines().to_owned());
            accepted = (!listing.is_believed()).then(|| listing.accepted().lines().to_owned());
        }
        Some(Answer::Digest(found)) => digest = Some(found.to_string()),
        Some(Answer::Dates(found)) => dates = serde_json::to_value(&**found).ok(),
        None => {}
    }
    Some(ImageScan {
        key: question.key().hex(),
        repository: question.repository.to_string(),
        login: login.map(|of| format!("{}/{}/{}", of.namespace, of.project, of.credential)),
        about: question.about.word().into(),
        tag: question.about.tag().map(Into::into),
        platform: question.about.platform().map(ToString::to_string),
        tags,
        accepted,
        accepts: entry.stored.accepts,
        validator: entry.validator.clone(),
        digest,
        dates,
        since: known.since,
        reason: known.refusal.as_ref().map(|refusal| refusal.reason.to_owned()),
        message: known.refusal.as_ref().map(|refusal| refusal.message.clone()),
        transient: known.refusal.as_ref().is_some_and(|refusal| refusal.transient),
        scanned_at,
    })
}

impl Recollection {
    fn of(scan: ImageScan, since: (Instant, Timestamp)) -> Self {
        let (validator, accepts, scanned_at) = (scan.validator.clone(), scan.accepts, scan.scanned_at);
        Self { known: known(scan), validator, accepts, scanned_at, since }
    }
}

/// What a row says, as it was known to whoever stored it. What cannot be read is not known.
pub fn known(scan: ImageScan) -> Known {
    let answer = if let Some(tags) = &scan.tags {
        let tags = Arc::new(TagList::from_lines(tags));
        let accepted = scan.accepted.as_ref().map(|lines| Arc::new(TagList::from_lines(lines)));
        let accepted = accepted.filter(|accepted| *accepted != tags).unwrap_or_else(|| tags.clone());
        Some(Answer::Tags(Arc::new(Listing::of(tags, accepted))))
    } else if let Some(digest) = &scan.digest {
        digest.parse().ok().map(Answer::Digest)
    } else {
        let dates = scan.dates.and_then(|dates| serde_json::from_value::<Dates>(dates).ok());
        dates.map(|dates| Answer::Dates(Arc::new(dates)))
    };
    let refusal =
        scan.reason.and_then(|reason| Refusal::recalled(&reason, scan.message.unwrap_or_default(), scan.transient));
    Known { answer, since: scan.since, refusal }
}
