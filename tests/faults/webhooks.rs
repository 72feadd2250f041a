//! The controller is killed while it works on what a webhook said: nothing is lost, nothing is done that shows, and nothing is
//! deployed because of a webhook alone.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::{
    api::Project,
    domain::{actor::Actor, deploy::State},
};

use crate::{
    cluster::Env,
    operator::Operator,
    postgres_proxy::Statement,
    story::{PLAIN, PROJECT, Scene},
    trap::When,
};

const DEADLINE: Duration = Duration::from_mins(1);

/// The webhook's path, once it is another than `before`.
async fn path(env: &Env, before: &str) -> String {
    env.wait("the Project shows the path of its webhook", DEADLINE, async || {
        let status = env.api::<Project>().get("shop").await.ok()?.status?;
        status.webhooks.first().map(|webhook| webhook.path.clone()).filter(|path| path != before)
    })
    .await
}

async fn post(env: &Env, operator: &Operator, path: &str, body: &serde_json::Value) -> u16 {
    let url = format!("{}{path}", operator.address);
    env.http.post(url).json(body).send().await.unwrap().status().as_u16()
}

async fn number(env: &Env, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(&env.database.url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap()
}

/// That the deliveries were worked on.
fn marks(statement: &Statement) -> bool {
    statement.text.contains("UPDATE webhook_inbox SET state = one.state")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_before_it_marks_a_delivery_works_on_it_again_to_the_same_end() {
    let scene = Scene::new("crash-hook").await;
    let env = &scene.env;
    env.push("web", "1.0.0", &[]).await;
    let webhooks = "  webhooks: [{name: pushes, source: diun}]\n";
    // Nobody looks by themselves in the time of this test.
    env.apply(&(PROJECT.replace("interval: 1s", "interval: 24h") + webhooks)).await;
    env.apply(PLAIN).await;
    let operator = scene.operator().await;
    let pushes = path(env, "").await;
    scene.settled(1, State::Success).await;

    let repository = env.repository("web");
    let digest = format!("sha256:{}", "9".repeat(64));
    let lie = json!({"status": "update", "image": format!("{repository}:9.9.9"), "digest": digest, "hostname": "vm-1"});
    let mut trap = scene.seat.sql.trap(When::Asked, marks);
    assert_eq!(post(env, &operator, &pushes, &lie).await, 202);
    let held = trap.sprung("the mark of the delivery").await;
    operator.kill9();
    held.lose();
    drop(trap);
    assert_eq!(number(env, "SELECT count(*) FROM webhook_inbox WHERE state = 'pending'").await, 1);
    let operator = scene.operator().await;
    let processed = "SELECT count(*) FROM webhook_inbox WHERE state = 'processed' AND opened = 1";
    env.wait("the delivery is worked on", DEADLINE, async || (number(env, processed).await == 1).then_some(())).await;
    let updates = "SELECT count(*) FROM image_updates WHERE host = 'vm-1'";
    assert_eq!(number(env, updates).await, 1, "it was put on the update list twice, and is there once");

    // What is true is deployed, as soon as it is heard; what was a lie is not.
    env.push("web", "1.1.0", &[]).await;
    let truth = json!({"status": "new", "image": format!("{repository}:1.1.0")});
    assert_eq!(post(env, &operator, &pushes, &truth).await, 202);
    scene.settled(2, State::Success).await;
    scene.undivided().await;

    // The status follows a rotation by itself, and the path is closed with the Project.
    let project = env.database.store.project_get(&env.namespace, "shop").await.unwrap().unwrap().id;
    let token = stagekeeper::safe::token().unwrap();
    let jane = Actor::User("jane".into());
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(env.database.store.receiver_rotate(project, "pushes", &token, None, &jane, now).await, Ok(true));
    let rotated = path(env, &pushes).await;
    assert_eq!(rotated, format!("/hooks/{token}"));
    assert_eq!(post(env, &operator, &pushes, &lie).await, 404);
    env.api::<Project>().delete("shop", &kube::api::DeleteParams::default()).await.unwrap();
    env.wait("the path is closed", DEADLINE, async || {
        (post(env, &operator, &rotated, &lie).await == 404).then_some(())
    })
    .await;
    operator.stop().await;
}
