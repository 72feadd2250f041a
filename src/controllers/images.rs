//! What the registries say: one question per repository or tag, however many stages ask it.
//!
//! Stages subscribe to questions and read answers from memory; a worker asks the registries when a question is due
//! and triggers the subscribers whose answer changed. A failed question keeps its last answer: an outage never
//! looks like an empty repository. A listing that lost too much is kept beside the one that was believed before
//! (`listing`), and nothing is chosen from either. Whose turn it is, `schedule` says.

mod answer;
mod dates;
mod entry;
mod keep;
mod listing;
mod question;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::{
    answer::{Answer, Known, MAX_TAG_LOSS, Refusal, Reply, Wish},
    dates::{Dates, Sighting},
    keep::known as recalled,
    listing::{Listing, Loss, TagList},
    question::{About, LoginRef, Question},
};
use self::{
    entry::{Entry, jittered},
    keep::Recalled,
    schedule::Schedule,
};
use super::backoff;
use crate::domain::{clock::Clock, image::Repository};

/// Called with the result of every scan: `success` or the reason of the refusal.
pub type Counted = Arc<dyn Fn(&'static str) + Send + Sync>;

/// A question as it is put, with what its answer may lean on.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The question.
    pub question: Arc<Question>,
    /// What the registry called the listing that is known.
    pub validator: Option<String>,
    /// What is known of dates.
    pub dates: Arc<Dates>,
    /// The tags whose dates are wanted.
    pub dated: Arc<[String]>,
}

/// Whoever can ask a registry. A trait, so that tests can answer in its place.
pub trait Asker: Send + Sync + 'static {
    /// Asks once.
    fn ask(&self, asked: Asked) -> BoxFuture<'static, Result<Reply, Refusal>>;

    /// When the registry of this repository may be asked, if not now.
    fn ready_at(&self, _repository: &Repository) -> Option<Instant> {
        None
    }
}

/// Namespace and name of a stage, or of a project behind [`PROJECT`].
pub type Subscriber = (String, String);

/// Marks the name of a project. No stage has a slash in its name.
pub const PROJECT: &str = "project/";

struct Inner {
    entries: HashMap<Arc<Question>, Entry>,
    /// Sorted by question.
    wishes: HashMap<Subscriber, Box<[(Arc<Question>, Wish)]>>,
    repositories: HashMap<Repository, BTreeSet<Arc<Question>>>,
    schedule: Schedule,
    /// What is not stored as it is known.
    dirty: BTreeSet<Arc<Question>>,
    recalled: Recalled,
}

/// The questions, their answers, and who wants to know.
pub struct ImageBook {
    inner: Mutex<Inner>,
    changed: Notify,
    unstored: Notify,
    trigger: Box<dyn Fn(&Subscriber) + Send + Sync>,
}

/// How long a question that was answered "no such thing" rests before it is asked again.
const NOT_FOUND_REST: Duration = Duration::from_secs(10);

/// A repository is not asked again earlier than this because of hints.
const HINT_REST: Duration = Duration::from_secs(2);

/// What was not asked because it was not its turn yet is tried again after this.
const POSTPONED: Duration = Duration::from_millis(200);

/// How soon the next dates are looked up while some are not known.
const DATES_REST: Duration = Duration::from_secs(10);

impl ImageBook {
    /// An empty book. `trigger` is called with every subscriber whose answer changed.
    pub fn new(trigger: impl Fn(&Subscriber) + Send + Sync + 'static) -> Self {
        let inner = Inner {
            entries: HashMap::new(),
            wishes: HashMap::new(),
            repositories: HashMap::new(),
            schedule: Schedule::new(1),
            dirty: BTreeSet::new(),
            recalled: Recalled::default(),
        };
        Self { inner: Mutex::new(inner), changed: Notify::new(), unstored: Notify::new(), trigger: Box::new(trigger) }
    }

    /// Replaces what `subscriber` wants to know, and how.
    pub fn subscribe(&self, subscriber: &Subscriber, wanted: &BTreeMap<Question, Wish>) {
        let mut inner = self.lock();
        // Most passes want what the one before wanted.
        let known = inner.wishes.get(subscriber).map_or(&[][..], |before| before);
        if known.iter().map(|(question, wish)| (&**question, wish)).eq(wanted) {
            return;
        }
        let before = inner.wishes.remove(subscriber).unwrap_or_default();
        for (question, _) in before.iter().filter(|(question, _)| !wanted.contains_key(&**question)) {
            inner.forget(question, subscriber);
        }
        let now = Instant::now();
        let wishes = wanted.iter().map(|(question, wish)| {
            let as_before = before.iter().find(|(known, known_wish)| **known == *question && known_wish == wish);
            let question = match as_before {
                Some((question, _)) => question.clone(),
                None => inner.want(question, subscriber, wish, now),
            };
            (question, wish.clone())
        });
        let wishes: Box<[_]> = wishes.collect();
        if !wishes.is_empty() {
            inner.wishes.insert(subscriber.clone(), wishes);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// What is known about `question`.
    pub fn known(&self, question: &Question) -> Known {
        let inner = self.lock();
        inner.entries.get(question).map_or_else(|| inner.recalled.known(question), |entry| entry.known.clone())
    }

    /// Somebody says that there is news in a repository: what is asked of it is due now, and how many questions that is.
    /// What is being asked is asked once more after that; and a repository is asked every two seconds at most, however
    /// many hints there are.
    pub fn hint(&self, repository: &Repository) -> usize {
        let mut inner = self.lock();
        let now = Instant::now();
        let questions = inner.repositories.get(repository).cloned().unwrap_or_default();
        let mut hinted = 0;
        for question in &questions {
            let Some(entry) = inner.entries.get_mut(question).filter(|entry| entry.is_watched()) else {
                continue;
            };
            hinted += 1;
            if entry.asking.is_some() {
                entry.again = true;
                continue;
            }
            let at = entry.soonest(now);
            let at = entry.due.map_or(at, |due| due.min(at));
            inner.moves(question, Some(at));
        }
        drop(inner);
        if hinted > 0 {
            self.changed.notify_one();
        }
        hinted
    }

    /// A project's credentials have changed: what was refused to whoever asked with them is asked again at once.
    pub fn ask_again(&self, namespace: &str, project: &str) {
        let mut inner = self.lock();
        let refused: Vec<Arc<Question>> = inner
            .entries
            .iter()
            .filter(|(question, entry)| {
                let login = question.login.as_ref();
                let theirs = login.is_some_and(|of| of.namespace == namespace && of.project == project);
                theirs && entry.known.refusal.is_some() && entry.asking.is_none()
            })
            .map(|(question, _)| question.clone())
            .collect();
        let now = Instant::now();
        for question in &refused {
            inner.moves(question, Some(now));
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Asks what is due, at most `concurrency` questions at a time, until `stop`.
    pub async fn run(
        self: Arc<Self>,
        asker: Arc<dyn Asker>,
        clock: Arc<dyn Clock>,
        counted: Counted,
        concurrency: usize,
        stop: CancellationToken,
    ) {
        self.lock().schedule.resize(concurrency);
        let mut running = FuturesUnordered::new();
        loop {
            while let Some(asked) = self.take_due(&*asker) {
                let question = asked.question.clone();
                running.push(asker.ask(asked).map(|result| (question, result)));
                // It begins at once, so that the next one is asked for only if there is a turn left.
                if let Some(Some((question, result))) = running.next().now_or_never() {
                    counted(word(&result));
                    self.answered(&question, result, clock.now());
                }
            }
            let next = self.lock().schedule.next(Instant::now());
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = timer => {}
                Some((question, result)) = running.next() => {
                    counted(word(&result));
                    self.answered(&question, result, clock.now());
                }
            }
        }
    }

    fn take_due(&self, asker: &dyn Asker) -> Option<Asked> {
        let now = Instant::now();
        let mut inner = self.lock();
        let (_, question) = inner.schedule.take(now, &|repository| asker.ready_at(repository))?;
        let entry = inner.entries.get_mut(&question)?;
        entry.asking = Some(now);
        entry.asked = Some(now);
        entry.due = None;
        let dates = match &entry.known.answer {
            Some(Answer::Dates(dates)) => dates.clone(),
            _ => Arc::default(),
        };
        let validator = entry.known.answer.as_ref().and(entry.validator.clone());
        let dated = entry.dated();
        Some(Asked { question, validator, dates, dated })
    }

    fn answered(&self, question: &Arc<Question>, result: Result<Reply, Refusal>, now: Timestamp) {
        let mut inner = self.lock();
        inner.schedule.ended(question);
        let Some(entry) = inner.entries.get_mut(question) else {
            return;
        };
        entry.asking = None;
        if result == Ok(Reply::Later) {
            // The host rests until then at least; and never in a circle, whatever it says.
            inner.moves(question, Some(Instant::now() + POSTPONED));
            return;
        }
        let before = entry.known.refusal.take();
        let mut news = entry.scanned_at.is_none();
        let rest = match result {
            Ok(reply) => {
                news |= entry.learn(reply, now);
                let soon = if entry.lacks_dates() { DATES_REST } else { Duration::MAX };
                entry.interval.map(|interval| jittered(interval, question).min(soon))
            }
            Err(refusal) => {
                entry.failures = entry.failures.saturating_add(1);
                let rest = backoff::delay(question.repository.path(), entry.failures);
                let rest = if refusal.transient { rest } else { rest.max(NOT_FOUND_REST) };
                let asked_for = refusal.retry_after.unwrap_or_default();
                entry.not_before = (!asked_for.is_zero()).then(|| Instant::now() + asked_for);
                entry.known.refusal = Some(refusal);
                Some(rest.max(asked_for))
            }
        };
        entry.scanned_at = Some(now);
        let word = |refusal: &Option<Refusal>| refusal.as_ref().map(|refusal| refusal.reason);
        let unstored = news || word(&before) != word(&entry.known.refusal);
        news |= before != entry.known.refusal;
        let time = Instant::now();
        let due =
            if std::mem::take(&mut entry.again) { Some(entry.soonest(time)) } else { rest.map(|rest| time + rest) };
        let told: Vec<Subscriber> = if news { entry.subscribers.keys().cloned().collect() } else { Vec::new() };
        inner.moves(question, due);
        if unstored {
            inner.store(question);
        }
        drop(inner);
        if unstored {
            self.unstored.notify_one();
        }
        for subscriber in &told {
            (self.trigger)(subscriber);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a scan ended, for those who count.
fn word(result: &Result<Reply, Refusal>) -> &'static str {
    match result {
        Ok(Reply::Later) => "postponed",
        Ok(_) => "success",
        Err(refusal) => refusal.reason,
    }
}

impl Inner {
    fn want(&mut self, question: &Question, subscriber: &Subscriber, wish: &Wish, now: Instant) -> Arc<Question> {
        let known = self.entries.get_key_value(question).map(|(question, _)| question.clone());
        let is_new = known.is_none();
        let question = known.unwrap_or_else(|| Arc::new(question.clone()));
        let entry = self.entries.entry(question.clone()).or_insert_with(Entry::new);
        entry.subscribers.insert(subscriber.clone(), wish.clone());
        entry.agree();
        let due = if is_new { self.recalled.fill(&question, entry, now) } else { entry.hurried(now) };
        entry.agree();
        if is_new {
            self.repositories.entry(question.repository.clone()).or_default().insert(question.clone());
        }
        self.moves(&question, due);
        question
    }

    fn forget(&mut self, question: &Question, subscriber: &Subscriber) {
        let Some(entry) = self.entries.get_mut(question) else {
            return;
        };
        entry.subscribers.remove(subscriber);
        entry.agree();
        if !entry.subscribers.is_empty() {
            return;
        }
        if let Some((question, entry)) = self.entries.remove_entry(question) {
            self.dirty.remove(&question);
            self.schedule.moves(&question, entry.due, None);
            if let Some(all) = self.repositories.get_mut(&question.repository) {
                all.remove(&question);
                if all.is_empty() {
                    self.repositories.remove(&question.repository);
                }
            }
            self.recalled.keep(&question, entry);
        }
    }

    /// Sets when a question is due.
    fn moves(&mut self, question: &Arc<Question>, to: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(question) {
            self.schedule.moves(question, entry.due, to);
            entry.due = to;
        }
    }
}

#[cfg(test)]
mod tests;
