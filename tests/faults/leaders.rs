//! More than one controller: one leads, the next takes over, and who was deposed without knowing changes nothing.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use sqlx::{Connection as _, PgConnection};
use stagekeeper::domain::deploy::State;

use crate::{
    cluster::DEADLINE,
    operator::Operator,
    story::{PLAIN, Scene, Seat, rows},
    trap::When,
};

/// One controller and its proxies.
pub struct Replica {
    /// Its identity.
    pub name: &'static str,
    /// Its proxies.
    pub seat: Seat,
    /// Its process.
    pub operator: Operator,
}

impl Replica {
    /// Starts one and waits until it is ready.
    pub async fn start(scene: &Scene, name: &'static str) -> Self {
        let seat = Seat::new(&scene.env).await;
        let operator = seat.operator(&scene.env, name).await;
        operator.ready().await;
        Self { name, seat, operator }
    }

    /// How often it has written, to the cluster and to the database.
    pub fn writes(&self) -> (usize, usize) {
        (self.seat.api.writes().len(), self.seat.sql.writes().len())
    }

    /// Waits until its log says something that often.
    pub async fn says(&self, scene: &Scene, text: &str, times: usize) {
        let what = format!("{} says `{text}`", self.name);
        let said = scene.env.wait(&what, DEADLINE, async || {
            let log = std::fs::read_to_string(&self.operator.log).unwrap();
            (log.matches(text).count() >= times).then_some(())
        });
        said.await;
    }
}

/// Waits until somebody holds the Lease.
pub async fn led_by(scene: &Scene, name: &str) {
    let what = format!("{name} leads");
    scene.env.wait(&what, DEADLINE, async || (holder(scene).await.as_deref() == Some(name)).then_some(())).await;
}

async fn holder(scene: &Scene) -> Option<String> {
    let lease = scene.env.api::<Lease>().get_opt("stagekeeper").await.unwrap()?;
    lease.spec?.holder_identity
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_controllers_writes_and_the_next_goes_on_where_it_was_killed() {
    let scene = Scene::begin("leaders", PLAIN).await;
    let first = Replica::start(&scene, "first").await;
    let mut trap = first.seat.api.trap(When::Answered, |call| call.is_write() && call.resource == "deployments");
    led_by(&scene, "first").await;
    let second = Replica::start(&scene, "second").await;

    let held = trap.sprung("the first workload").await;
    assert_eq!(
        (second.seat.api.writes(), second.seat.sql.writes()),
        (vec![], vec![]),
        "who does not lead writes nothing"
    );
    first.operator.kill9();
    held.lose();
    scene.settled(1, State::Success).await;
    assert_eq!(holder(&scene).await.as_deref(), Some("second"));
    scene.undivided().await;

    // Asked to end, a leader gives the Lease away and does not let it expire.
    let third = Replica::start(&scene, "third").await;
    second.operator.stop().await;
    let next = holder(&scene).await.unwrap_or_default();
    assert!(next.is_empty() || next == "third", "the Lease is still held by {next}");
    scene.env.push("web", "1.1.0", &[]).await;
    scene.settled(2, State::Success).await;
    third.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_past_its_lease_changes_nothing_when_it_goes_on() {
    let scene = Scene::begin("frozen", PLAIN).await;
    let first = Replica::start(&scene, "first").await;
    scene.settled(1, State::Success).await;
    let second = Replica::start(&scene, "second").await;

    // Frozen in the middle of a pass, with a transition stored whose effects are still to come. The answer that it waits
    // for lies in its socket.
    let mut trap = first.seat.sql.trap(When::Answered, |statement| statement.is_transition());
    scene.env.push("web", "1.1.0", &[]).await;
    trap.sprung("the deploy of 1.1.0").await.release();
    let held = trap.sprung("its first transition").await;
    drop(trap);
    first.operator.signal("STOP");
    held.release();
    led_by(&scene, "second").await;
    scene.settled(2, State::Success).await;
    // What the first is about to do is out of date now.
    scene.env.push("web", "1.2.0", &[]).await;
    scene.settled(3, State::Success).await;
    let (before, was) = (rows(&scene.env).await, first.writes());
    first.operator.signal("CONT");
    first.says(&scene, "the term has ended", 1).await;
    assert_eq!(first.writes(), was, "writes of the deposed leader: {:?}", &first.seat.api.writes()[was.0..]);
    assert_eq!(rows(&scene.env).await, before);

    // Frozen with a transition on its way, which arrives when another has moved on.
    let mut trap = second.seat.sql.trap(When::Asked, |statement| statement.is_transition());
    scene.env.push("web", "1.3.0", &[]).await;
    let held = trap.sprung("a transition of 1.3.0").await;
    drop(trap);
    second.operator.signal("STOP");
    led_by(&scene, "first").await;
    scene.settled(4, State::Success).await;
    let before = rows(&scene.env).await;
    let mut answered = second.seat.sql.trap(When::Answered, |_| true);
    held.release();
    answered.sprung("the answer to the late transition").await.release();
    drop(answered);
    assert_eq!(rows(&scene.env).await, before, "the database refuses what comes from an older epoch");
    let was = second.writes();
    second.operator.signal("CONT");
    second.says(&scene, "the term has ended", 1).await;
    assert_eq!(second.writes(), was);
    assert_eq!(rows(&scene.env).await, before);

    let lives = scene.witness.lives();
    assert!(lives.values().all(|one| one.made == 1), "{lives:?}");
    second.operator.stop().await;
    first.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_deleted_counts_past_what_the_database_gave_out() {
    let scene = Scene::begin("recounted", PLAIN).await;
    let mut sql = PgConnection::connect(&scene.env.database.url).await.unwrap();
    for term in 1..=3 {
        let replica = Replica::start(&scene, "operator").await;
        replica.says(&scene, &format!("\"epoch\":{term},\"leases\""), 1).await;
        replica.operator.stop().await;
    }
    let leases = scene.env.api::<Lease>();
    leases.delete("stagekeeper", &DeleteParams::default()).await.unwrap();
    let operator = scene.operator().await;
    scene.settled(1, State::Success).await;
    scene.env.push("web", "1.1.0", &[]).await;
    scene.settled(2, State::Success).await;
    scene.undivided().await;
    let given: i64 = sqlx::query_scalar("SELECT max(epoch) FROM leader_epochs").fetch_one(&mut sql).await.unwrap();
    let lease = leases.get("stagekeeper").await.unwrap();
    let counted = lease.spec.and_then(|spec| spec.lease_transitions).unwrap();
    assert!(given > 3, "an epoch was given out again: {given}");
    assert_eq!(i64::from(counted), given, "whoever leads next begins after it, whatever the database has lost by then");
    operator.stop().await;
}
