//! Bursts, turns, rests, and who goes first.

use std::sync::Arc;

use super::*;

/// When each of so many requests had its turn, in milliseconds.
async fn turns(pace: &Pace, many: usize) -> Vec<u128> {
    let begun = Instant::now();
    let mut all = Vec::new();
    for _ in 0..many {
        pace.turn().await.unwrap();
        all.push(begun.elapsed().as_millis());
    }
    all
}

fn near(found: &[u128], expected: &[u128]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| found.abs_diff(*expected) <= 5)
}

fn from_now(at: Instant) -> u64 {
    at.duration_since(Instant::now()).as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_at_once_and_then_one_at_a_time() {
    let pace = Pace::new(Some(4.0));
    let found = turns(&pace, 7).await;
    assert!(near(&found, &[0, 0, 0, 0, 250, 500, 750]), "{found:?}");
    tokio::time::sleep(Duration::from_secs(100)).await;
    let found = turns(&pace, 6).await;
    assert!(near(&found, &[0, 0, 0, 0, 250, 500]), "a long rest allows one burst and no more: {found:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_would_wait_long_is_sent_away_and_told_when() {
    let pace = Pace::new(Some(0.1));
    pace.turn().await.unwrap();
    let begun = Instant::now();
    let NotYet::Queue(at) = pace.turn().await.unwrap_err() else { panic!("nobody asked for a rest") };
    assert_eq!((begun.elapsed().as_millis(), from_now(at)), (0, 10));
    assert_eq!(pace.ready_at(), Some(at));
    tokio::time::sleep_until(at).await;
    assert_eq!(pace.ready_at(), None);
    pace.turn().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_counted_by_those_who_come() {
    let pace = Arc::new(Pace::new(Some(2.0)));
    turns(&pace, 2).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let pace = pace.clone();
        waiting.spawn(async move { pace.turn().await.is_ok() });
        tokio::task::yield_now().await;
    }
    let passed = waiting.join_all().await.into_iter().filter(|passed| *passed).count();
    assert_eq!(passed, 2, "what one second holds, and no more");
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_takes_nothing_and_the_others_keep_their_order() {
    let pace = Arc::new(Pace::new(Some(4.0)));
    turns(&pace, 4).await;
    let begun = Instant::now();
    for _ in 0..50 {
        assert!(tokio::time::timeout(Duration::from_millis(1), pace.turn()).await.is_err());
    }
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (pace, order) = (pace.clone(), order.clone());
        waiting.spawn(async move {
            pace.turn().await.unwrap();
            order.lock().unwrap().push(number);
        });
        tokio::task::yield_now().await;
    }
    waiting.join_all().await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    assert!(begun.elapsed() < Duration::from_millis(850), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_while_the_registry_rests_and_the_longest_rest_counts() {
    let pace = Pace::new(None);
    pace.refused(Some(Duration::from_secs(120)));
    pace.refused(Some(Duration::from_secs(30)));
    let NotYet::Resting(at) = pace.turn().await.unwrap_err() else { panic!("it asked for a rest") };
    assert_eq!(from_now(at), 120);
    assert_eq!(pace.ready_at(), Some(at));
    tokio::time::sleep_until(at).await;
    assert_eq!(pace.ready_at(), None);
    pace.turn().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_keeps_refusing_rests_longer_and_is_asked_more_slowly() {
    let pace = Pace::new(None);
    let mut rests = Vec::new();
    for _ in 0..9 {
        pace.refused(None);
        let at = pace.ready_at().unwrap();
        rests.push(from_now(at));
        tokio::time::sleep_until(at).await;
    }
    assert_eq!(rests, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let found = turns(&pace, 9).await;
    assert!(near(&found[6..], &[0, 120, 760]), "a burst and a rate of a 64th: {found:?}");
    pace.answered();
    pace.refused(None);
    assert_eq!(from_now(pace.ready_at().unwrap()), 5, "an answer between, and it begins anew");
    for _ in 0..2000 {
        pace.answered();
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let found = turns(&pace, 500).await;
    assert_eq!(found.last(), Some(&0), "and in time it is asked as before");
}

#[tokio::test(start_paused = true)]
async fn retry_after_zero_is_still_a_rest() {
    let pace = Pace::new(None);
    pace.refused(Some(Duration::ZERO));
    assert_eq!(from_now(pace.ready_at().unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn another_rate_begins_anew_and_the_same_one_does_not() {
    let pace = Pace::new(Some(0.001));
    pace.turn().await.unwrap();
    pace.set(Some(0.001));
    assert!(pace.turn().await.is_err());
    pace.set(None);
    turns(&pace, 500).await;
    pace.refused(Some(Duration::from_secs(60)));
    pace.set(Some(7.0));
    assert_eq!(from_now(pace.ready_at().unwrap()), 60, "a rest stays a rest");
}
