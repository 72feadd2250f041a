//! Events that say nothing new, and a memory that is behind the cluster.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{ResourceExt as _, api::DeleteParams};
use serde_json::json;
use stagekeeper::{api::Stage, domain::deploy::State};

use crate::{
    cluster::DEADLINE,
    operator::Operator,
    story::{PLAIN, STAGE, Scene, rows},
};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_say_nothing_new_cost_nothing_and_one_change_is_one_deploy() {
    let scene = Scene::begin("duplicates", PLAIN).await;
    let operator = scene.operator().await;
    scene.settled(1, State::Success).await;
    scene.env.until(STAGE, "it is ready", ready).await;
    let (before, writes) = (rows(&scene.env).await, scene.seat.api.writes().len());
    let passes = passes(&operator).await;
    annotate(&scene, "example.test/number", 20).await;
    reconciled(&scene, &operator, passes + 1).await;
    assert_eq!(rows(&scene.env).await, before);
    assert_eq!(scene.seat.api.writes()[writes..], []);

    // One change, however often it is told.
    let change = json!({"spec": {"services": {"web": {"env": [{"name": "COLOUR", "value": "blue"}]}}}});
    scene.env.patch::<Stage>(STAGE, change.clone()).await;
    annotate(&scene, "example.test/number", 40).await;
    scene.env.patch::<Stage>(STAGE, change).await;
    scene.settled(2, State::Success).await;
    assert_eq!(scene.env.deploys(STAGE).await.len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_goes_while_the_watch_hangs_is_made_again_once() {
    let scene = Scene::begin("stale", PLAIN).await;
    let operator = scene.operator().await;
    scene.settled(1, State::Success).await;
    scene.env.until(STAGE, "it is ready", ready).await;
    let [web] = &scene.env.list::<Deployment>().await[..] else { panic!("one workload") };
    let name = web.name_any();

    scene.seat.api.stall_watches(Some("deployments"));
    scene.env.api::<Deployment>().delete(&name, &DeleteParams::background()).await.unwrap();
    let writes = scene.seat.api.writes().len();
    let done = passes(&operator).await;
    annotate(&scene, "example.test/number", 5).await;
    reconciled(&scene, &operator, done + 1).await;
    let written = scene.seat.api.writes().split_off(writes);
    assert!(written.iter().all(|call| call.resource == "stages/status"), "from a memory that is behind: {written:?}");

    scene.seat.api.stall_watches(None);
    scene.env.until(STAGE, "it is ready again", ready).await;
    let back = scene.env.wait("the workload is back", DEADLINE, async || {
        let found = scene.env.api::<Deployment>().get_opt(&name).await.unwrap()?;
        (found.uid() != web.uid() && found.status?.ready_replicas == Some(1)).then_some(())
    });
    back.await;
    let lives = scene.witness.lives()[&("Deployment".to_owned(), name)];
    assert_eq!((lives.made, lives.removed), (2, 1));
    assert_eq!(scene.env.deploys(STAGE).await.len(), 1, "what is missing is no reason for a deploy");
    operator.stop().await;
}

fn ready(status: &stagekeeper::api::StageStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Changes an annotation that means nothing, again and again.
async fn annotate(scene: &Scene, name: &str, times: usize) {
    for number in 0..times {
        scene.env.patch::<Stage>(STAGE, json!({"metadata": {"annotations": {name: number.to_string()}}})).await;
    }
}

/// Waits until so many passes over stages are done.
async fn reconciled(scene: &Scene, operator: &Operator, times: u64) {
    let what = format!("{times} passes");
    scene.env.wait(&what, DEADLINE, async || (passes(operator).await >= times).then_some(())).await;
}

async fn passes(operator: &Operator) -> u64 {
    let metrics = operator.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total{"));
    let lines = lines.filter(|line| line.contains("controller=\"stage\""));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
