//! The controller dies between the making of a request and its settling, and in the middle of what follows from it; or two
//! believe that they lead. What was asked is done once, and nothing of it is lost.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::{
    domain::request::{Action, Destination, RequestState},
    render::names,
    store::{HistoryEntry, StoredRequest},
};
use uuid::Uuid;

use crate::{
    asking,
    cluster::{DEADLINE, Env},
    leaders::{Replica, led_by},
    operator::Operator,
    postgres_proxy::Statement,
    story::{PATIENCE, Scene, rows},
    trap::When,
};

/// dev → production, which wants one person to agree. What starts and does not get healthy stays so for as long as the
/// tests take.
const STAGES: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: dev}
spec: {project: shop, rollback: {keepPrevious: 0s, watch: 0s}, timeouts: {start: 30m, health: 30m}}
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: production}
spec:
  project: shop
  rollback: {keepPrevious: 0s, watch: 0s}
  promotion: {from: [dev], approvals: {required: 1}}
";

/// The statement that settles a request together with its effect.
fn settles(statement: &Statement) -> bool {
    statement.text.contains("UPDATE requests SET state = 'done'")
}

pub async fn number(env: &Env, sql: String) -> i64 {
    let mut connection = PgConnection::connect(&env.database.url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
}

/// Images and state of each deploy of a stage, oldest first.
async fn ends(env: &Env, stage: &str) -> Vec<String> {
    let end = |entry: &HistoryEntry| format!("{} {}", entry.stored.release.summary(), entry.stored.deploy.state);
    env.deploys(stage).await.iter().map(end).collect()
}

/// Waits until the deploys of a stage have come to these ends, and its status tells so.
pub async fn come_to(env: &Env, stage: &str, expected: &[&str]) {
    let what = format!("{stage} has come to {expected:?}");
    env.wait(&what, PATIENCE, async || {
        let deploys = env.deploys(stage).await;
        let newest = deploys.last()?.stored.deploy.clone();
        let status = env.stage(stage).await.status?;
        let told = status
            .deploy
            .is_some_and(|deploy| deploy.id == newest.id.to_string() && deploy.state == newest.state.camel());
        (told && ends(env, stage).await == expected).then_some(())
    })
    .await;
}

/// The request, when it is settled; it has to be done, and to be in the audit log once, with at most one deploy.
async fn settled_once(env: &Env, id: Uuid) -> StoredRequest {
    let settled = env.database.store.request_settled(id, DEADLINE).await.unwrap();
    assert_eq!(settled.state, RequestState::Done, "{:?}", settled.message);
    let told = |action: &str| {
        format!("SELECT count(*) FROM audit_log WHERE action LIKE '{action}' AND details ->> 'request' = '{id}'")
    };
    assert_eq!(number(env, told("stage.%")).await, 1, "{settled:?}");
    assert_eq!(
        number(env, format!("SELECT count(*) FROM deploys WHERE request = 'request:{id}'")).await,
        number(env, told("deploy.create")).await
    );
    assert!(number(env, told("deploy.create")).await <= 1, "{settled:?}");
    settled
}

/// Asks something while nobody leads, and kills the controller each time that it comes further: before the database hears
/// that it is settled, when it is and the controller does not know, and after the first write to the cluster that follows,
/// where one does.
async fn ask_killing(scene: &Scene, operator: Operator, ask: (&str, &str, Action), acts: bool) -> (Operator, Uuid) {
    let (name, stage, action) = ask;
    operator.kill9();
    // Nobody hears of it.
    let id = asking::make(&scene.env, name, &[], stage, action).await.id;
    for when in [When::Asked, When::Answered] {
        let mut trap = scene.seat.sql.trap(when, settles);
        let operator = scene.operator().await;
        let held = trap.sprung("the statement that settles it").await;
        operator.kill9();
        held.lose();
        let state = scene.env.database.store.request_get(id).await.unwrap().unwrap().state;
        let expected = if when == When::Asked { RequestState::Pending } else { RequestState::Done };
        assert_eq!(state, expected);
    }
    if acts {
        let follows = |call: &crate::api_proxy::Call| call.is_write() && !call.resource.ends_with("/status");
        let mut trap = scene.seat.api.trap(When::Answered, follows);
        let operator = scene.operator().await;
        let held = trap.sprung("a write to the cluster").await;
        operator.kill9();
        held.lose();
    }
    (scene.operator().await, id)
}

/// Each deploy made its objects once; one that goes back makes those of the instance that was removed again.
async fn nothing_twice(scene: &Scene) {
    let mut deploys: BTreeMap<String, usize> = BTreeMap::new();
    for stage in ["dev", "production"] {
        for entry in scene.env.deploys(stage).await {
            let name = names::instance_service(stage, "web", &entry.stored.deploy.instance);
            *deploys.entry(name).or_default() += 1;
        }
    }
    for ((kind, name), lives) in scene.witness.lives() {
        assert_eq!(lives.made, deploys.get(&name).copied().unwrap_or(1), "{kind} {name} of {deploys:?}");
    }
}

fn promote(emergency: bool) -> Action {
    Action::Promote { release: None, from: None, emergency }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_done_once_however_often_the_controller_is_killed_over_it() {
    let scene = Scene::begin("asked", STAGES).await;
    let env = &scene.env;
    let operator = scene.operator().await;
    come_to(env, "dev", &["web 1.0.0 success"]).await;

    let (operator, asked) = ask_killing(&scene, operator, ("jane", "production", promote(false)), false).await;
    let promoted = settled_once(env, asked).await.deploy;
    come_to(env, "production", &["web 1.0.0 pending"]).await;
    let (operator, agreed) =
        ask_killing(&scene, operator, ("ada", "production", Action::Approve { release: None }), true).await;
    settled_once(env, agreed).await;
    come_to(env, "production", &["web 1.0.0 success"]).await;
    assert_eq!(env.deploys("production").await[0].stored.deploy.id, promoted.unwrap());
    assert_eq!(number(env, "SELECT count(*) FROM approvals".into()).await, 1);

    env.push("web", "1.1.0", &[]).await;
    come_to(env, "dev", &["web 1.0.0 success", "web 1.1.0 success"]).await;
    let (operator, hurried) = ask_killing(&scene, operator, ("jane", "production", promote(true)), true).await;
    settled_once(env, hurried).await;
    come_to(env, "production", &["web 1.0.0 success", "web 1.1.0 success"]).await;
    let back = Action::Rollback { to: Destination::Previous };
    let (operator, back) = ask_killing(&scene, operator, ("jane", "production", back), true).await;
    settled_once(env, back).await;
    come_to(env, "production", &["web 1.0.0 success", "web 1.1.0 success", "web 1.0.0 success"]).await;
    let held = "SELECT count(*) FROM holds WHERE lifted_at IS NULL AND owner = 'user:jane' AND from_images IS NOT NULL";
    assert_eq!(number(env, held.into()).await, 1);
    assert_eq!(number(env, "SELECT count(*) FROM holds".into()).await, 1);

    env.push("web", "1.2.0", &[("APP_HEALTH", "fail")]).await;
    come_to(env, "dev", &["web 1.0.0 success", "web 1.1.0 success", "web 1.2.0 starting"]).await;
    let abort = || Action::Abort { deploy: None };
    let (operator, stop) = ask_killing(&scene, operator, ("jane", "dev", abort()), true).await;
    settled_once(env, stop).await;
    let stopped = ["web 1.0.0 success", "web 1.1.0 success", "web 1.2.0 aborted"];
    come_to(env, "dev", &stopped).await;
    let (operator, again) = ask_killing(&scene, operator, ("joe", "dev", Action::Retry { deploy: None }), true).await;
    let retried = settled_once(env, again).await.deploy;
    come_to(env, "dev", &[&stopped[..], &["web 1.2.0 starting"]].concat()).await;
    let retry = env.deploys("dev").await.pop().unwrap().stored;
    assert_eq!((Some(retry.deploy.id), retry.retry_of), (retried, Some(env.deploys("dev").await[2].stored.deploy.id)));
    let end = asking::make(env, "joe", &[], "dev", abort()).await;
    settled_once(env, end.id).await;
    come_to(env, "dev", &[&stopped[..], &["web 1.2.0 aborted"]].concat()).await;

    nothing_twice(&scene).await;
    operator.ready().await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_believe_that_they_lead_one_settles() {
    let scene = Scene::begin("asked-two", STAGES).await;
    let env = &scene.env;
    let mut leads = Replica::start(&scene, "first").await;
    led_by(&scene, "first").await;
    let mut waits = Replica::start(&scene, "second").await;
    let mut terms = [0, 0];
    come_to(env, "dev", &["web 1.0.0 success"]).await;
    let asked = asking::make(env, "jane", &[], "production", promote(false)).await;
    settled_once(env, asked.id).await;
    env.push("web", "1.1.0", &[]).await;
    come_to(env, "dev", &["web 1.0.0 success", "web 1.1.0 success"]).await;
    env.push("web", "1.2.0", &[("APP_HEALTH", "fail")]).await;
    let running = ["web 1.0.0 success", "web 1.1.0 success", "web 1.2.0 starting"];
    come_to(env, "dev", &running).await;

    // One of each kind of statement: that records, that moves a deploy, that makes one.
    let stopped = ["web 1.0.0 success", "web 1.1.0 success", "web 1.2.0 aborted"];
    let back = [&stopped[..], &["web 1.0.0 success"]].concat();
    let actions: [(&str, Action, &[&str]); 3] = [
        ("production", Action::Approve { release: None }, &["web 1.0.0 success"]),
        ("dev", Action::Abort { deploy: None }, &stopped),
        ("dev", Action::Rollback { to: Destination::Previous }, &back),
    ];
    for (turn, (stage, action, expected)) in actions.into_iter().enumerate() {
        let mut trap = leads.seat.sql.trap(When::Asked, settles);
        let id = asking::make(env, "ada", &[], stage, action).await.id;
        let held = trap.sprung("the statement that settles it").await;
        drop(trap);
        leads.operator.signal("STOP");
        led_by(&scene, waits.name).await;
        settled_once(env, id).await;
        come_to(env, stage, expected).await;
        env.until(stage, "nothing is left over", |status| status.instances.len() == 1).await;

        // What was on its way arrives late.
        let before = rows(env).await;
        let mut answered = leads.seat.sql.trap(When::Answered, |_| true);
        held.release();
        answered.sprung("the answer to the late statement").await.release();
        drop(answered);
        assert_eq!(rows(env).await, before, "{stage}: the database refuses what comes from an older epoch");
        let was = leads.writes();
        leads.operator.signal("CONT");
        terms[turn % 2] += 1;
        leads.says(&scene, "the term has ended", terms[turn % 2]).await;
        assert_eq!(leads.writes(), was);
        assert_eq!(rows(env).await, before);
        std::mem::swap(&mut leads, &mut waits);
    }
    nothing_twice(&scene).await;
    leads.operator.stop().await;
    waits.operator.stop().await;
}
