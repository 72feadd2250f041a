//! A book that takes up what another one knew.

use jiff::SignedDuration;

use super::{
    turns::{Bench, Line, hourly, of},
    *,
};

fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// The answer to the one question that is due.
fn answer(book: &ImageBook, result: Result<Reply, Refusal>, now: Timestamp) {
    let asked = book.take_due(&Script::empty()).expect("a question");
    book.answered(&asked.question, result, now);
}

/// A book that asked `questions`, and what it stores.
fn stored(questions: &BTreeMap<Question, Wish>, now: Timestamp) -> Vec<crate::store::ImageScan> {
    let book = ImageBook::new(|_| {});
    book.subscribe(&stage("dev"), questions);
    for _ in questions {
        answer(&book, Ok(Reply::Tags(["1.0.0"].iter().collect(), Some("\"etag\"".into()))), now);
    }
    book.take_unstored(10_000)
}

fn minutes(number: i64) -> SignedDuration {
    SignedDuration::from_mins(number)
}

#[tokio::test(start_paused = true)]
async fn a_restart_asks_only_what_is_due() {
    let wanted: BTreeMap<_, _> = (0..100).map(|n| (of(&format!("r.test/shop/web-{n}")), hourly())).collect();
    let rows = stored(&wanted, start());
    assert_eq!(rows.len(), 100);
    let line = Line::new(|_| Duration::from_millis(1));
    let book = ImageBook::new(|_| {});
    book.recall(rows, start() + minutes(30));
    let known = book.known(wanted.first_key_value().unwrap().0);
    assert_eq!(known.answer, listed(&["1.0.0"]), "known before anybody subscribes");
    let bench = Bench::start(book, &line, 8);
    bench.book.subscribe(&stage("dev"), &wanted);
    tokio::time::sleep(Duration::from_mins(29)).await;
    assert_eq!(line.count(), 0, "nothing was due");
    assert_eq!(bench.book.known(wanted.first_key_value().unwrap().0).answer, listed(&["1.0.0"]));
    tokio::time::sleep(Duration::from_mins(8)).await;
    assert_eq!(line.count(), 100, "each when its hour was over");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_overdue_after_a_restart_is_spread() {
    let often = Wish::every(Some(Duration::from_mins(5)));
    let wanted: BTreeMap<_, _> = (0..200).map(|n| (of(&format!("r.test/shop/web-{n}")), often.clone())).collect();
    let rows = stored(&wanted, start());
    let line = Line::new(|_| Duration::from_millis(1));
    let book = ImageBook::new(|_| {});
    book.recall(rows, start() + SignedDuration::from_hours(30));
    let bench = Bench::start(book, &line, 8);
    bench.book.subscribe(&stage("dev"), &wanted);
    bench.book.subscribe(&stage("new"), &BTreeMap::from([(of("r.test/shop/new"), often)]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let first = line.count();
    assert!((5..50).contains(&first), "a tenth of the time, and about a tenth of the questions: {first}");
    assert_eq!(
        bench.book.known(&of("r.test/shop/new")).answer,
        listed(&["1.0.0"]),
        "what nobody knows is asked at once"
    );
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(line.count() > 200);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_book_stores_nothing_but_times_and_those_rarely() {
    let book = ImageBook::new(|_| {});
    let often = Wish::every(Some(Duration::from_mins(5)));
    book.subscribe(&stage("dev"), &BTreeMap::from([(question(), often)]));
    let mut now = start();
    answer(&book, Ok(tags(&["1.0.0"])), now);
    assert_eq!(book.take_unstored(10).len(), 1);
    let mut touched = 0;
    for _ in 0..288 {
        tokio::time::sleep(Duration::from_mins(6)).await;
        now += minutes(6);
        answer(&book, Ok(tags(&["1.0.0"])), now);
        assert_eq!(book.take_unstored(10), [], "the same answer");
        let stale = book.take_stale();
        assert!(stale.iter().all(|(key, at)| *key == question().key().hex() && *at == now));
        touched += stale.len();
    }
    assert!((20..=27).contains(&touched), "about once an hour in 28.8 hours: {touched}");
    // An error is stored when it comes, and when it goes; not each time that it comes back.
    for (result, rows) in
        [(Err(refusal()), 1), (Err(refusal()), 0), (Ok(tags(&["1.0.0"])), 1), (Ok(Reply::Unchanged), 0)]
    {
        tokio::time::sleep(Duration::from_mins(6)).await;
        answer(&book, result, now);
        let stored = book.take_unstored(10);
        assert_eq!(stored.len(), rows);
        assert!(stored.iter().all(|row| row.tags.as_deref() == Some("1.0.0")), "an error takes nothing away");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_stored_is_stored_later() {
    let book = ImageBook::new(|_| {});
    book.subscribe(&stage("dev"), &BTreeMap::from([(question(), hourly())]));
    answer(&book, Ok(tags(&["1.0.0"])), start());
    let rows = book.take_unstored(10);
    assert_eq!(book.take_unstored(10), []);
    book.not_stored(&rows);
    assert_eq!(book.take_unstored(10), rows);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_shrank_is_not_believed_by_the_next_process_either() {
    let (told_tx, mut told) = tokio::sync::mpsc::unbounded_channel();
    let book = ImageBook::new(|_| {});
    let wanted = BTreeMap::from([(question(), hourly())]);
    book.subscribe(&stage("dev"), &wanted);
    answer(&book, Ok(tags(&["1.0.0", "1.1.0", "1.2.0"])), start());
    book.hint(&question().repository);
    tokio::time::advance(Duration::from_secs(3)).await;
    answer(&book, Ok(tags(&["1.0.0"])), start());
    assert_eq!((book.frozen(), book.frozen_keys()), (1, vec![question().key().hex()]));
    let rows = book.take_unstored(10);
    assert_eq!(rows[0].accepted.as_deref(), Some("1.0.0\n1.1.0\n1.2.0"));

    let next = ImageBook::new(move |subscriber: &Subscriber| told_tx.send(subscriber.clone()).unwrap());
    next.recall(rows.clone(), start() + minutes(1));
    next.subscribe(&stage("dev"), &wanted);
    let loss = |book: &ImageBook| match book.known(&question()).answer {
        Some(Answer::Tags(listing)) => listing.loss(),
        other => panic!("{other:?}"),
    };
    assert_eq!((loss(&next), next.frozen()), (Loss { gone: 2, of: 3 }, 1));
    // A person accepted it.
    let accepted = crate::store::ImageScan { accepted: rows[0].tags.clone(), accepts: 1, ..rows[0].clone() };
    next.accept(&accepted);
    assert_eq!((loss(&next).gone, next.frozen()), (0, 0));
    assert_eq!(told.try_recv().unwrap(), stage("dev"));
    let rows = next.take_unstored(10);
    assert_eq!((rows[0].accepted.as_deref(), rows[0].accepts), (None, 1));
    next.accept(&accepted);
    assert!(told.try_recv().is_err(), "told once");
}

#[tokio::test(start_paused = true)]
async fn the_strictest_of_those_who_ask_decides_what_is_believed() {
    let book = ImageBook::new(|_| {});
    let share = |max_loss: u8| BTreeMap::from([(question(), Wish { max_loss, ..hourly() })]);
    book.subscribe(&stage("strict"), &share(10));
    book.subscribe(&stage("easy"), &share(90));
    answer(&book, Ok(tags(&["1", "2", "3", "4"])), start());
    book.hint(&question().repository);
    tokio::time::advance(Duration::from_secs(3)).await;
    answer(&book, Ok(tags(&["1", "2", "3"])), start());
    assert_eq!(book.frozen(), 1);
    book.subscribe(&stage("strict"), &share(90));
    assert_eq!(book.frozen(), 0, "nobody minds any more");
}

#[tokio::test(start_paused = true)]
async fn who_stops_asking_and_comes_back_finds_what_was_believed() {
    let book = ImageBook::new(|_| {});
    let wanted = BTreeMap::from([(question(), hourly())]);
    book.subscribe(&stage("dev"), &wanted);
    answer(&book, Ok(tags(&["1.0.0", "1.1.0", "1.2.0"])), start());
    book.subscribe(&stage("dev"), &BTreeMap::new());
    tokio::time::advance(Duration::from_mins(1)).await;
    book.subscribe(&stage("dev"), &wanted);
    assert_eq!(book.known(&question()).answer, listed(&["1.0.0", "1.1.0", "1.2.0"]));
    assert!(book.take_due(&Script::empty()).is_none(), "it was asked a minute ago");
    book.subscribe(&stage("dev"), &BTreeMap::new());
    tokio::time::advance(Duration::from_mins(11)).await;
    book.take_stale();
    assert_eq!(book.known(&question()), Known::default(), "not for ever");
}
