//! The database is restored from an earlier state, and the cluster is ahead of it.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::{api::Stage, domain::deploy::State};

use crate::{cluster::Env, operator::Operator, shop};

/// Takes the last deploy's rows away, as a restore does.
async fn lose(env: &Env, sequence: i64) {
    let mut sql = PgConnection::connect(&env.database.url).await.unwrap();
    let lost = format!("DELETE FROM deploys WHERE sequence >= {sequence}");
    let done = sqlx::query(AssertSqlSafe(lost)).execute(&mut sql).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

/// What runs: workloads by identity and generation, so that a write to any of them shows.
async fn runs(env: &Env) -> Vec<(String, Option<String>, Option<i64>)> {
    let found = env.list::<Deployment>().await;
    found.iter().map(|one| (one.name_any(), one.uid(), one.metadata.generation)).collect()
}

#[tokio::test]
async fn what_serves_is_adopted_and_never_redone() {
    let env = Env::new("ahead").await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("rollback: {keepPrevious: 1h}")).await;
    let operator = Operator::start(&env).await;
    shop::serves(&env, "production", "web 1.0.0").await;
    env.push("web", "1.1.0", &[]).await;
    let before = shop::serves(&env, "production", "web 1.1.0").await;
    let lost = before.deploy.clone().unwrap().id;
    operator.stop().await;

    let running = runs(&env).await;
    lose(&env, 2).await;
    let operator = Operator::start(&env).await;
    let adopted = env.wait("the lost deploy is written down again", crate::cluster::DEADLINE, async || {
        env.deploys("production").await.into_iter().find(|entry| entry.stored.deploy.id.to_string() == lost)
    });
    let adopted = adopted.await;
    let deploy = &adopted.stored.deploy;
    assert_eq!((deploy.state, deploy.sequence), (State::Success, 2));
    assert_eq!(adopted.stored.release.summary(), "web 1.1.0", "with its tag");
    assert_eq!(adopted.transitions.iter().map(|step| step.reason.as_str()).collect::<Vec<_>>(), ["Adopted"]);
    let audit = env.database.store.audit_list(&format!("deploy/{lost}"), None, 10).await.unwrap();
    assert!(audit.iter().any(|entry| entry.entry.action == "deploy.adopt"), "{audit:?}");
    // Another release shows that the stage goes on from there.
    env.push("web", "1.2.0", &[]).await;
    shop::serves(&env, "production", "web 1.2.0").await;
    let after = runs(&env).await;
    assert!(running.iter().all(|one| after.contains(one)), "nothing was touched: {running:?}, {after:?}");
    assert_eq!(env.deploys("production").await.len(), 3);
    operator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_rendered_again_is_left_alone_until_somebody_says() {
    let env = Env::new("far-ahead").await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("")).await;
    let operator = Operator::start(&env).await;
    shop::serves(&env, "production", "web 1.0.0").await;
    operator.stop().await;

    let running = runs(&env).await;
    lose(&env, 1).await;
    // Nobody knows any more what it was rendered from.
    env.apply(&shop::project("replicas: 2")).await;
    let operator = Operator::start(&env).await;
    let stalled = env.until("production", "it says that it is behind", |status| {
        status.conditions.iter().any(|one| one.type_ == "Stalled" && one.reason == "ClusterAhead")
    });
    let status = stalled.await;
    let said = status.conditions.iter().find(|one| one.type_ == "Stalled").unwrap();
    assert!(said.message.contains("stagekeeper.dev/retry"), "{}", said.message);
    assert_eq!(runs(&env).await, running);
    assert!(env.deploys("production").await.is_empty());

    env.patch::<Stage>("production", json!({"metadata": {"annotations": {"stagekeeper.dev/retry": "over"}}})).await;
    env.until("production", "it was deployed anew", |status| {
        status.last_handled_retry.as_deref() == Some("over")
            && status.deploy.as_ref().is_some_and(|deploy| deploy.state == "Success")
    })
    .await;
    operator.stop().await;
}
