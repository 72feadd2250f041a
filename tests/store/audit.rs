//! The audit log: one chain under many writers, and no change goes unseen.

use futures::future::join_all;
use serde_json::json;
use stagekeeper::{
    domain::actor::Actor,
    store::{AuditVerdict, NewAuditEntry},
};

use crate::fixture::{Shop, at};

fn entry(number: i64) -> NewAuditEntry {
    NewAuditEntry {
        at: at(number),
        actor: Actor::User("jürgen".into()),
        action: "stage.hold".into(),
        subject: format!("stage/{}", number % 3),
        details: json!({"why": "a \"quoted\" reason — with ümlauts", "number": number, "share": 0.1}),
    }
}

#[tokio::test]
async fn eight_writers_make_one_chain() {
    let shop = Shop::new().await;
    let writers = (0..8).map(|writer| {
        let store = shop.database.store.clone();
        tokio::spawn(async move {
            for number in 0..25 {
                store.audit_append(&entry(writer * 100 + number)).await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let whole = AuditVerdict { entries: 200, broken: None };
    assert_eq!(shop.audit_verify().await, Ok(whole));
    let newest = shop.audit_list("stage/1", None, 5).await.unwrap();
    assert_eq!(newest.len(), 5);
    let older = shop.audit_list("stage/1", Some(newest[4].seq), 5).await.unwrap();
    assert!(older[0].seq < newest[4].seq);
    let number = newest[0].entry.details["number"].as_i64().unwrap();
    assert_eq!(newest[0].entry, entry(number));
}

#[tokio::test]
async fn an_empty_chain_is_whole() {
    let shop = Shop::new().await;
    let whole = AuditVerdict { entries: 0, broken: None };
    assert_eq!(shop.audit_verify().await, Ok(whole));
}

#[tokio::test]
async fn every_tampering_is_found_where_it_was_done() {
    let tamperings = [
        ("UPDATE audit_log SET actor = 'user:nobody' WHERE seq = 3", 3),
        ("UPDATE audit_log SET details = '{}' WHERE seq = 3", 3),
        ("UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 3", 3),
        ("UPDATE audit_log SET hash = '\\x00' WHERE seq = 3", 3),
        ("UPDATE audit_log SET prev_hash = '\\x00' WHERE seq = 3", 3),
        ("DELETE FROM audit_log WHERE seq = 3", 3),
        ("DELETE FROM audit_log WHERE seq = 1", 1),
        ("DELETE FROM audit_log WHERE seq >= 5", 5),
        ("UPDATE audit_head SET hash = '\\x00'", 6),
        ("UPDATE audit_log SET seq = -seq WHERE seq IN (2, 3); UPDATE audit_log SET seq = 5 + seq WHERE seq < 0", 2),
    ];
    let shop = Shop::new().await;
    for number in 0..6 {
        shop.audit_append(&entry(number)).await.unwrap();
    }
    // What somebody with full access to the database could do.
    let backup = "CREATE TABLE kept AS SELECT * FROM audit_log; CREATE TABLE kept_head AS SELECT * FROM audit_head";
    sqlx::raw_sql(backup).execute(&shop.sql).await.unwrap();
    let restore = "TRUNCATE audit_log; INSERT INTO audit_log SELECT * FROM kept;
        UPDATE audit_head SET hash = kept_head.hash FROM kept_head";
    for (tampering, seq) in tamperings {
        let mut session = shop.sql.acquire().await.unwrap();
        let unguarded = "SET session_replication_role = replica";
        sqlx::raw_sql(unguarded).execute(&mut *session).await.unwrap();
        sqlx::raw_sql(tampering).execute(&mut *session).await.unwrap();
        let verdict = shop.audit_verify().await.unwrap();
        let broken = verdict.broken.as_ref().map(|broken| broken.seq);
        assert_eq!(broken, Some(seq), "{tampering}: {verdict:?}");
        assert_eq!(verdict.entries, seq - 1, "{tampering}");
        sqlx::raw_sql(restore).execute(&mut *session).await.unwrap();
        let whole = shop.audit_verify().await.unwrap();
        assert_eq!(whole.broken, None, "restored after {tampering}");
        let guarded = "SET session_replication_role = DEFAULT";
        sqlx::raw_sql(guarded).execute(&mut *session).await.unwrap();
    }
}
