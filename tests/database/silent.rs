//! The database does not answer and does not hang up either.

use std::time::{Duration, Instant};

use stagekeeper::domain::deploy::State;

use crate::{
    ground::{Ground, NOTICED},
    postgres_server::Server,
};

/// How long it hangs.
const AWAY: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_hang_for_five_minutes() {
    let server = Server::start();
    let mut ground = Ground::begin("hanging", &server.url()).await;
    let steps = ground.steps().await.expect("it can be read");
    server.signal("STOP");
    let stopped = Instant::now();
    let noticed = ground.answers(503, NOTICED).await;
    ground.scene.env.push("web", "1.1.0", &[]).await;
    ground.says("StoreUnavailable").await;
    while stopped.elapsed() < AWAY {
        assert_eq!(ground.readiness().await, 503);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ground.untouched("1.0.0").await;

    server.signal("CONT");
    let fault = format!("hanging for 5 minutes, noticed after {:.1} s: goes on", noticed.as_secs_f32());
    ground.goes_on(&fault, Instant::now(), steps).await;
    ground.scene.settled(2, State::Success).await;
    ground.scene.undivided().await;
    ground.operator.stop().await;
}
