//! When everything is settled, nothing is written: neither while the controller runs nor when it starts again.

use crate::{
    cluster::DEADLINE,
    operator::Operator,
    story::{Scene, THOROUGH, rows},
};

/// So many answers of the registry, one a second, make the time of observation: every one of them is a reason to look at
/// the stage again.
const SCANS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_stage_costs_no_write_neither_at_rest_nor_at_a_restart() {
    let scene = Scene::begin("settled", THOROUGH).await;
    let operator = scene.operator().await;
    scene.play().await;
    at_rest(&scene, &operator).await;
    operator.stop().await;

    let (before, calls, statements) = (rows(&scene.env).await, scene.seat.api.log().len(), scene.seat.sql.log().len());
    let operator = scene.operator().await;
    operator.ready().await;
    scanned(&scene, &operator, SCANS).await;
    let written: Vec<_> = scene.seat.api.log().split_off(calls);
    let written: Vec<_> = written.into_iter().filter(|call| call.is_write() || call.resource == "events").collect();
    assert!(written.iter().all(|call| call.method == http::Method::GET), "written at the start: {written:?}");
    let said = scene.seat.sql.log().split_off(statements);
    let said: Vec<_> = said.iter().filter(|one| one.is_write() && !one.writes_to("leader_epochs")).collect();
    assert!(said.is_empty(), "written at the start: {said:?}");
    assert_eq!(rows(&scene.env).await, before);
    operator.stop().await;
}

/// Watches for a while that nothing is written.
async fn at_rest(scene: &Scene, operator: &Operator) {
    // The last write, of the status, may still be on its way.
    let begun = scans(operator).await;
    scanned(scene, operator, begun + 2).await;
    let before = (rows(&scene.env).await, scene.seat.api.writes(), scene.seat.sql.writes());
    scanned(scene, operator, begun + 2 + SCANS).await;
    assert_eq!(rows(&scene.env).await, before.0);
    assert_eq!(scene.seat.api.writes()[before.1.len()..], []);
    assert_eq!(scene.seat.sql.writes()[before.2.len()..], []);
}

/// Waits until the registry has answered that often.
async fn scanned(scene: &Scene, operator: &Operator, times: u64) {
    let what = format!("the registry has answered {times} times");
    scene.env.wait(&what, DEADLINE, async || (scans(operator).await >= times).then_some(())).await;
}

async fn scans(operator: &Operator) -> u64 {
    let metrics = operator.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("stagekeeper_scan_total{result=\"success\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
