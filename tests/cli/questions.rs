//! `stagekeeper history --at`, `history --stages`, `stats`, `audit` and `users`.

use serde_json::{Value, json};
use stagekeeper::{domain::actor::Actor, store::NewAuditEntry};
use uuid::Uuid;

use crate::{
    binary::{Ended, on},
    shop::{Shop, id},
};

const NAMESPACE: &str = "acme";

fn asked(shop: &Shop, arguments: &[&str]) -> Ended {
    let all: Vec<&str> = arguments.iter().copied().chain(["-n", NAMESPACE]).collect();
    on(shop.url(), &all)
}

fn digest(version: &str) -> String {
    format!("sha256:{:0>64}", version.replace('.', ""))
}

/// The lines of a table without blanks between cells, the heading left out.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .skip(1)
        .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect()
}

/// Gives the images of the shop whole digests, by which they can be looked up.
async fn with_whole_digests(shop: &Shop) {
    let sql = sqlx::PgPool::connect(shop.url()).await.unwrap();
    for version in ["1.0.0", "2.0.0", "2.1.0"] {
        for table in ["deploys", "releases"] {
            let update = format!(
                "UPDATE {table} SET images = jsonb_set(images, '{{web,digest}}', to_jsonb($2::text))
                 WHERE images -> 'web' ->> 'tag' = $1"
            );
            let update = sqlx::query(sqlx::AssertSqlSafe(update)).bind(version).bind(digest(version));
            assert!(update.execute(&sql).await.unwrap().rows_affected() > 0, "{version} in {table}");
        }
    }
}

#[tokio::test]
async fn what_ran_at_a_time_is_one_line_a_stage() {
    let shop = Shop::new(NAMESPACE).await;
    let before_prod = shop.at(185).to_string();
    let table = asked(&shop, &["history", "shop", "--at", &before_prod]).well();
    let since = format!("{:.0}", shop.at(7));
    let short = &id(1).to_string()[..13];
    assert_eq!(rows(&table), [["dev", "web 1.0.0", &since, short, "policy", "web 1.0.0 is newer"]], "{table}");
    let everywhere = asked(&shop, &["history", "-A", "--at", "1h", "-o", "wide"]).well();
    assert!(everywhere.starts_with("NAMESPACE   PROJECT   STAGE   IMAGES"), "{everywhere}");
    assert_eq!(rows(&everywhere).len(), 2, "{everywhere}");

    let json = asked(&shop, &["history", "--at", &before_prod, "-o", "json"]).json();
    assert_eq!(json["at"], before_prod);
    assert_eq!(json["items"][0]["id"], id(1).to_string());
    assert_eq!(json["items"].as_array().unwrap().len(), 1);
    let names = asked(&shop, &["history", "--at", "1h", "-o", "name"]).well();
    assert_eq!(names, format!("deploy/{}\ndeploy/{}\n", id(1), id(4)));

    let nothing = asked(&shop, &["history", "--at", "11d"]);
    assert_eq!((nothing.code, nothing.out.as_str(), nothing.err.as_str()), (0, "", "nothing ran then\n"));
    let more = asked(&shop, &["history", "--at", "1h", "--limit", "1"]);
    assert_eq!(more.err, "there are more stages: raise --limit (now 1)\n");
    let said = asked(&shop, &["history", "--at", "yesterday"]).badly(2);
    assert!(said.contains("--at: `yesterday` is no time"), "{said}");
}

#[tokio::test]
async fn a_digest_tells_the_stages_that_ever_ran_it() {
    let shop = Shop::new(NAMESPACE).await;
    with_whole_digests(&shop).await;
    let (good, bad) = (digest("1.0.0"), digest("2.0.0"));
    let table = asked(&shop, &["history", "--image", &good, "--stages"]).well();
    let (dev, prod) = (format!("{:.0}", shop.at(7)), format!("{:.0}", shop.at(190)));
    let want = [
        [NAMESPACE, "shop", "dev", &dev, "serves now", "1", "1"],
        [NAMESPACE, "shop", "prod", &prod, "serves now", "1", "1"],
    ];
    assert_eq!(rows(&table), want, "{table}");
    let never = asked(&shop, &["history", "--image", &format!("r.test/x@{bad}"), "--stages"]).well();
    assert_eq!(rows(&never), [[NAMESPACE, "shop", "dev", "never served", "1", "0"]], "{never}");
    let json = asked(&shop, &["history", "shop/prod", "--image", &good, "--stages", "-o", "json"]).json();
    assert_eq!(json["digest"], good);
    assert_eq!((&json["items"][0]["stage"], &json["items"][0]["serves"]), (&json!("prod"), &json!(true)));
    assert_eq!(json["items"].as_array().unwrap().len(), 1, "{json}");

    // Without --stages it is the list of deploys, also in all letters that people write digests with.
    let deploys = asked(&shop, &["history", "--image", &good.to_uppercase(), "-o", "name"]).well();
    assert_eq!(deploys, format!("deploy/{}\ndeploy/{}\n", id(4), id(1)));
    let unknown = asked(&shop, &["history", "--image", &digest("9"), "--stages"]);
    assert_eq!(unknown.err, "no stage has ever had this image\n");
    let said = asked(&shop, &["history", "--image", "web:1.0.0", "--stages"]).badly(2);
    assert!(said.contains("--stages needs a whole digest"), "{said}");
}

/// dev: 1.0.0 succeeded after 7 s, 2.0.0 failed at 75 s and was rolled back at 77 s. prod: 1.0.0 at 190 s, 190 s after the
/// project first asked for it.
#[tokio::test]
async fn the_four_numbers_are_told_by_stage_and_for_all() {
    let shop = Shop::new(NAMESPACE).await;
    let table = asked(&shop, &["stats"]).well();
    let want = [
        vec![NAMESPACE, "shop", "dev", "1", "0.01", "7s", "1 of 2", "50.0%", "2s"],
        vec![NAMESPACE, "shop", "prod", "1", "0.01", "3m10s", "0 of 1", "0.0%"],
        vec!["all", "2", "0.02", "1m38s", "1 of 3", "33.3%", "2s"],
    ];
    assert_eq!(rows(&table), want, "{table}");
    let json = asked(&shop, &["stats", "--project", "shop", "--stage", "dev", "--since", "20d", "-o", "json"]).json();
    let dev = &json["items"][0];
    for (key, want) in [
        ("changes", json!(2)),
        ("succeeded", json!(1)),
        ("failed", json!(1)),
        ("unrestored", json!(0)),
        ("deploysPerDay", json!(0.05)),
        ("changeFailureRate", json!(0.5)),
        ("leadTimeSeconds", json!({"median": 7.0, "p90": 7.0})),
        ("timeToRestoreSeconds", json!({"median": 2.0, "p90": 2.0})),
    ] {
        assert_eq!(dev[key], want, "{key}: {dev}");
    }
    assert_eq!(json["total"]["changes"], 2);
    let yaml: Value = serde_yaml::from_str(&asked(&shop, &["stats", "-A", "-o", "yaml"]).well()).unwrap();
    assert_eq!(yaml["items"].as_array().unwrap().len(), 2);
    let quiet = asked(&shop, &["stats", "--since", "1h"]);
    assert!(quiet.err.starts_with("no deploy has ended since "), "{quiet:?}");
    let said = asked(&shop, &["stats", "--since", "tomorrow"]).badly(2);
    assert!(said.contains("--since: `tomorrow` is no time before now"), "{said}");
    let said = asked(&shop, &["stats", "--stage", "qa"]).badly(1);
    assert!(said.contains("stage acme/qa does not exist"), "{said}");
}

async fn rolled_back(shop: &Shop) {
    let details = json!({"target": Uuid::from_u128(3), "reason": "checkout is down", "requestId": "r-1", "source": "10.0.0.9",
                         "via": "annotation", "verified": false, "before": {"web": digest("2")}, "after": null});
    let entry = NewAuditEntry {
        at: shop.at(500),
        actor: Actor::User("jane".into()),
        action: "stage.rollback".into(),
        subject: "stage/acme/prod".into(),
        details,
    };
    shop.store().audit_append(&entry).await.unwrap();
}

#[tokio::test]
async fn the_log_says_who_did_what_where_and_why() {
    let shop = Shop::new(NAMESPACE).await;
    rolled_back(&shop).await;
    let table = asked(&shop, &["audit", "list", "--stage", "prod"]).well();
    let deploy = format!("deploy/{}", id(4));
    let want = [
        ["5", "9d23h", "user:jane?", "stage.rollback", "acme/shop/prod", "stage/acme/prod", "checkout is down"],
        ["4", "9d23h", "policy", "deploy.create", "acme/shop/prod", &deploy, "web 1.0.0 is newer"],
    ];
    assert_eq!(rows(&table), want, "{table}");
    let json = on(shop.url(), &["audit", "list", "--actor", "jane", "-o", "json"]).json();
    let entry = &json["items"][0];
    for (key, want) in [
        ("seq", json!(5)),
        ("stage", json!("prod")),
        ("reason", json!("checkout is down")),
        ("requestId", json!("r-1")),
        ("source", json!("10.0.0.9")),
        ("via", json!("annotation")),
        ("verified", json!(false)),
        ("before", json!({"web": digest("2")})),
        ("after", Value::Null),
    ] {
        assert_eq!(entry[key], want, "{key}: {entry}");
    }
    let wide = asked(&shop, &["audit", "list", "-o", "wide"]).well();
    let told = rows(&wide)[0][6..].join(" | ");
    let at = format!("{:.0}", shop.at(500));
    assert_eq!(
        told,
        format!("{at} | annotation | 10.0.0.9 | r-1 | web sha256:000000000000 | checkout is down"),
        "{wide}"
    );
    for (arguments, want) in [
        (&["--action", "deploy.create", "--limit", "2"][..], "audit/4\naudit/3\n"),
        (&["--project", "shop", "--actor", "user:jane"], "audit/5\n"),
        (&["--subject", &deploy], "audit/4\n"),
        (&["--since", "1h"], ""),
        (&["-A", "--actor", "controller"], ""),
    ] {
        let all: Vec<&str> = ["audit", "list", "-o", "name"].iter().chain(arguments).copied().collect();
        assert_eq!(asked(&shop, &all).well(), want, "{arguments:?}");
    }
    let said = asked(&shop, &["audit", "list", "--actor", "robot:x"]).badly(2);
    assert!(said.contains("is not an actor"), "{said}");
}

#[tokio::test]
async fn a_broken_chain_ends_with_1_and_says_where() {
    let shop = Shop::new(NAMESPACE).await;
    let whole = on(shop.url(), &["audit", "verify"]).well();
    assert_eq!(whole, "4 entries, all as they were written\n");
    assert_eq!(
        on(shop.url(), &["audit", "verify", "-o", "json"]).json(),
        json!({
            "whole": true, "entries": 4, "brokenAt": null, "why": null
        })
    );
    let sql = sqlx::PgPool::connect(shop.url()).await.unwrap();
    let tampering = "SET session_replication_role = replica; UPDATE audit_log SET actor = 'user:nobody' WHERE seq = 3";
    sqlx::raw_sql(tampering).execute(&sql).await.unwrap();
    let said = on(shop.url(), &["audit", "verify"]).badly(1);
    assert!(
        said.contains("entry 3 is not as it was written: its content is not what was written; the 2 before it are"),
        "{said}"
    );
    let told = on(shop.url(), &["audit", "verify", "-o", "json"]);
    assert_eq!((told.code, told.err.as_str()), (1, ""));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&told["whole"], &told["brokenAt"]), (&json!(false), &json!(3)));
}

#[tokio::test]
async fn who_was_seen_is_listed() {
    let shop = Shop::new(NAMESPACE).await;
    let nobody = on(shop.url(), &["users", "list"]);
    assert_eq!((nobody.out.as_str(), nobody.err.as_str()), ("", "nobody was seen\n"));
    shop.store().user_seen("jane@acme.test", &["dev".into(), "admins".into()], shop.at(0)).await.unwrap();
    let table = on(shop.url(), &["users", "list"]).well();
    assert_eq!(rows(&table), [["jane@acme.test", "dev,admins", "10d ago", "10d ago"]]);
    let json = on(shop.url(), &["users", "list", "-o", "json"]).json();
    assert_eq!(json["items"][0]["groups"], json!(["dev", "admins"]));
    assert_eq!(on(shop.url(), &["users", "list", "--since", "1h", "-o", "name"]).well(), "");
}
