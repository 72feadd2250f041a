//! The image book against a registry that only remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::domain::clock::SystemClock;

mod restarts;
mod turns;

struct Script {
    answers: Mutex<VecDeque<Result<Reply, Refusal>>>,
    asked: AtomicUsize,
}

impl Script {
    fn empty() -> Self {
        Self { answers: Mutex::default(), asked: AtomicUsize::new(0) }
    }
}

impl Asker for Script {
    fn ask(&self, _: Asked) -> BoxFuture<'static, Result<Reply, Refusal>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop_front().expect("asked more often than scripted");
        async move { answer }.boxed()
    }
}

fn tags(list: &[&str]) -> Reply {
    Reply::Tags(list.iter().collect(), None)
}

/// What a book knows of tags that it believes.
#[expect(clippy::unnecessary_wraps, reason = "compared with what is known, if anything")]
fn listed(list: &[&str]) -> Option<Answer> {
    Some(Answer::Tags(Arc::new(Listing::new(list.iter().collect()))))
}

fn refusal() -> Refusal {
    Refusal { reason: "RegistryUnreachable", message: "registry is away".into(), transient: true, retry_after: None }
}

fn question() -> Question {
    Question { repository: "r.test/shop/web".parse().unwrap(), insecure: false, login: None, about: About::Tags }
}

fn stage(name: &str) -> Subscriber {
    ("shop".into(), name.into())
}

#[tokio::test(start_paused = true)]
async fn one_question_serves_all_stages_and_a_failure_keeps_the_last_answer() {
    let (told_tx, mut told) = tokio::sync::mpsc::unbounded_channel();
    let book = Arc::new(ImageBook::new(move |subscriber: &Subscriber| told_tx.send(subscriber.clone()).unwrap()));
    let script = Arc::new(Script {
        answers: Mutex::new(VecDeque::from([Ok(tags(&["1.0.0"])), Err(refusal()), Ok(tags(&["1.0.0", "1.1.0"]))])),
        asked: AtomicUsize::new(0),
    });
    for name in ["dev", "prod"] {
        book.subscribe(&stage(name), &BTreeMap::from([(question(), Wish::every(Some(Duration::from_mins(5))))]));
    }
    let stop = CancellationToken::new();
    let worker =
        tokio::spawn(book.clone().run(script.clone(), Arc::new(SystemClock), Arc::new(|_| {}), 4, stop.clone()));
    let mut both = BTreeSet::from([told.recv().await.unwrap(), told.recv().await.unwrap()]);
    assert_eq!(both.len(), 2, "each subscriber is told once");
    assert_eq!(script.asked.load(Ordering::SeqCst), 1, "two stages, one question");
    assert_eq!(book.known(&question()).answer, listed(&["1.0.0"]));

    both = BTreeSet::from([told.recv().await.unwrap(), told.recv().await.unwrap()]);
    assert_eq!(both.len(), 2);
    let known = book.known(&question());
    assert_eq!(known.refusal, Some(refusal()));
    assert_eq!(known.answer, listed(&["1.0.0"]), "an outage does not look like an empty repository");

    told.recv().await.unwrap();
    let known = book.known(&question());
    assert_eq!((known.refusal, known.answer), (None, listed(&["1.0.0", "1.1.0"])));
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_question_nobody_asks_any_more_is_forgotten() {
    let book = ImageBook::new(|_| {});
    book.subscribe(&stage("dev"), &BTreeMap::from([(question(), Wish::every(None))]));
    let asked = book.take_due(&Script::empty()).unwrap();
    assert_eq!(*asked.question, question());
    book.subscribe(&stage("dev"), &BTreeMap::new());
    book.answered(&asked.question, Ok(tags(&["1.0.0"])), Timestamp::UNIX_EPOCH);
    assert_eq!(book.known(&question()), Known::default());
    assert!(book.lock().wishes.is_empty() && book.lock().entries.is_empty() && book.lock().repositories.is_empty());
}
