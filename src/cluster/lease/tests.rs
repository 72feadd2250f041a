//! Elections on a paused clock, against a Lease store that behaves like the API server's and can be made to hang.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{Method, Request, Response};
use jiff::SignedDuration;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

mod seats;

/// The Lease of an installation without shards.
const NAME: &str = "stagekeeper";

/// The API server, as far as Leases go. Each client has its own way to it.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Leases>>);

#[derive(Default)]
struct Leases {
    all: BTreeMap<String, Value>,
    version: u64,
}

/// One client's way to the store.
#[derive(Clone, Default)]
struct Path {
    /// Requests are neither answered nor acted on.
    cut: Arc<AtomicBool>,
    /// So many writes are acted on, but not answered.
    swallow_replies: Arc<AtomicU32>,
    writes: Arc<AtomicU32>,
}

impl Store {
    fn client(&self, path: &Path) -> Client {
        let (store, path) = (self.clone(), path.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (store, path) = (store.clone(), path.clone());
            async move { store.answer(request, &path).await }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>, path: &Path) -> Result<Response<Body>, tower::BoxError> {
        // Let others in between, so that two candidates both read before either writes.
        tokio::task::yield_now().await;
        if path.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let named = parts.uri.path().rsplit('/').next().filter(|_| parts.method != Method::POST);
        let name = named.or_else(|| body["metadata"]["name"].as_str()).unwrap_or_default().to_owned();
        let (code, reply) = self.act(&parts.method, &name, body);
        if parts.method != Method::GET {
            path.writes.fetch_add(1, Ordering::SeqCst);
            let swallow = path.swallow_replies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if swallow.is_ok() {
                // What the client of a real process does about it.
                let after = crate::cluster::client::Deadlines::LEASE.answer;
                sleep(after).await;
                return Err(crate::cluster::client::call::NoAnswer { after }.into());
            }
        }
        let reply = Body::from(serde_json::to_vec(&reply).unwrap());
        Ok(Response::builder().status(code).body(reply).unwrap())
    }

    fn act(&self, method: &Method, name: &str, mut body: Value) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        let Leases { all, version } = &mut *state;
        let refused = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}))
        };
        match (method, all.get(name)) {
            (&Method::GET | &Method::PUT, None) => refused(404, "NotFound"),
            (&Method::GET, Some(lease)) => (200, lease.clone()),
            (&Method::POST, Some(_)) => refused(409, "AlreadyExists"),
            (&Method::PUT, Some(old)) if old["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                refused(409, "Conflict")
            }
            _ => {
                *version += 1;
                body["metadata"]["resourceVersion"] = version.to_string().into();
                all.insert(name.to_owned(), body.clone());
                (200, body)
            }
        }
    }

    fn spec(&self, field: &str) -> Value {
        self.lease(NAME)["spec"][field].clone()
    }

    fn delete(&self) {
        self.0.lock().unwrap().all.remove(NAME);
    }

    fn lease(&self, name: &str) -> Value {
        self.0.lock().unwrap().all.get(name).cloned().unwrap_or_default()
    }
}

struct Process {
    handle: LeaseHandle,
    path: Path,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn config(identity: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: "stagekeeper".into(),
        name: NAME.into(),
        identity: identity.into(),
        timing: Timing::default(),
    }
}

fn start_with(store: &Store, identity: &str, clock_is_off_by: SignedDuration) -> Process {
    let path = Path::default();
    let config = config(identity);
    let began = Instant::now();
    let wall_clock: WallClock = Arc::new(move || {
        let passed = SignedDuration::try_from(began.elapsed()).unwrap();
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + clock_is_off_by + passed
    });
    let (candidate, handle) = Candidate::new(store.client(&path), config, wall_clock);
    let stop = CancellationToken::new();
    let task = tokio::spawn(candidate.run(stop.clone()));
    Process { handle, path, stop, task }
}

fn start(store: &Store, identity: &str) -> Process {
    start_with(store, identity, SignedDuration::ZERO)
}

/// Lets time pass in small steps; at no instant may more than one lead.
async fn pass(time: Duration, processes: &[&Process]) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
        let leaders = processes.iter().filter(|p| p.handle.is_leader()).count();
        assert!(leaders <= 1, "{leaders} leaders at once");
    }
}

async fn elected(process: &Process) -> u64 {
    tokio::time::timeout(Duration::from_mins(2), process.handle.elected()).await.expect("it is elected")
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn of_two_that_start_at_once_one_leads_and_stays() {
    let store = Store::default();
    let (a, b) = (start(&store, "a"), start(&store, "b"));
    pass(secs(60), &[&a, &b]).await;
    let epochs: Vec<_> = [&a, &b].iter().filter_map(|p| p.handle.epoch()).collect();
    assert_eq!(epochs, [1], "one leader, in the first epoch");
    let follower = if a.handle.is_leader() { &b } else { &a };
    let leader = store.spec("holderIdentity").as_str().unwrap().to_owned();
    assert_eq!(*follower.handle.states().borrow(), Leadership::Following { leader });
}

#[tokio::test(start_paused = true)]
async fn of_two_that_find_an_expired_record_one_takes_over() {
    let store = Store::default();
    let dead = start(&store, "dead");
    assert_eq!(elected(&dead).await, 1);
    dead.task.abort();
    let (a, b) = (start(&store, "a"), start(&store, "b"));
    pass(secs(11), &[&a, &b]).await;
    assert!(!a.handle.is_leader() && !b.handle.is_leader(), "the record may still be alive");
    pass(secs(6), &[&a, &b]).await;
    let epochs: Vec<_> = [&a, &b].iter().filter_map(|p| p.handle.epoch()).collect();
    assert_eq!(epochs, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_api_server_hangs_steps_down_before_another_begins() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    let b = start(&store, "b");
    pass(secs(20), &[&a, &b]).await;
    assert!(a.handle.is_leader());

    a.path.cut.store(true, Ordering::SeqCst);
    let cut = Instant::now();
    tokio::time::timeout(secs(60), a.handle.ended(1)).await.expect("it steps down");
    assert!(cut.elapsed() <= Timing::default().renew_deadline, "{:?}", cut.elapsed());
    assert!(!b.handle.is_leader(), "there is a gap between the two");
    pass(secs(20), &[&a, &b]).await;
    assert_eq!(b.handle.epoch(), Some(2));

    a.path.cut.store(false, Ordering::SeqCst);
    pass(secs(30), &[&a, &b]).await;
    assert_eq!(b.handle.epoch(), Some(2), "the old one comes back as a follower");
    assert_eq!(*a.handle.states().borrow(), Leadership::Following { leader: "b".into() });
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_is_no_leader_when_it_goes_on() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    // Time passes without any task of the process running: as after SIGSTOP.
    tokio::time::advance(secs(11)).await;
    assert!(!a.handle.is_leader());
    pass(secs(5), &[&a]).await;
    assert_eq!(a.handle.epoch(), Some(2), "what it did before is of an older epoch");
}

#[tokio::test(start_paused = true)]
async fn a_release_is_taken_up_within_two_seconds() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    let b = start(&store, "b");
    pass(secs(5), &[&a, &b]).await;
    a.stop.cancel();
    a.task.await.unwrap();
    assert!(!a.handle.is_leader());
    assert_eq!(store.spec("holderIdentity"), "");
    let released = Instant::now();
    assert_eq!(elected(&b).await, 2);
    assert!(released.elapsed() <= secs(2), "{:?}", released.elapsed());
}

#[tokio::test(start_paused = true)]
async fn wall_clocks_that_are_minutes_apart_change_nothing() {
    let store = Store::default();
    let (late, early) = (SignedDuration::from_mins(-10), SignedDuration::from_mins(10));
    let a = start_with(&store, "a", late);
    assert_eq!(elected(&a).await, 1);
    let b = start_with(&store, "b", early);
    pass(secs(120), &[&a, &b]).await;
    assert_eq!(a.handle.epoch(), Some(1), "it renews, so it leads");
    a.task.abort();
    let dead = Instant::now();
    assert_eq!(elected(&b).await, 2);
    assert!(dead.elapsed() >= secs(10) && dead.elapsed() <= secs(15), "{:?}", dead.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_name_leads_at_once_in_a_new_epoch() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    a.task.abort();
    let began = Instant::now();
    let again = start(&store, "a");
    assert_eq!(elected(&again).await, 2);
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_succeeded_without_an_answer_ends_nothing() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    let b = start(&store, "b");
    pass(secs(5), &[&a, &b]).await;
    a.path.swallow_replies.store(1, Ordering::SeqCst);
    pass(secs(40), &[&a, &b]).await;
    assert_eq!(a.path.swallow_replies.load(Ordering::SeqCst), 0, "it happened");
    assert_eq!(a.handle.epoch(), Some(1), "the record is its own, so the term goes on");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_touch_of_the_lease_does_not_end_the_term() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    {
        let mut state = store.0.lock().unwrap();
        state.version += 1;
        let version = state.version.to_string();
        let lease = state.all.get_mut(NAME).unwrap();
        lease["metadata"]["annotations"] = json!({"note": "looked at"});
        lease["metadata"]["resourceVersion"] = version.into();
    }
    pass(secs(30), &[&a]).await;
    assert_eq!(a.handle.epoch(), Some(1));
    assert_eq!(store.lease(NAME)["metadata"]["annotations"]["note"], "looked at");
}

#[tokio::test(start_paused = true)]
async fn the_epoch_is_greater_than_any_in_the_journal() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    a.handle.raise_floor(7);
    pass(secs(4), &[&a]).await;
    assert_eq!(a.handle.epoch(), Some(8));
    assert_eq!(store.spec("leaseTransitions"), 8);
    pass(secs(30), &[&a]).await;
    assert_eq!(a.handle.epoch(), Some(8), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_neither_takes_the_epoch_back_nor_makes_two_leaders() {
    for deletions in [1, 4] {
        let store = Store::default();
        let a = start(&store, "a");
        assert_eq!(elected(&a).await, 1);
        let b = start(&store, "b");
        pass(secs(5), &[&a, &b]).await;
        for _ in 0..deletions {
            store.delete();
            pass(Duration::from_millis(700), &[&a, &b]).await;
        }
        pass(secs(30), &[&a, &b]).await;
        let epochs: Vec<_> = [&a, &b].iter().filter_map(|p| p.handle.epoch()).collect();
        assert_eq!(epochs.len(), 1);
        assert!(epochs[0] > 1, "made anew with a greater one: {epochs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn standing_by_writes_nothing() {
    let store = Store::default();
    let a = start(&store, "a");
    assert_eq!(elected(&a).await, 1);
    let b = start(&store, "b");
    pass(secs(60), &[&a, &b]).await;
    assert_eq!(b.path.writes.load(Ordering::SeqCst), 0);
    let renewals = a.path.writes.load(Ordering::SeqCst);
    assert!((25..=35).contains(&renewals), "one renewal each two seconds: {renewals}");
}
