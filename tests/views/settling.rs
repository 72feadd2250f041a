//! After the last fault, what is desired is reached soon, and then nothing is written.

use std::time::{Duration, Instant};

use stagekeeper::{api::Stage, domain::deploy::State};

use crate::{
    ground::{PATIENCE, own, unprobed},
    operator::Operator,
    story::{Scene, rows},
    trap::When,
};

const STAGES: usize = 100;

/// What is promised on a machine that does nothing else.
const PROMISED: Duration = Duration::from_secs(30);

/// How long nothing may be written. The registry answers all the time, and every answer is a reason to look again.
const QUIET: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_stages_settle_after_a_fault_and_then_nothing_is_written() {
    let (own, scene) = own("vwsettle").await;
    scene.env.push("web", "1.0.0", &[]).await;
    scene.env.apply(&unprobed()).await;
    let stages: Vec<String> = (0..STAGES)
        .map(|number| {
            format!(
                "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Stage, metadata: {{name: stage-{number}}}, \
                 spec: {{project: shop, rollback: {{keepPrevious: 0s, watch: 0s}}}}}}"
            )
        })
        .collect();
    scene.env.apply(&stages.join("\n---\n")).await;
    let operator = scene.operator().await;
    all_serve(&scene, 1).await;

    // In the middle of the deploys of the next release, the operator dies, and then the API server.
    let mut trap = scene.seat.sql.trap(When::Answered, |statement| statement.is_transition());
    scene.env.push("web", "1.1.0", &[]).await;
    for number in 0..STAGES {
        trap.sprung(&format!("transition {number}")).await.release();
    }
    let held = trap.sprung("one more").await;
    operator.kill9();
    held.lose();
    drop(trap);
    own.part("kill", "apiserver").await;
    own.part("start", "apiserver").await;
    let over = Instant::now();
    let operator = scene.operator().await;
    all_serve(&scene, 2).await;
    let took = over.elapsed();

    // The last status may still be on its way.
    let begun = scans(&operator).await;
    scanned(&scene, &operator, begun + 2).await;
    let (before, calls, statements) =
        (rows(&scene.env).await, scene.seat.api.writes().len(), scene.seat.sql.writes().len());
    let quiet = Instant::now();
    let passed = async || (quiet.elapsed() >= QUIET).then_some(());
    scene.env.wait("a minute has passed", PATIENCE, passed).await;
    let scans = scans(&operator).await - begun;
    assert!(scans >= 30, "the registry answered {scans} times only");
    let (calls, statements) = (scene.seat.api.writes().split_off(calls), scene.seat.sql.writes().split_off(statements));
    println!(
        "{STAGES} stages after a kill of the operator and the API server: all as desired after {:.1} s (promised: {} s), \
         then {} writes to the API server and {} to Postgres in {:.0} s, in which the registry answered {scans} times",
        took.as_secs_f64(),
        PROMISED.as_secs(),
        calls.len(),
        statements.len(),
        quiet.elapsed().as_secs_f64(),
    );
    assert_eq!(calls, []);
    assert_eq!(statements, []);
    assert_eq!(rows(&scene.env).await, before);
    let lives = scene.witness.lives();
    assert!(lives.values().all(|one| one.made == 1), "{lives:?}");
    operator.stop().await;
}

/// Waits until every stage has this many deploys, has come to the end of the last one, and has nothing left over.
async fn all_serve(scene: &Scene, deploys: usize) {
    let what = format!("{deploys} deploys of each stage have succeeded");
    scene
        .env
        .wait(&what, PATIENCE, async || {
            let stages = scene.env.list::<Stage>().await;
            let done = stages.iter().filter_map(|stage| stage.status.as_ref()).filter(|status| {
                status.deploy.as_ref().is_some_and(|deploy| deploy.state == State::Success.camel())
                    && status.history.len() == deploys
                    && status.instances.len() == 1
            });
            (done.count() == STAGES).then_some(())
        })
        .await;
}

/// Waits until the registry has answered that often.
async fn scanned(scene: &Scene, operator: &Operator, times: u64) {
    let what = format!("the registry has answered {times} times");
    scene.env.wait(&what, PATIENCE, async || (scans(operator).await >= times).then_some(())).await;
}

async fn scans(operator: &Operator) -> u64 {
    let metrics = operator.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("stagekeeper_scan_total{result=\"success\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
