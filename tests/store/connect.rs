//! Connecting, losing the connection, and finding it again.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use stagekeeper::{
    domain::actor::Actor,
    store::{Class, ConnectOptions, NewAuditEntry, Store},
};

use crate::{
    fixture::at,
    server::{Server, quick},
};

/// Generous: only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(30);

fn entry() -> NewAuditEntry {
    NewAuditEntry {
        at: at(0),
        actor: Actor::Controller,
        action: "test.write".into(),
        subject: "test/1".into(),
        details: serde_json::json!({}),
    }
}

/// Repeats until it answers.
async fn until_back(store: &Store) {
    let begun = Instant::now();
    while let Err(error) = store.ping().await {
        assert_eq!(error.class(), Class::Unavailable, "{error}");
        assert!(begun.elapsed() < DEADLINE, "it never came back: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn three_tries_and_no_password_in_the_text() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let url = format!("postgres://keeper:hunter2@127.0.0.1:{port}/deploys");
    let error = Store::connect_with(&url, &quick()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert_eq!(error.reason(), "StoreUnavailable");
    let text = error.to_string();
    let want = "failed to connect to database after 3 attempts: Connection refused";
    assert!(text.starts_with(want), "{text}");
    assert!(text.ends_with(&format!("(127.0.0.1:{port}/deploys)")), "{text}");
    for secret in ["hunter2", "keeper"] {
        assert!(!format!("{text} {error:?}").contains(secret), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_tries_are_one_and_two_seconds_apart() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    drop(silent);
    let begun = tokio::time::Instant::now();
    let url = format!("postgres://keeper@127.0.0.1:{port}/deploys");
    Store::connect(&url).await.unwrap_err();
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert!(waited < Duration::from_secs(13), "{waited:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = ConnectOptions { acquire: Duration::from_millis(50), ..quick() };
    let url = format!("postgres://keeper@127.0.0.1:{port}/deploys");
    let error = Store::connect_with(&url, &options).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("after 3 attempts: no answer within 50ms"), "{text}");
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_at_once() {
    for url in ["", "shop", "postgres://keeper:hunter2@host:port/x", "mysql://keeper:hunter2@host/x"] {
        let error = Store::connect(url).await.unwrap_err();
        assert_eq!(error.class(), Class::Other, "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_is_unavailability_and_passes() {
    let server = Server::start();
    let store = Store::connect_with(&server.url(), &quick()).await.unwrap();
    store.migrate_up().await.unwrap();
    // The statement waits for a lock, so that the crash comes while it runs.
    let sql = PgPool::connect(&server.url()).await.unwrap();
    let mut lock = sql.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE audit_head").execute(&mut *lock).await.unwrap();
    let write = tokio::spawn({
        let store = store.clone();
        async move { store.audit_append(&entry()).await }
    });
    let begun = Instant::now();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&sql).await.unwrap() == 0 {
        assert!(begun.elapsed() < DEADLINE, "the write never waited");
    }
    server.crash();
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(error.class(), Class::Unavailable, "{error:?}");
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable, "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    server.resume();
    until_back(&store).await;
    assert_eq!(store.audit_append(&entry()).await, Ok(1), "the lost write was not kept");
}

#[tokio::test]
async fn a_standby_is_refused_and_a_demoted_server_noticed() {
    let server = Server::start();
    let store = Store::connect_with(&server.url(), &quick()).await.unwrap();
    store.migrate_up().await.unwrap();
    server.demote();
    let error = Store::connect_with(&server.url(), &quick()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    assert!(error.to_string().contains("read-only standby"), "{error}");
    let error = store.audit_append(&entry()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable, "{error}");
    server.promote();
    until_back(&store).await;
    assert_eq!(store.audit_append(&entry()).await, Ok(1));
}

#[tokio::test]
async fn connections_that_turn_read_only_are_replaced() {
    let server = Server::start();
    let store = Store::connect_with(&server.url(), &quick()).await.unwrap();
    store.migrate_up().await.unwrap();
    store.audit_append(&entry()).await.unwrap();
    let sql = PgPool::connect(&server.url()).await.unwrap();
    let backends = || async {
        let sql = sql.clone();
        let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'stagekeeper'";
        let pids: Vec<i32> = sqlx::query_scalar(query).fetch_all(&sql).await.unwrap();
        pids
    };
    let before = backends().await;
    assert!(!before.is_empty());
    let read_only = |on| {
        let sql = sql.clone();
        async move {
            let statement = if on {
                "ALTER SYSTEM SET default_transaction_read_only = on"
            } else {
                "ALTER SYSTEM SET default_transaction_read_only = off"
            };
            let mut session = sql.acquire().await.unwrap();
            let writable = "SET default_transaction_read_only = off";
            sqlx::raw_sql(writable).execute(&mut *session).await.unwrap();
            sqlx::raw_sql(statement).execute(&mut *session).await.unwrap();
            sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut *session).await.unwrap();
        }
    };
    read_only(true).await;
    let begun = Instant::now();
    let error = loop {
        match store.audit_append(&entry()).await {
            Ok(_) => assert!(begun.elapsed() < DEADLINE, "it never became read-only"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), Class::Unavailable, "{error}");
    assert!(error.to_string().contains("25006"), "{error}");
    assert_eq!(store.ping().await.unwrap_err().reason(), "StoreUnwritable");
    read_only(false).await;
    let begun = Instant::now();
    while let Err(error) = store.audit_append(&entry()).await {
        assert!(begun.elapsed() < DEADLINE, "{error}");
    }
    // Every connection from before is replaced when its turn comes, not only the one that met the error.
    let begun = Instant::now();
    while backends().await.iter().any(|pid| before.contains(pid)) {
        store.ping().await.unwrap();
        assert!(begun.elapsed() < DEADLINE, "old connections are still used");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_unavailable_and_keeps_no_connection() {
    let server = Server::start();
    let options = ConnectOptions { acquire: Duration::from_millis(300), ..quick() };
    let store = Store::connect_with(&server.url(), &options).await.unwrap();
    store.migrate_up().await.unwrap();
    server.signal("STOP");
    // More often than there are connections.
    for _ in 0..3 * options.max {
        let error = store.ping().await.unwrap_err();
        assert_eq!(error.class(), Class::Unavailable, "{error}");
    }
    server.signal("CONT");
    until_back(&store).await;
    assert_eq!(store.audit_append(&entry()).await, Ok(1));
}

#[tokio::test]
async fn another_server_process_is_told_and_another_connection_is_not() {
    let server = Server::start();
    let store = Store::connect_with(&server.url(), &quick()).await.unwrap();
    store.ping().await.unwrap();
    let mut servers = store.servers();
    servers.mark_unchanged();
    let sql = PgPool::connect(&server.url()).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stagekeeper'";
    sqlx::raw_sql(end).execute(&sql).await.unwrap();
    until_back(&store).await;
    assert!(!servers.has_changed().unwrap());
    server.crash();
    server.resume();
    until_back(&store).await;
    assert!(servers.has_changed().unwrap());
}
