//! The database goes back in time: a standby that had not heard everything is promoted, or an older backup is restored.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use stagekeeper::domain::deploy::State;

use crate::{
    cluster::DEADLINE,
    ground::{Ground, number, run},
    postgres_server::Server,
    relay::Relay,
    story::STAGE,
    trap::When,
};

/// The number of the next transaction.
const NEXT: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// The highest epoch that was given out.
const EPOCH: &str = "SELECT coalesce(max(epoch), 0) FROM leader_epochs";

impl Ground {
    /// Waits until this deploy of the stage, counted from 1, was found to serve and written down again.
    async fn adopted(&self, number: usize, id: &str) {
        let what = format!("deploy {number} is adopted");
        let entry = self.scene.env.wait(&what, DEADLINE, async || {
            // The server may not be back yet.
            number_of_deploys(self).await?;
            self.scene.env.deploys(STAGE).await.into_iter().nth(number - 1)
        });
        let entry = entry.await;
        assert_eq!(entry.stored.deploy.id.to_string(), id);
        assert_eq!(reasons(&entry), ["Adopted"]);
    }
}

async fn number_of_deploys(ground: &Ground) -> Option<i64> {
    number(&ground.scene.env.database.url, "SELECT count(*) FROM deploys").await
}

fn reasons(entry: &stagekeeper::store::HistoryEntry) -> Vec<&str> {
    entry.transitions.iter().map(|step| step.reason.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_may_be_promoted_that_has_not_heard_the_end() {
    // What the relay leads to at the end has to outlive the ground.
    let (primary, standby);
    primary = Server::start();
    let relay = Relay::start(&primary.address()).await;
    let at_relay = primary.url().replace(&primary.address(), &relay.address);
    let mut ground = Ground::begin("promoted", &at_relay).await;
    let database = ground.scene.env.database.url.clone();
    let direct = |server: &Server| database.replace(&relay.address, &server.address());
    standby = primary.standby();
    // From here on it hears nothing.
    run(&standby.url(), &["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"]).await;
    let deaf = "SELECT count(*) FROM pg_stat_wal_receiver";
    let env = &ground.scene.env;
    env.wait("the standby is deaf", DEADLINE, async || (number(&standby.url(), deaf).await == Some(0)).then_some(()))
        .await;

    // What is lost: an epoch, a deploy that has succeeded, and another one that is under way.
    ground.operator.stop().await;
    ground.operator = ground.scene.operator().await;
    ground.untouched("1.0.0").await;
    env_push(&ground, "1.1.0").await;
    let lost = ground.scene.settled(2, State::Success).await.deploy.unwrap().id;
    ground.watch().await;
    let mut trap = ground.scene.seat.api.trap(When::Answered, |call| call.is_write() && call.resource == "deployments");
    env_push(&ground, "1.2.0").await;
    let held = trap.sprung("the workload of 1.2.0").await;
    drop(trap);
    let (old, epoch) =
        (number(&direct(&primary), NEXT).await.unwrap(), number(&direct(&primary), EPOCH).await.unwrap());
    primary.crash();
    standby.promote();
    let new = number(&direct(&standby), NEXT).await.unwrap();
    assert!(old - new >= 5, "{} transactions were lost", old - new);
    assert!(number(&direct(&standby), EPOCH).await.unwrap() < epoch, "the epoch was lost");
    let steps = number(&direct(&standby), "SELECT count(*) FROM deploy_transitions").await.unwrap();
    relay.lead_to(&standby.address());
    let back = Instant::now();
    held.release();

    let fault = format!("a standby without the last {} transactions: promoted", old - new);
    ground.goes_on(&fault, back, steps).await;
    ground.adopted(2, &lost).await;
    ground.untouched("1.1.0").await;
    ground.scene.settled(3, State::Success).await;
    ground.undivided();
    assert!(number(&database, EPOCH).await.unwrap() > epoch, "an epoch that was given out once is not given out again");
    let lease: Lease = ground.scene.env.api().get("stagekeeper").await.unwrap();
    let counted = lease.spec.and_then(|spec| spec.lease_transitions).unwrap();
    assert!(i64::from(counted) >= number(&database, EPOCH).await.unwrap(), "the Lease remembers it");
    ground.operator.stop().await;
}

async fn env_push(ground: &Ground, version: &str) {
    ground.scene.env.push("web", version, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_may_be_restored_with_and_without_a_restart() {
    let server = Server::start();
    let mut ground = Ground::begin("restored", &server.url()).await;
    let backup = server.backup();
    let steps = ground.steps().await.unwrap();
    ground.untouched("1.0.0").await;

    // Under the operator, which goes on.
    env_push(&ground, "1.1.0").await;
    let lost = ground.scene.settled(2, State::Success).await.deploy.unwrap().id;
    ground.watch().await;
    server.crash();
    ground.answers(503, Duration::from_secs(30)).await;
    server.restore(&backup);
    server.resume();
    ground.goes_on("an older backup under the operator: started", Instant::now(), steps).await;
    ground.adopted(2, &lost).await;
    ground.untouched("1.1.0").await;
    env_push(&ground, "1.2.0").await;
    let lost = ground.scene.settled(3, State::Success).await.deploy.unwrap().id;

    // And while it is not there.
    ground.watch().await;
    ground.operator.stop().await;
    server.crash();
    server.restore(&backup);
    server.resume();
    let started = Instant::now();
    ground.operator = ground.scene.operator().await;
    ground.goes_on("an older backup: operator started", started, steps).await;
    ground.adopted(2, &lost).await;
    ground.untouched("1.2.0").await;
    env_push(&ground, "1.3.0").await;
    ground.scene.settled(3, State::Success).await;
    ground.undivided();
    ground.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_may_be_older_than_the_stage() {
    let server = Server::start();
    let scene = Ground::bare("stranger", &server.url()).await;
    let backup = server.backup();
    let mut ground = Ground::over(scene).await;
    let lost = ground.scene.env.stage(STAGE).await.status.unwrap().deploy.unwrap().id;
    server.crash();
    server.restore(&backup);
    server.resume();
    ground.goes_on("a backup from before the stage: started", Instant::now(), 0).await;
    ground.adopted(1, &lost).await;
    ground.untouched("1.0.0").await;
    env_push(&ground, "1.1.0").await;
    ground.scene.settled(2, State::Success).await;
    ground.undivided();
    ground.operator.stop().await;
}
