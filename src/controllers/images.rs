//! What the registries say: one question per repository or tag, however many stages ask it.
//!
//! Stages subscribe to questions and read answers from memory; a worker asks the registries when a question is due
//! and triggers the subscribers whose answer changed. A failed question keeps its last answer: an outage never
//! looks like an empty repository.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backoff;
use crate::domain::{
    clock::Clock,
    image::{Digest, Platform, Repository},
};

/// Called with the result of every scan: `success` or the reason of the refusal.
pub type Counted = Arc<dyn Fn(&'static str) + Send + Sync>;

/// A question to a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The repository.
    pub repository: Repository,
    /// Whether plain HTTP was allowed.
    pub insecure: bool,
    /// As whom; nobody in particular if absent. Who may not read a repository learns nothing from who may.
    pub login: Option<LoginRef>,
    /// What is asked of it.
    pub about: About,
}

/// A credential, by where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginRef {
    /// Namespace of its project.
    pub namespace: String,
    /// Name of its project.
    pub project: String,
    /// Its name.
    pub credential: String,
}

/// What is asked of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// All its tags.
    Tags,
    /// What a tag points to, checked to have the platform.
    Tag(String, Option<Platform>),
}

/// What a registry answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The tags of the repository.
    Tags(Arc<[String]>),
    /// The digest that the tag points to.
    Digest(Digest),
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

/// Whoever can ask a registry. A trait, so that tests can answer in its place.
pub trait Asker: Send + Sync + 'static {
    /// Asks once.
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Refusal>>;
}

struct Entry {
    known: Known,
    failures: u32,
    /// The shortest interval that a subscriber wants; `None` asks until there is an answer, then no more.
    interval: Option<Duration>,
    due: Option<tokio::time::Instant>,
    asking: bool,
    subscribers: BTreeMap<Subscriber, Option<Duration>>,
}

/// Namespace and name of a stage, or of a project behind [`PROJECT`].
pub type Subscriber = (String, String);

/// Marks the name of a project. No stage has a slash in its name.
pub const PROJECT: &str = "project/";

#[derive(Default)]
struct Inner {
    entries: HashMap<Question, Entry>,
    questions: HashMap<Subscriber, BTreeSet<Question>>,
}

/// The questions, their answers, and who wants to know.
pub struct ImageBook {
    inner: Mutex<Inner>,
    changed: Notify,
    trigger: Box<dyn Fn(&Subscriber) + Send + Sync>,
}

/// How long a question that was answered "no such thing" rests before it is asked again.
const NOT_FOUND_REST: Duration = Duration::from_secs(10);

impl ImageBook {
    /// An empty book. `trigger` is called with every subscriber whose answer changed.
    pub fn new(trigger: impl Fn(&Subscriber) + Send + Sync + 'static) -> Self {
        Self { inner: Mutex::default(), changed: Notify::new(), trigger: Box::new(trigger) }
    }

    /// Replaces what `subscriber` wants to know; each question with the interval at which to ask again, if at all.
    pub fn subscribe(&self, subscriber: &Subscriber, wanted: &BTreeMap<Question, Option<Duration>>) {
        let mut inner = self.lock();
        let before = inner.questions.get(subscriber).cloned().unwrap_or_default();
        let mut changed = false;
        for question in before.iter().filter(|question| !wanted.contains_key(question)) {
            inner.forget(question, subscriber);
        }
        for (question, interval) in wanted {
            let entry = inner.entries.entry(question.clone()).or_insert_with(|| Entry {
                known: Known::default(),
                failures: 0,
                interval: None,
                due: Some(tokio::time::Instant::now()),
                asking: false,
                subscribers: BTreeMap::new(),
            });
            if entry.subscribers.get(subscriber) != Some(interval) {
                entry.subscribers.insert(subscriber.clone(), *interval);
                entry.interval = entry.subscribers.values().flatten().min().copied();
                entry.hurry();
                changed = true;
            }
        }
        if wanted.is_empty() {
            inner.questions.remove(subscriber);
        } else {
            inner.questions.insert(subscriber.clone(), wanted.keys().cloned().collect());
        }
        drop(inner);
        if changed {
            self.changed.notify_one();
        }
    }

    /// What is known about `question`.
    pub fn known(&self, question: &Question) -> Known {
        self.lock().entries.get(question).map(|entry| entry.known.clone()).unwrap_or_default()
    }

    /// A project's credentials have changed: what was refused to whoever asked with them is asked again at once.
    pub fn ask_again(&self, namespace: &str, project: &str) {
        let mut inner = self.lock();
        for (question, entry) in &mut inner.entries {
            let theirs = question.login.as_ref().is_some_and(|of| of.namespace == namespace && of.project == project);
            if theirs && entry.known.refusal.is_some() && !entry.asking {
                entry.due = Some(tokio::time::Instant::now());
            }
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
        let mut running = FuturesUnordered::new();
        loop {
            for question in self.take_due(concurrency.saturating_sub(running.len())) {
                let asked = asker.ask(question.clone());
                running.push(asked.map(|result| (question, result)));
            }
            let next = if running.len() < concurrency { self.next_due() } else { None };
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
                    counted(match &result {
                        Ok(_) => "success",
                        Err(refusal) => refusal.reason,
                    });
                    self.answered(&question, result, clock.now());
                }
            }
        }
    }

    fn take_due(&self, limit: usize) -> Vec<Question> {
        let now = tokio::time::Instant::now();
        let mut inner = self.lock();
        let mut due: Vec<_> = inner
            .entries
            .iter()
            .filter_map(|(question, entry)| entry.due.filter(|at| *at <= now && !entry.asking).map(|at| (at, question)))
            .collect();
        // The longest overdue first, so that one busy repository does not starve the others.
        due.sort();
        let due: Vec<Question> = due.into_iter().take(limit).map(|(_, question)| question.clone()).collect();
        for question in &due {
            if let Some(entry) = inner.entries.get_mut(question) {
                entry.asking = true;
                entry.due = None;
            }
        }
        due
    }

    fn next_due(&self) -> Option<tokio::time::Instant> {
        self.lock().entries.values().filter(|entry| !entry.asking).filter_map(|entry| entry.due).min()
    }

    fn answered(&self, question: &Question, result: Result<Answer, Refusal>, now: Timestamp) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(question) else {
            return;
        };
        entry.asking = false;
        let before = entry.known.clone();
        let rest = match result {
            Ok(answer) => {
                entry.failures = 0;
                entry.known.refusal = None;
                if entry.known.answer.as_ref() != Some(&answer) {
                    entry.known.answer = Some(answer);
                    entry.known.since = Some(now);
                }
                entry.interval.map(|interval| jittered(interval, question))
            }
            Err(refusal) => {
                entry.failures = entry.failures.saturating_add(1);
                let rest = backoff::delay(question.repository.path(), entry.failures);
                let rest = if refusal.transient { rest } else { rest.max(NOT_FOUND_REST) };
                let rest = rest.max(refusal.retry_after.unwrap_or_default());
                entry.known.refusal = Some(refusal);
                Some(rest)
            }
        };
        entry.due = rest.map(|rest| tokio::time::Instant::now() + rest);
        let told: Vec<Subscriber> =
            if entry.known == before { Vec::new() } else { entry.subscribers.keys().cloned().collect() };
        drop(inner);
        for subscriber in &told {
            (self.trigger)(subscriber);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, question: &Question, subscriber: &Subscriber) {
        let Some(entry) = self.entries.get_mut(question) else {
            return;
        };
        entry.subscribers.remove(subscriber);
        entry.interval = entry.subscribers.values().flatten().min().copied();
        if entry.subscribers.is_empty() {
            self.entries.remove(question);
        }
    }
}

impl Entry {
    /// A new subscriber with a shorter interval does not wait out the longer one.
    fn hurry(&mut self) {
        if let (Some(due), Some(interval)) = (self.due, self.interval) {
            self.due = Some(due.min(tokio::time::Instant::now() + interval));
        } else if !self.asking && self.due.is_none() && self.interval.is_some() {
            self.due = Some(tokio::time::Instant::now());
        }
    }
}

/// The interval, up to a tenth longer by repository, so that equal intervals do not fall together.
fn jittered(interval: Duration, question: &Question) -> Duration {
    let spread: u32 = question.repository.path().bytes().map(u32::from).sum::<u32>() % 11;
    interval + interval * spread / 100
}

#[cfg(test)]
mod tests;
