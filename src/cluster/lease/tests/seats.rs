//! Installations that are parted into shards: each has one leader, replicas have about as many each, and nobody acts by another
//! count than all others.

use std::collections::BTreeSet;

use super::*;

/// Between two looks at who leads what.
const STEP: Duration = Duration::from_millis(50);

/// How long the work of a term takes to end.
const ENDING: Duration = Duration::from_millis(300);

/// A process that leads what it can get, as the real one does.
struct Replica {
    identity: &'static str,
    path: Path,
    /// The mandate of the term that runs.
    acting: Arc<Mutex<Option<Mandate>>>,
    terms: Arc<AtomicU32>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    fn start(store: &Store, identity: &'static str, shards: u16) -> Self {
        let path = Path::default();
        let config = config(identity);
        let clock: WallClock = {
            let began = Instant::now();
            Arc::new(move || {
                "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap()
                    + SignedDuration::try_from(began.elapsed()).unwrap()
            })
        };
        let (candidates, seats) = Seats::new(&store.client(&path), &config, shards, &clock);
        let (stop, resign) = (CancellationToken::new(), CancellationToken::new());
        let (acting, terms) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU32::new(0)));
        let (told, counted, asked) = (acting.clone(), terms.clone(), stop.clone());
        let giving_up = resign.clone();
        let lead = async move {
            loop {
                let mandate = tokio::select! {
                    () = asked.cancelled() => break,
                    mandate = seats.elected() => mandate,
                };
                *told.lock().unwrap() = Some(mandate.clone());
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::select! {
                    () = asked.cancelled() => {}
                    () = seats.outlived(&mandate) => {}
                }
                sleep(ENDING).await;
                *told.lock().unwrap() = None;
                seats.hand_over();
            }
            giving_up.cancel();
        };
        let tasks = vec![tokio::spawn(lead), tokio::spawn(Seats::run(candidates, resign))];
        Self { identity, path, acting, terms, stop, tasks }
    }

    /// The shards that it leads at this instant, and of how many.
    fn leads(&self) -> Option<(BTreeSet<u16>, u16)> {
        let acting = self.acting.lock().unwrap();
        acting.as_ref().filter(|mandate| mandate.is_leader()).map(Mandate::shards)
    }

    fn count(&self) -> usize {
        self.leads().map_or(0, |(shards, _)| shards.len())
    }

    fn terms(&self) -> u32 {
        self.terms.load(Ordering::SeqCst)
    }

    /// As by `kill -9`.
    fn kill(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        *self.acting.lock().unwrap() = None;
    }

    async fn end(&mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }
}

/// Who leads what: nobody what another leads, and all by one count.
fn look(replicas: &[&Replica]) -> usize {
    let mut taken = BTreeSet::new();
    let mut counts = BTreeSet::new();
    for replica in replicas {
        let Some((shards, of)) = replica.leads() else { continue };
        counts.insert(of);
        for shard in shards {
            assert!(taken.insert(shard), "{} leads shard {shard}, and so does another", replica.identity);
        }
    }
    assert!(counts.len() <= 1, "two counts at once: {counts:?}");
    taken.len()
}

/// Lets time pass, and looks all the while; says how long it took until it was so.
async fn until(what: &str, limit: Duration, replicas: &[&Replica], is_so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        look(replicas);
        if is_so() {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "{what}: {:?}", state(replicas));
        sleep(STEP).await;
    }
}

/// Lets time pass, and looks all the while.
async fn idle(time: Duration, replicas: &[&Replica]) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        look(replicas);
        sleep(STEP).await;
    }
}

fn state(replicas: &[&Replica]) -> Vec<(&'static str, Option<(BTreeSet<u16>, u16)>)> {
    replicas.iter().map(|replica| (replica.identity, replica.leads())).collect()
}

fn one_each(replicas: &[&Replica]) -> bool {
    replicas.iter().all(|replica| replica.count() == 1)
}

#[tokio::test(start_paused = true)]
async fn three_replicas_lead_a_shard_each_and_stay() {
    let store = Store::default();
    let (a, b, c) = (Replica::start(&store, "a", 3), Replica::start(&store, "b", 3), Replica::start(&store, "c", 3));
    let all = [&a, &b, &c];
    until("a shard each", secs(30), &all, || one_each(&all)).await;
    idle(secs(10), &all).await;
    let terms: Vec<u32> = all.iter().map(|replica| replica.terms()).collect();
    idle(secs(120), &all).await;
    assert!(one_each(&all));
    assert_eq!(all.map(Replica::terms).to_vec(), terms, "no term ends without need");
}

#[tokio::test(start_paused = true)]
async fn one_alone_leads_all_shards() {
    let store = Store::default();
    let a = Replica::start(&store, "a", 3);
    until("all shards", secs(15), &[&a], || a.count() == 3).await;
    idle(secs(60), &[&a]).await;
    assert_eq!(a.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_shard_of_one_that_is_killed_goes_to_another_and_comes_back() {
    let store = Store::default();
    let (a, b, c) = (Replica::start(&store, "a", 3), Replica::start(&store, "b", 3), Replica::start(&store, "c", 3));
    until("a shard each", secs(30), &[&a, &b, &c], || one_each(&[&a, &b, &c])).await;
    b.kill();
    let others = [&a, &c];
    let took = until("three shards of two", secs(60), &others, || look(&others) == 3).await;
    assert!(took >= secs(10) && took <= secs(15), "{took:?}");
    let again = Replica::start(&store, "b2", 3);
    let all = [&a, &again, &c];
    let took = until("a shard each again", secs(60), &all, || one_each(&all)).await;
    assert!(took <= secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_gets_a_share() {
    let store = Store::default();
    let a = Replica::start(&store, "a", 3);
    until("all shards", secs(15), &[&a], || a.count() == 3).await;
    let b = Replica::start(&store, "b", 3);
    until("two and one", secs(30), &[&a, &b], || (a.count(), b.count()) == (2, 1)).await;
    idle(secs(20), &[&a, &b]).await;
    let c = Replica::start(&store, "c", 3);
    until("a shard each", secs(30), &[&a, &b, &c], || one_each(&[&a, &b, &c])).await;
    // More than there are shards stand by.
    let d = Replica::start(&store, "d", 3);
    idle(secs(60), &[&a, &b, &c, &d]).await;
    assert_eq!((one_each(&[&a, &b, &c]), d.count()), (true, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_away_is_led_again_within_three_seconds() {
    let store = Store::default();
    let a = Replica::start(&store, "a", 2);
    until("both shards", secs(15), &[&a], || a.count() == 2).await;
    let b = Replica::start(&store, "b", 2);
    let both = [&a, &b];
    // Its term ends before anything is given away: for a moment nobody leads anything.
    until("the term ends", secs(30), &both, || a.count() < 2).await;
    let took = until("one each", secs(30), &both, || one_each(&both)).await;
    assert!(took <= secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_in_order_leaves_no_gap_of_seconds() {
    let store = Store::default();
    let mut a = Replica::start(&store, "a", 2);
    let b = Replica::start(&store, "b", 2);
    until("one each", secs(30), &[&a, &b], || one_each(&[&a, &b])).await;
    a.end().await;
    let took = until("both shards", secs(30), &[&b], || b.count() == 2).await;
    assert!(took <= secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn another_count_begins_when_nobody_acts_by_the_old_one() {
    for (old, new) in [(3, 1), (1, 3), (3, 2), (2, 3)] {
        let store = Store::default();
        let mut a = Replica::start(&store, "a", old);
        let mut b = Replica::start(&store, "b", old);
        let shards = usize::from(old);
        until("all of the old", secs(30), &[&a, &b], || a.count() + b.count() == shards).await;
        let c = Replica::start(&store, "c", new);
        idle(secs(60), &[&a, &b, &c]).await;
        assert_eq!((a.count() + b.count(), c.count()), (shards, 0), "{old} to {new}: it stands by");
        // One after the other, as in a rolling update.
        a.end().await;
        idle(secs(40), &[&b, &c]).await;
        b.end().await;
        let all = usize::from(new);
        until("all of the new", secs(60), &[&c], || c.count() == all).await;
        assert_eq!(c.leads().unwrap().1, new);
    }
}

#[tokio::test(start_paused = true)]
async fn another_count_waits_for_one_that_hangs() {
    let store = Store::default();
    let (a, b) = (Replica::start(&store, "a", 2), Replica::start(&store, "b", 2));
    until("one each", secs(30), &[&a, &b], || one_each(&[&a, &b])).await;
    let (first, other) = if a.leads().unwrap().0.contains(&0) { (&a, &b) } else { (&b, &a) };
    let c = Replica::start(&store, "c", 1);
    idle(secs(5), &[&a, &b, &c]).await;
    // It does not hear that the count has changed, and acts on as long as it may.
    other.path.cut.store(true, Ordering::SeqCst);
    first.kill();
    until("all of the new", secs(90), &[&a, &b, &c], || c.leads().is_some_and(|(_, of)| of == 1)).await;
    other.path.cut.store(false, Ordering::SeqCst);
    idle(secs(60), &[&a, &b, &c]).await;
    assert_eq!(other.count(), 0, "what it knows of is not there any more");
}

#[tokio::test(start_paused = true)]
async fn epochs_of_a_mandate_grow_together() {
    let store = Store::default();
    let a = Replica::start(&store, "a", 3);
    until("all shards", secs(15), &[&a], || a.count() == 3).await;
    let before = a.acting.lock().unwrap().clone().expect("it leads");
    before.surpass(40).await;
    until("the next term", secs(30), &[&a], || {
        a.leads().is_some() && a.acting.lock().unwrap().as_ref().is_some_and(|now| now.epochs() == (41, 41))
    })
    .await;
    assert!(!before.is_leader(), "what was begun in an older epoch is over");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_lease_tells_the_count() {
    let store = Store::default();
    let a = Replica::start(&store, "a", 2);
    until("both shards", secs(15), &[&a], || a.count() == 2).await;
    assert_eq!(store.lease(NAME)["metadata"]["annotations"], json!({"stagekeeper.dev/shards": "2"}));
    assert_eq!(store.lease("stagekeeper-1")["metadata"]["annotations"], Value::Null);

    let alone = Store::default();
    let a = Replica::start(&alone, "a", 1);
    until("it leads", secs(15), &[&a], || a.count() == 1).await;
    assert_eq!(alone.lease(NAME)["metadata"]["annotations"], Value::Null);
}
