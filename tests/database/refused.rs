//! The database answers, and refuses: it is read-only, its disk is full, a table is locked, or there is no room for
//! connections.

use std::time::Instant;

use sqlx::{Connection as _, PgConnection};
use stagekeeper::domain::deploy::State;

use crate::{
    cluster::DEADLINE,
    ground::{Ground, NOTICED, number, run},
    postgres_server::Server,
    trap::When,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_may_turn_read_only() {
    let server = Server::start();
    let mut ground = Ground::begin("readonly", &server.url()).await;
    let reload = "SELECT pg_reload_conf()";
    run(&server.url(), &["ALTER SYSTEM SET default_transaction_read_only = on", reload]).await;
    ground.scene.env.push("web", "1.1.0", &[]).await;
    ground.answers(503, NOTICED).await;
    ground.says("StoreUnwritable").await;
    ground.untouched("1.0.0").await;

    let steps = ground.steps().await.expect("it can be read");
    let (free, off) = ("SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only");
    run(&server.url(), &[free, off, reload]).await;
    ground.goes_on("read-only: writable again", Instant::now(), steps).await;
    ground.scene.settled(2, State::Success).await;
    ground.scene.undivided().await;
    ground.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_may_be_full() {
    let server = Server::small(192);
    let mut ground = Ground::begin("full", &server.url()).await;
    // The next deploy needs another page: what is there is not filled up.
    run(&ground.scene.env.database.url, &["ALTER TABLE deploys SET (fillfactor = 10)"]).await;
    server.fill(true);
    ground.scene.env.push("web", "1.1.0", &[]).await;
    ground.says("StoreUnwritable").await;
    ground.answers(503, NOTICED).await;
    ground.untouched("1.0.0").await;

    let steps = ground.steps().await.expect("it can be read");
    server.fill(false);
    ground.goes_on("disk full: room again", Instant::now(), steps).await;
    ground.scene.settled(2, State::Success).await;
    ground.scene.undivided().await;
    ground.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_may_be_locked_for_longer_than_statements_may_take() {
    let server = Server::start();
    let mut ground = Ground::begin("locked", &server.url()).await;
    let steps = ground.steps().await.expect("it can be read");
    let mut other = PgConnection::connect(&ground.scene.env.database.url).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE deploys").execute(&mut *lock).await.unwrap();
    ground.scene.env.push("web", "1.1.0", &[]).await;
    ground.says("StoreUnavailable").await;
    assert_eq!(ground.readiness().await, 200, "the database answers");
    ground.untouched("1.0.0").await;

    lock.rollback().await.unwrap();
    ground.goes_on("a statement's time is over: unlocked", Instant::now(), steps).await;
    ground.scene.settled(2, State::Success).await;
    ground.scene.undivided().await;
    ground.operator.stop().await;
}

/// Ends every connection of the operator's.
const END: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'stagekeeper'";

#[tokio::test(flavor = "multi_thread")]
async fn others_may_take_every_connection() {
    let server = Server::start_with("-c max_connections=60");
    let mut ground = Ground::begin("crowded", &server.url()).await;
    let steps = ground.steps().await.expect("it can be read");
    let mut admin = PgConnection::connect(&server.url()).await.unwrap();
    let mut others = Vec::new();
    let begun = Instant::now();
    // It tries again at once: whoever wants all has to be faster.
    loop {
        assert!(begun.elapsed() < DEADLINE, "the operator kept a connection");
        let ended: i64 = sqlx::query_scalar(END).fetch_one(&mut admin).await.unwrap();
        while let Ok(connection) = PgConnection::connect(&server.url()).await {
            others.push(connection);
        }
        if ended == 0 {
            break;
        }
    }
    ground.scene.env.push("web", "1.1.0", &[]).await;
    ground.answers(503, NOTICED).await;
    ground.says("StoreUnavailable").await;
    ground.untouched("1.0.0").await;

    drop(others);
    ground.goes_on("every connection is taken: given back", Instant::now(), steps).await;
    ground.scene.settled(2, State::Success).await;
    ground.scene.undivided().await;
    ground.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_may_be_ended_at_once() {
    let server = Server::start();
    let ground = Ground::begin("ended", &server.url()).await;
    let mut trap = ground.scene.seat.sql.trap(When::Answered, |statement| statement.is_transition());
    let (mut steps, mut ended) = (0, 0);
    ground.scene.env.push("web", "1.1.0", &[]).await;
    // The deploy is written down, and then its first step: each time all are ended when the server has done it.
    for step in ["the deploy", "its first step"] {
        let held = trap.sprung(step).await;
        steps = ground.steps().await.expect("it can be read");
        ended += number(&server.url(), END).await.unwrap();
        held.release();
    }
    drop(trap);
    assert!(ended > 2, "{ended} connections were ended");
    ground.goes_on("connections ended: left alone", Instant::now(), steps).await;
    ground.scene.settled(2, State::Success).await;
    ground.scene.undivided().await;
    ground.operator.stop().await;
}
