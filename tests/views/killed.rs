//! The API server is killed again and again in the middle of deploys, and hangs once; the operator is not restarted.

use std::time::{Duration, Instant};

use stagekeeper::domain::deploy::State;

use crate::{
    ground::{answers, made_once, own, unprobed},
    operator::Operator,
    story::{PLAIN, STAGE, Scene},
    trap::When,
};

/// How often it is killed.
const KILLS: usize = 20;

/// Kills are at so many steps of a deploy in turn, before they are stored and after.
const STEPS: usize = 3;

/// What is promised: a server that hangs is told within half a minute.
const TOLD: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_killed_twenty_times_and_hangs_once() {
    let (own, scene) = own("vwkilled").await;
    scene.env.push("web", "1.0.0", &[]).await;
    scene.env.apply(&unprobed()).await;
    scene.env.apply(PLAIN).await;
    // Straight to the API server, so that it is its connections that break.
    let operator = Operator::start_with(&scene.env, &[("DATABASE_URL", &scene.seat.sql.url)]).await;
    serves(&scene, "1.0.0").await;
    let mut slowest = Duration::ZERO;
    for number in 1..=KILLS {
        let version = format!("1.{number}.0");
        let when = if number % 2 == 0 { When::Asked } else { When::Answered };
        let mut trap = scene.seat.sql.trap(when, |statement| statement.is_transition());
        scene.env.push("web", &version, &[]).await;
        for step in 0..number % STEPS {
            trap.sprung(&format!("step {step} of {version}")).await.release();
        }
        let held = trap.sprung(&format!("another step of {version}")).await;
        drop(trap);
        own.part("kill", "apiserver").await;
        held.release();
        own.part("start", "apiserver").await;
        let since = Instant::now();
        serves(&scene, &version).await;
        slowest = slowest.max(since.elapsed());
    }

    let mut trap = scene.seat.sql.trap(When::Answered, |statement| statement.is_transition());
    scene.env.push("web", "2.0.0", &[]).await;
    let held = trap.sprung("the deploy of 2.0.0").await;
    drop(trap);
    own.part("stop", "apiserver").await;
    held.release();
    let told = answers(&scene.env, &operator, 503).await;
    own.part("cont", "apiserver").await;
    let since = Instant::now();
    answers(&scene.env, &operator, 200).await;
    serves(&scene, "2.0.0").await;
    println!(
        "the API server killed {KILLS} times: each deploy ended at most {:.1} s after it was back; stopped: /readyz said so after \
         {:.1} s (promised: {} s), and the deploy ended {:.1} s after it went on",
        slowest.as_secs_f64(),
        told.as_secs_f64(),
        TOLD.as_secs(),
        since.elapsed().as_secs_f64(),
    );
    assert!(told <= TOLD + Duration::from_secs(5), "it was told after {told:?}");
    let deploys = scene.env.deploys(STAGE).await;
    assert_eq!(deploys.len(), KILLS + 2, "one deploy for each version");
    scene.undivided().await;
    made_once(&scene);
    operator.stop().await;
}

/// Waits until this version has been deployed, and nothing is left over.
async fn serves(scene: &Scene, version: &str) {
    let images = format!("web {version}");
    scene
        .env
        .until(STAGE, &format!("{images} serves"), |status| {
            let newest = status.history.first();
            newest.is_some_and(|it| it.state == State::Success.camel() && it.images.as_deref() == Some(&*images))
                && status.instances.len() == 1
        })
        .await;
}
