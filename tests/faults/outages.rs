//! Postgres and the API server go away in the middle of a deploy and come back; the controller is not restarted. They are
//! stopped for real, so each test has its own.

use std::time::{Duration, Instant};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt as _;
use stagekeeper::domain::deploy::State;

use crate::{
    cluster::{DEADLINE, Env, kubeconfig},
    operator::Operator,
    postgres::server,
    story::{PLAIN, PROJECT, STAGE, Scene},
    throwaway::Throwaway,
    trap::When,
};

/// How long Postgres is away.
const AWAY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_be_away_for_half_a_minute() {
    let own = Throwaway::up("away", "postgres").await;
    let scene = Scene::over(Env::on("away", &kubeconfig(), own.postgres()).await).await;
    scene.env.push("web", "1.0.0", &[]).await;
    scene.env.apply(PROJECT).await;
    scene.env.apply(PLAIN).await;
    let operator = scene.operator().await;
    scene.settled(1, State::Success).await;
    let [web] = &scene.env.list::<Deployment>().await[..] else { panic!("one workload") };
    let pods = running(&scene.env, &web.name_any()).await;

    let mut trap = scene.seat.api.trap(When::Answered, |call| call.is_write() && call.resource == "deployments");
    scene.env.push("web", "1.1.0", &[]).await;
    let held = trap.sprung("the workload of 1.1.0").await;
    drop(trap);
    // What is committed is on the disk: this is about a server that stops, not about one that forgets.
    run(&scene.env.database.url, "CHECKPOINT").await;
    own.part("kill", "postgres").await;
    let stopped = Instant::now();
    held.release();
    answers(&scene.env, &operator, 503).await;
    scene
        .env
        .until(STAGE, "it says that the database is away", |status| {
            status.conditions.iter().any(|condition| condition.reason == "StoreUnavailable")
        })
        .await;
    while stopped.elapsed() < AWAY {
        assert_eq!(readiness(&operator).await, 503);
        assert_eq!(running(&scene.env, &web.name_any()).await, pods, "what runs is left alone");
        let (code, body) = scene.env.http_get("production-web", "/").await.unwrap();
        assert!(code == 200 && body.contains("1.0.0"), "{code} {body}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    own.part("start", "postgres").await;
    answers(&scene.env, &operator, 200).await;
    scene.settled(2, State::Success).await;
    scene.undivided().await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_may_be_restarted_and_may_hang() {
    let own = Throwaway::up("api", "kwok").await;
    let scene = Scene::over(Env::on("api", own.kubeconfig(), &server()).await).await;
    scene.env.push("web", "1.0.0", &[]).await;
    // Nothing answers in the pods of this cluster.
    scene.env.apply(&PROJECT.replace("    health:", "    # health:")).await;
    scene.env.apply(PLAIN).await;
    // Straight to the API server, so that it is its connections that break.
    let operator = Operator::start_with(&scene.env, &[("DATABASE_URL", &scene.seat.sql.url)]).await;
    scene.settled(1, State::Success).await;

    let in_the_middle = async |version: &str| {
        let mut trap = scene.seat.sql.trap(When::Answered, |statement| statement.is_transition());
        scene.env.push("web", version, &[]).await;
        // The first is the deploy itself.
        trap.sprung("a new deploy").await.release();
        trap.sprung("a transition").await
    };
    let held = in_the_middle("1.1.0").await;
    own.part("kill", "apiserver").await;
    held.release();
    own.part("start", "apiserver").await;
    scene.settled(2, State::Success).await;

    let held = in_the_middle("1.2.0").await;
    own.part("stop", "apiserver").await;
    held.release();
    answers(&scene.env, &operator, 503).await;
    own.part("cont", "apiserver").await;
    answers(&scene.env, &operator, 200).await;
    scene.settled(3, State::Success).await;
    scene.undivided().await;
    operator.stop().await;
}

/// Waits until `/readyz` answers with this code.
async fn answers(env: &Env, operator: &Operator, code: u16) {
    let what = format!("/readyz answers {code}");
    env.wait(&what, DEADLINE, async || (readiness(operator).await == code).then_some(())).await;
}

async fn readiness(operator: &Operator) -> u16 {
    reqwest::get(format!("{}/readyz", operator.address)).await.expect("it answers").status().as_u16()
}

/// Identities and restarts of the pods of a workload.
async fn running(env: &Env, workload: &str) -> Vec<(String, i32)> {
    let pods = env.list::<Pod>().await.into_iter().filter(|pod| pod.name_any().starts_with(workload));
    let restarts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        status.container_statuses.unwrap_or_default().iter().map(|container| container.restart_count).sum()
    };
    pods.map(|pod| (pod.uid().unwrap_or_default(), restarts(&pod))).collect()
}

async fn run(url: &str, sql: &'static str) {
    use sqlx::Connection as _;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
}
