//! How often the rest is told.

use std::{
    sync::atomic::{AtomicBool, AtomicI64},
    time::Instant as StdInstant,
};

use super::*;
use crate::{
    edge::table::{EnvironmentView, Objects},
    telemetry::Metrics,
};

/// Counts what it is told, and refuses it while it is down.
#[derive(Default)]
struct Counting {
    down: AtomicBool,
    touches: Mutex<Vec<Vec<String>>>,
    wakes: Mutex<Vec<String>>,
}

impl Counting {
    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) { Err(StoreError::Unavailable("it is down".into())) } else { Ok(()) }
    }
}

impl Records for Counting {
    fn touch<'a>(&'a self, seen: &'a [(String, Timestamp)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.up()?;
            self.touches.lock().unwrap().push(seen.iter().map(|(subdomain, _)| subdomain.clone()).collect());
            Ok(())
        })
    }

    fn wake<'a>(&'a self, subdomain: &'a str, _: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.up()?;
            self.wakes.lock().unwrap().push(subdomain.into());
            Ok(())
        })
    }
}

struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn waker() -> (Waker, Arc<Counting>, Arc<Hands>) {
    let (records, clock) = (Arc::new(Counting::default()), Arc::new(Hands(AtomicI64::new(1_000_000))));
    (Waker::new(records.clone(), clock.clone(), Metrics::default().edge()), records, clock)
}

fn objects(subdomains: &[&str]) -> Objects {
    let mut objects = Objects::default();
    for subdomain in subdomains {
        let view = EnvironmentView {
            subdomain: (*subdomain).into(),
            hosts: vec![format!("{subdomain}.test")],
            phase: Phase::Asleep,
            ..EnvironmentView::default()
        };
        objects.environments.insert(("acme".into(), (*subdomain).into()), view);
    }
    objects
}

fn table(subdomains: &[&str]) -> Table {
    Table::build(&objects(subdomains), &Table::default(), StdInstant::now())
}

fn preview(table: &Table, at: usize) -> Arc<Preview> {
    table.previews().nth(at).unwrap().clone()
}

/// Lets tasks run until there is nothing to be done but to wait.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_are_one_wake_and_asking_again_needs_time() {
    let (waker, records, _) = waker();
    let table = table(&["a", "b"]);
    assert!(!waker.has_asked("a"));
    for _ in 0..1000 {
        waker.wake(&preview(&table, 0));
    }
    waker.wake(&preview(&table, 1));
    settle().await;
    let wakes = || records.wakes.lock().unwrap().clone();
    assert_eq!(wakes(), ["a", "b"]);
    waker.wake(&preview(&table, 0));
    settle().await;
    assert_eq!(wakes().len(), 2);
    tokio::time::advance(ASK_AGAIN).await;
    waker.wake(&preview(&table, 0));
    settle().await;
    assert_eq!(wakes(), ["a", "b", "a"]);
    assert!(waker.has_asked("a"));
}

#[tokio::test(start_paused = true)]
async fn what_was_awake_since_is_asked_for_at_once() {
    let (waker, records, _) = waker();
    let mut objects = objects(&["a"]);
    let mut before = Table::default();
    for (phase, wakes) in [(Phase::Asleep, 1), (Phase::Ready, 1), (Phase::Asleep, 2), (Phase::Asleep, 2)] {
        let view = objects.environments.values_mut().next().unwrap();
        (view.phase, view.awake) = (phase, phase == Phase::Ready);
        before = Table::build(&objects, &before, StdInstant::now());
        if phase == Phase::Asleep {
            waker.wake(&preview(&before, 0));
        }
        settle().await;
        assert_eq!(records.wakes.lock().unwrap().len(), wakes, "{phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_is_tried_again_while_the_database_is_down() {
    let (waker, records, _) = waker();
    let table = table(&["a"]);
    records.down.store(true, Ordering::SeqCst);
    waker.wake(&preview(&table, 0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    waker.wake(&preview(&table, 0));
    assert!(records.wakes.lock().unwrap().is_empty() && waker.has_asked("a"));
    records.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(*records.wakes.lock().unwrap(), ["a"]);
}

#[tokio::test]
async fn visits_are_written_together_and_once_a_minute() {
    let (waker, records, clock) = waker();
    let table = table(&["a", "b", "c"]);
    let visit = |which: &[usize]| {
        for at in which {
            table.previews().nth(*at).unwrap().visited();
        }
    };
    let touches = || records.touches.lock().unwrap().clone();
    waker.write_visits(&table).await;
    assert!(touches().is_empty(), "nobody was here");
    visit(&[0, 1, 0]);
    waker.write_visits(&table).await;
    assert_eq!(touches(), [["a", "b"]]);
    visit(&[0, 2]);
    waker.write_visits(&table).await;
    assert_eq!(touches()[1..], [["c"]], "a was written down a moment ago");
    clock.0.fetch_add(APART, Ordering::SeqCst);
    waker.write_visits(&table).await;
    assert_eq!(touches()[2..], [["a"]], "and is not forgotten");

    clock.0.fetch_add(APART, Ordering::SeqCst);
    visit(&[1]);
    records.down.store(true, Ordering::SeqCst);
    waker.write_visits(&table).await;
    records.down.store(false, Ordering::SeqCst);
    waker.write_visits(&table).await;
    assert_eq!(touches()[3..], [["b"]], "told later");
}
