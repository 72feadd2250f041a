//! Three replicas: the leader ends, dies, is frozen, and lives by a clock that is wrong. One writes at a time, and none that was
//! deposed.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use stagekeeper::domain::{
    clock::{Clock as _, SystemClock},
    deploy::State,
};

use crate::{
    cluster::{DEADLINE, Env},
    ground::{made_once, operator},
    operator::Operator,
    story::{PLAIN, Scene, Seat, rows},
    trap::When,
};

/// How long the leader is frozen.
const FROZEN: Duration = Duration::from_secs(30);

/// Time between two looks at who leads.
const LOOK: Duration = Duration::from_millis(20);

/// What is promised of a handover, and of one that nobody prepared.
const GRACEFUL: Duration = Duration::from_secs(2);
const FORCED: Duration = Duration::from_secs(15);

/// One operator and its proxies.
struct Replica {
    name: &'static str,
    seat: Seat,
    operator: Operator,
}

impl Replica {
    async fn start(scene: &Scene, name: &'static str, more: &[(&str, &str)]) -> Self {
        let seat = Seat::new(&scene.env).await;
        let operator = operator(&scene.env, &seat, name, more).await;
        operator.ready().await;
        Self { name, seat, operator }
    }

    fn writes(&self) -> (usize, usize) {
        (self.seat.api.writes().len(), self.seat.sql.writes().len())
    }

    /// Waits until its log says this, that often.
    async fn says(&self, env: &Env, text: &str, times: usize) {
        let what = format!("{} says `{text}`", self.name);
        let said = env.wait(&what, DEADLINE, async || {
            let log = fs::read_to_string(&self.operator.log).unwrap();
            (log.matches(text).count() >= times).then_some(())
        });
        said.await;
    }
}

async fn holder(env: &Env) -> Option<String> {
    let lease = env.api::<Lease>().get_opt("stagekeeper").await.unwrap()?;
    lease.spec?.holder_identity.filter(|name| !name.is_empty())
}

/// Waits until one of the replicas but `not` leads: it has the Lease and begins to act. Gives which, and how long it took.
async fn led(scene: &Scene, replicas: &[Replica], not: &str) -> (usize, Duration) {
    let since = Instant::now();
    loop {
        let found = holder(&scene.env).await.filter(|name| name != not);
        if let Some(at) = found.and_then(|name| replicas.iter().position(|one| one.name == name)) {
            return (at, since.elapsed());
        }
        assert!(since.elapsed() < DEADLINE, "nobody leads");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_hand_over_and_who_was_frozen_changes_nothing() {
    let scene = Scene::begin("three", PLAIN).await;
    let mut replicas = Vec::new();
    for name in ["first", "second", "third"] {
        replicas.push(Replica::start(&scene, name, &[]).await);
    }
    scene.settled(1, State::Success).await;

    // Frozen in the middle of a deploy, with a transition stored whose effects are still to come.
    let (leader, _) = led(&scene, &replicas, "").await;
    let frozen = replicas.remove(leader);
    let mut trap = frozen.seat.sql.trap(When::Answered, |statement| statement.is_transition());
    scene.env.push("web", "1.1.0", &[]).await;
    let held = trap.sprung("the deploy of 1.1.0").await;
    drop(trap);
    frozen.operator.signal("STOP");
    held.release();
    let stopped = Instant::now();
    let (_, replaced) = led(&scene, &replicas, frozen.name).await;
    scene.settled(2, State::Success).await;
    // The fault itself is a matter of time.
    tokio::time::sleep(FROZEN.saturating_sub(stopped.elapsed())).await;
    let (before, was) = (rows(&scene.env).await, frozen.writes());
    frozen.operator.signal("CONT");
    frozen.says(&scene.env, "the term has ended", 1).await;
    assert_eq!(frozen.seat.api.writes()[was.0..], [], "writes of the deposed leader to the cluster");
    // The statement that it was about to make came to the database, which refused it.
    let refused = frozen.seat.sql.writes().len() - was.1;
    assert!(refused <= 1, "{:?}", &frozen.seat.sql.writes()[was.1..]);
    assert_eq!(rows(&scene.env).await, before);
    replicas.push(frozen);

    // Asked to end.
    let (leader, _) = led(&scene, &replicas, "").await;
    let ends = replicas.remove(leader);
    let ended = ends.name;
    let ((), (_, graceful)) = tokio::join!(ends.operator.stop(), led(&scene, &replicas, ended));
    scene.env.push("web", "1.2.0", &[]).await;
    scene.settled(3, State::Success).await;

    // Killed.
    let (leader, _) = led(&scene, &replicas, ended).await;
    let dies = replicas.remove(leader);
    let dead = dies.name;
    dies.operator.kill9();
    let (_, forced) = led(&scene, &replicas, dead).await;
    scene.env.push("web", "1.3.0", &[]).await;
    scene.settled(4, State::Success).await;

    println!(
        "three replicas: the next one leads {:.1} s after a freeze, {:.2} s after SIGTERM (promised: {} s), {:.1} s after a kill \
         (promised: {} s; the Lease is kept for 12 s after a renewal is seen)",
        replaced.as_secs_f64(),
        graceful.as_secs_f64(),
        GRACEFUL.as_secs(),
        forced.as_secs_f64(),
        FORCED.as_secs(),
    );
    scene.undivided().await;
    for replica in replicas {
        replica.operator.stop().await;
    }
}

/// libfaketime, which `hack/deps` installs.
fn faketime() -> String {
    let found =
        ["x86_64", "aarch64"].map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let found = found.into_iter().find(|path| PathBuf::from(path).exists());
    found.expect("libfaketime is missing: run hack/deps")
}

/// The wall clock of a process, moved while it runs. Its monotonic clock is left alone: no time server moves that.
struct Clock(PathBuf);

impl Clock {
    fn new(scene: &Scene, name: &str) -> Self {
        let clock =
            Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.clock", scene.env.namespace)));
        clock.is("+0");
        clock
    }

    /// So far from the truth, such as `+10m`.
    fn is(&self, offset: &str) {
        // Written beside and moved: whoever reads never sees half of it.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Left behind it would do no harm.
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_ten_minutes_off_elect_nobody_and_depose_nobody() {
    let scene = Scene::begin("clocks", PLAIN).await;
    let library = faketime();
    let (mut clocks, mut replicas) = (Vec::new(), Vec::new());
    for name in ["first", "second", "third"] {
        let clock = Clock::new(&scene, name);
        let file = clock.0.display().to_string();
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        replicas.push(Replica::start(&scene, name, &variables).await);
        clocks.push(clock);
    }
    scene.settled(1, State::Success).await;
    let (leader, _) = led(&scene, &replicas, "").await;
    let leads = replicas[leader].name;
    let before = terms(&scene.env).await;
    // The leader's clock jumps ahead and back, those of the others the other way.
    for (round, (own, others)) in [("+10m", "-10m"), ("-10m", "+10m"), ("+0", "+0")].into_iter().enumerate() {
        for (at, clock) in clocks.iter().enumerate() {
            clock.is(if at == leader { own } else { others });
        }
        scene.env.push("web", &format!("1.{}.0", round + 1), &[]).await;
        scene.settled(round + 2, State::Success).await;
        offset(&scene.env, own).await;
        // Long enough for another one to take over, if it wanted to.
        renewed(&scene.env, 10).await;
        assert_eq!(holder(&scene.env).await.as_deref(), Some(leads), "with clocks at {own} and {others}");
    }
    assert_eq!(terms(&scene.env).await, before, "no other term began");
    // And a handover between clocks that disagree.
    for (at, clock) in clocks.iter().enumerate() {
        clock.is(if at == leader { "+10m" } else { "-10m" });
    }
    let dies = replicas.remove(leader);
    dies.operator.kill9();
    let (_, forced) = led(&scene, &replicas, leads).await;
    scene.env.push("web", "1.4.0", &[]).await;
    scene.settled(5, State::Success).await;
    println!(
        "clocks at ±10 minutes: {leads} led through three jumps and four deploys in one term; killed, it was replaced after {:.1} s \
         by one whose clock is 20 minutes behind",
        forced.as_secs_f64()
    );
    made_once(&scene);
    for replica in replicas {
        replica.operator.stop().await;
    }
}

/// The number of the newest term of leadership.
async fn terms(env: &Env) -> i64 {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(&env.database.url).await.unwrap();
    sqlx::query_scalar("SELECT max(epoch) FROM leader_epochs").fetch_one(&mut connection).await.unwrap()
}

/// Waits until the Lease was renewed that often.
async fn renewed(env: &Env, times: usize) {
    let mut versions = BTreeSet::new();
    let what = format!("the Lease is renewed {times} times");
    let renewed = env.wait(&what, DEADLINE, async || {
        let lease = env.api::<Lease>().get("stagekeeper").await.unwrap();
        versions.insert(lease.metadata.resource_version);
        (versions.len() > times).then_some(())
    });
    renewed.await;
}

/// Waits until the leader writes times that are so far from the truth: the clock has moved for it.
async fn offset(env: &Env, wanted: &str) {
    let minutes = match wanted {
        "+10m" => 10,
        "-10m" => -10,
        _ => 0,
    };
    let what = format!("the leader's clock is at {wanted}");
    let moved = env.wait(&what, DEADLINE, async || {
        let renewed = env.api::<Lease>().get("stagekeeper").await.unwrap().spec?.renew_time?;
        let seconds = renewed.0.as_second() - SystemClock.now().as_second();
        ((seconds - minutes * 60).abs() < 60).then_some(())
    });
    moved.await;
}
