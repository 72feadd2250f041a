//! The audit log: one chain under many writers, and no change goes unseen.

use futures::future::join_all;
use serde_json::json;
use stagekeeper::{
    domain::{actor::Actor, deploy::State},
    store::{AuditFilter, AuditPlace, AuditVerdict, Class, NewAuditEntry},
};
use uuid::Uuid;

use crate::fixture::{Shop, at, id, new_deploy};

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

/// Two projects, a stage of the first with a deploy, and what people did to them: one entry a minute.
async fn busy_shop() -> (Shop, Uuid) {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let other = shop.project_upsert(id(50), "beta", "other").await.unwrap().id;
    shop.success(&new_deploy(stage, 1, 10)).await;
    let (jane, joe) = (Actor::User("jane".into()), Actor::User("joe".into()));
    let entries = [
        (60, &jane, "stage.hold", "stage/dev", json!({"target": stage, "reason": "a sale"})),
        (120, &joe, "stage.hold", "stage/dev", json!({"target": stage})),
        (180, &jane, "credential.put", "credential/1", json!({"project": shop.project, "name": "ghcr"})),
        (240, &joe, "secret.put", "secret/1", json!({"project": other, "name": "KEY"})),
        (300, &Actor::Policy, "stage.hold", "stage/dev", json!({"target": "no id"})),
        (360, &jane, "registry.put", "registry/r.test", json!({})),
    ];
    for (second, actor, action, subject, details) in entries {
        let (actor, action, subject) = (actor.clone(), action.to_owned(), subject.to_owned());
        shop.audit_append(&NewAuditEntry { at: at(second), actor, action, subject, details }).await.unwrap();
    }
    (shop, stage)
}

#[tokio::test]
async fn filters_of_the_log_select() {
    let (shop, _) = busy_shop().await;
    let text = |text: &str| Some(text.to_owned());
    let user = |name: &str| Some(Actor::User(name.into()));
    let all = AuditFilter { limit: 100, ..AuditFilter::default() };
    // The deploy made the first entry.
    let cases: [(&str, AuditFilter, &[i64]); 12] = [
        ("all", all.clone(), &[7, 6, 5, 4, 3, 2, 1]),
        ("a stage", AuditFilter { stage: text("dev"), ..all.clone() }, &[3, 2, 1]),
        ("a project and its stages", AuditFilter { project: text("shop"), ..all.clone() }, &[4, 3, 2, 1]),
        ("a namespace", AuditFilter { namespace: text("beta"), ..all.clone() }, &[5]),
        ("an empty namespace", AuditFilter { namespace: text("gamma"), ..all.clone() }, &[]),
        ("a person", AuditFilter { actor: user("jane"), ..all.clone() }, &[7, 4, 2]),
        ("policies", AuditFilter { actor: Some(Actor::Policy), ..all.clone() }, &[6, 1]),
        ("an action", AuditFilter { action: text("stage.hold"), ..all.clone() }, &[6, 3, 2]),
        ("a subject", AuditFilter { subject: text("stage/dev"), actor: user("joe"), ..all.clone() }, &[3]),
        ("a time", AuditFilter { since: Some(at(240)), ..all.clone() }, &[7, 6, 5]),
        (
            "a policy's action",
            AuditFilter { actor: Some(Actor::Policy), action: text("stage.hold"), ..all.clone() },
            &[6],
        ),
        (
            "everything at once",
            AuditFilter {
                namespace: text("acme"),
                project: text("shop"),
                stage: text("dev"),
                actor: user("jane"),
                action: text("stage.hold"),
                since: Some(at(60)),
                ..all.clone()
            },
            &[2],
        ),
    ];
    for (name, filter, want) in cases {
        let page = shop.audit_page(&filter).await.unwrap();
        let seqs: Vec<i64> = page.records.iter().map(|record| record.entry.seq).collect();
        assert_eq!(seqs, want, "{name}");
        let (mut read, mut filter) = (Vec::new(), AuditFilter { limit: 2, ..filter });
        loop {
            let page = shop.audit_page(&filter).await.unwrap();
            read.extend(page.records.iter().map(|record| record.entry.seq));
            filter.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(read, want, "{name}, in pages");
    }
    let wrong = AuditFilter { stage: text("prod"), ..all };
    assert_eq!(shop.audit_page(&wrong).await.unwrap_err().class(), Class::NotFound);
}

#[tokio::test]
async fn entries_are_told_with_the_names_of_their_places() {
    let (shop, _) = busy_shop().await;
    let page = shop.audit_page(&AuditFilter { limit: 100, ..AuditFilter::default() }).await.unwrap();
    let place = |namespace: &str, project: &str, stage: Option<&str>| {
        Some(AuditPlace { namespace: namespace.into(), project: project.into(), stage: stage.map(Into::into) })
    };
    let places: Vec<_> = page.records.into_iter().map(|record| record.place).collect();
    let (dev, shop) = (place("acme", "shop", Some("dev")), place("acme", "shop", None));
    assert_eq!(places, [None, None, place("beta", "other", None), shop, dev.clone(), dev.clone(), dev]);
}

#[tokio::test]
async fn a_deploy_is_remembered_with_the_digests_before_and_after() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    shop.success(&new_deploy(stage, 1, 10)).await;
    let failing = new_deploy(stage, 2, 11);
    shop.pending(&failing).await;
    shop.walk(failing.id, &[(State::Failed, "HookFailed")]).await;
    shop.pending(&new_deploy(stage, 3, 12)).await;
    let told = async |number: u32| {
        let entries = shop.audit_list(&format!("deploy/{}", id(number)), None, 1).await.unwrap();
        let details = &entries[0].entry.details;
        (details["before"].clone(), details["after"].clone())
    };
    assert_eq!(told(10).await, (json!(null), json!({"web": "sha256:1.10.0"})));
    // What failed never served.
    assert_eq!(told(12).await, (json!({"web": "sha256:1.10.0"}), json!({"web": "sha256:1.12.0"})));
    assert_eq!(shop.audit_verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn verifying_tells_how_far_it_is() {
    let shop = Shop::new().await;
    shop.run(
        "INSERT INTO audit_log (at, actor, action, subject, details)
              SELECT now(), 'policy', 'x', 'x/' || n, '{}' FROM generate_series(1, 2500) AS n",
    )
    .await
    .unwrap();
    let mut told = Vec::new();
    let verdict = shop.audit_verify_telling(|done, of| told.push((done, of))).await.unwrap();
    assert_eq!(verdict, AuditVerdict { entries: 2_500, broken: None });
    assert_eq!(told, [(0, 2_500), (1_000, 2_500), (2_000, 2_500)]);
}
