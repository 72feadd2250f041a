//! `stagekeeper doctor`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stagekeeper::api::Project;
use uuid::Uuid;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
};

use crate::{
    binary::{Ended, Folder, on, run, stagekeeper},
    cluster::{Ground, kubeconfig, kubeconfig_to_nowhere},
    postgres::TestDatabase,
};

fn findings(ended: &Ended) -> Vec<Value> {
    let found: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    found.as_array().unwrap().clone()
}

/// The results of one check, in order.
fn results<'a>(findings: &'a [Value], check: &str) -> Vec<&'a str> {
    findings
        .iter()
        .filter(|finding| finding["check"] == check)
        .map(|finding| finding["result"].as_str().unwrap())
        .collect()
}

async fn project(ground: &Ground, name: &str, registry: &str) {
    let image = json!({"repository": format!("{registry}/acme/shop"), "tag": "1", "insecure": true});
    let spec = json!({"services": [{"name": "web", "image": image}]});
    ground.make::<Project>(name, spec).await;
}

/// Waiting for the table would tie the test to its columns; the table's form has its own test.
fn doctor(ground: &Ground, kubeconfig: &str, database: &str) -> Ended {
    let arguments = ["doctor", "-n", &ground.namespace, "-o", "json"];
    run(stagekeeper(&arguments).env("KUBECONFIG", kubeconfig).env("DATABASE_URL", database))
}

#[tokio::test]
async fn where_nothing_is_missing_every_line_passes() {
    let ground = Ground::new("doctor").await;
    let database = TestDatabase::new().await;
    let registry = MockServer::start().await;
    Mock::given(method("GET")).and(path("/v2/")).respond_with(ResponseTemplate::new(200)).mount(&registry).await;
    project(&ground, "shop", &registry.address().to_string()).await;

    let ended = doctor(&ground, &kubeconfig(), &database.url);
    assert_eq!(ended.code, 0, "{ended:?}");
    let findings = findings(&ended);
    for check in ["configuration", "cluster", "crd", "permission", "registry", "database", "migrations"] {
        let results = results(&findings, check);
        assert!(!results.is_empty(), "{check} was not looked at");
        assert!(results.iter().all(|result| *result == "pass"), "{check}: {ended:?}");
    }
    ground.clear().await;
}

const PASSWORD: &str = "hunter2-canary";

/// Stores a login of the Project's for a registry.
fn credential_set(ground: &Ground, database: &str, keys: &str, host: &str, password: &str) {
    let mut command = stagekeeper(&["-n", &ground.namespace, "credential", "set", "shop", "private"]);
    command.args(["--host", host, "--user", "robot"]).env("DATABASE_URL", database);
    command.env("STAGEKEEPER_ENCRYPTION_KEYS", keys).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn a_private_registry_is_asked_as_the_project_says_where_the_keys_are_at_hand() {
    let ground = Ground::new("doctor-private").await;
    let database = TestDatabase::new().await;
    database.store.project_upsert(Uuid::from_u128(1), &ground.namespace, "shop").await.unwrap();
    let server = MockServer::start().await;
    let registry = server.address().to_string();
    let basic = format!("Basic {}", STANDARD.encode(format!("robot:{PASSWORD}")));
    let guard = Mock::given(path("/v2/")).and(header("authorization", basic.as_str()));
    guard.respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let closed = ResponseTemplate::new(401).append_header("WWW-Authenticate", "Basic");
    Mock::given(path("/v2/")).respond_with(closed).with_priority(9).mount(&server).await;
    let image = json!({
        "repository": format!("{registry}/acme/shop"), "tag": "1", "insecure": true, "credential": "private",
    });
    ground.make::<Project>("shop", json!({"services": [{"name": "web", "image": image}]})).await;
    let keys = format!("2026:{}", "5a".repeat(32));
    let arguments = ["doctor", "-n", &ground.namespace, "-o", "json"];
    // What is found about the registry, and what to do about it.
    let found = |database: &str, keys: Option<&str>| {
        let mut command = stagekeeper(&arguments);
        command.env("KUBECONFIG", kubeconfig()).env("DATABASE_URL", database);
        if let Some(keys) = keys {
            command.env("STAGEKEEPER_ENCRYPTION_KEYS", keys);
        }
        let ended = run(&mut command);
        assert!(!ended.out.contains(PASSWORD) && !ended.err.contains(PASSWORD), "{ended:?}");
        let all = findings(&ended);
        let found: Vec<&Value> = all.iter().filter(|finding| finding["check"] == "registry").collect();
        assert_eq!(found.len(), 1, "{ended:?}");
        let text = |name: &str| found[0][name].as_str().unwrap_or_default().to_owned();
        (text("result"), text("detail"), text("next"), ended.code)
    };
    let named = format!("credential private of Project {}/shop", ground.namespace);

    let (result, detail, next, code) = found(&database.url, None);
    assert_eq!((&*result, code), ("warn", 0), "{detail}");
    assert!(detail.contains(&named) && next.contains("STAGEKEEPER_ENCRYPTION_KEYS"), "{detail}: {next}");
    let (result, detail, ..) = found("postgres://me@127.0.0.1:1/history", Some(&keys));
    assert_eq!(result, "warn", "{detail}");
    assert!(detail.contains(&named) && detail.contains("database"), "{detail}");

    let (result, detail, next, code) = found(&database.url, Some(&keys));
    assert_eq!((&*result, code), ("fail", 1), "{detail}");
    let set = format!("`stagekeeper credential set shop private --host {registry} --user NAME`");
    assert!(detail.contains(&named) && next.contains(&set), "{detail}: {next}");
    credential_set(&ground, &database.url, &keys, "ghcr.io", PASSWORD);
    let (result, detail, ..) = found(&database.url, Some(&keys));
    assert_eq!(result, "fail", "{detail}");
    assert!(detail.contains(&format!("has no login for {registry}")), "{detail}");
    credential_set(&ground, &database.url, &keys, &registry, "another");
    let (result, detail, ..) = found(&database.url, Some(&keys));
    assert_eq!(result, "fail", "{detail}");
    assert!(detail.contains("does not accept the user and password"), "{detail}");

    credential_set(&ground, &database.url, &keys, &registry, PASSWORD);
    let (result, detail, next, code) = found(&database.url, Some(&keys));
    assert_eq!((&*result, &*next, code), ("pass", "", 0), "{detail}");
    assert!(detail.contains("accepts robot"), "{detail}");
    let mut dump = Command::new("psql");
    dump.args(["-Atc", "SELECT DISTINCT purpose FROM credential_uses"]).arg(&database.url);
    let dump = String::from_utf8(dump.output().expect("psql starts").stdout).unwrap();
    assert!(dump.lines().any(|purpose| purpose == "doctor"), "{dump}");
    ground.clear().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let ground = Ground::new("doctor-bad").await;
    let database = TestDatabase::new().await;
    on(&database.url, &["migrate", "down"]).well();
    project(&ground, "shop", "127.0.0.1:1").await;
    let folder = Folder::new();
    let nobody = ground.kubeconfig_of_nobody(&folder).await;

    let admin = doctor(&ground, &kubeconfig(), &database.url);
    assert_eq!(admin.code, 1, "{admin:?}");
    let found = findings(&admin);
    assert_eq!(results(&found, "registry"), ["fail"], "{admin:?}");
    assert_eq!(results(&found, "migrations"), ["fail"], "{admin:?}");
    assert!(admin.out.contains("stagekeeper migrate up"), "{admin:?}");

    let powerless = doctor(&ground, nobody.to_str().unwrap(), &database.url);
    assert_eq!(powerless.code, 1, "{powerless:?}");
    let found = findings(&powerless);
    assert_eq!(results(&found, "cluster"), ["pass"], "{powerless:?}");
    assert!(powerless.out.contains(&format!("system:serviceaccount:{}:nobody", ground.namespace)));
    let permissions = results(&found, "permission");
    assert!(permissions.iter().all(|result| *result == "fail"), "{powerless:?}");
    for finding in found.iter().filter(|finding| finding["check"] == "permission") {
        let next = finding["next"].as_str().unwrap_or_default();
        let place = next.ends_with("in a Role there") || next.contains(" in a ClusterRole: ");
        assert!(next.starts_with("allow ") && place, "{finding}");
    }
    assert_eq!(results(&found, "crd"), ["pass", "pass", "pass"], "discovery is open to all: {powerless:?}");

    // Where the Lease has to be is known without a database.
    let arguments = ["doctor", "-n", &ground.namespace, "-o", "json"];
    let without =
        run(stagekeeper(&arguments).env("KUBECONFIG", &nobody).env("STAGEKEEPER_LEASE_NAMESPACE", "where-it-leads"));
    assert_eq!(results(&findings(&without), "database"), ["skipped"], "{without:?}");
    assert!(without.out.contains("where-it-leads"), "{without:?}");
    ground.clear().await;
}

#[test]
fn what_cannot_be_asked_is_skipped_and_nothing_passes_for_it() {
    let folder = Folder::new();
    let nowhere = kubeconfig_to_nowhere(&folder);
    let database = "postgres://me:hunter2@127.0.0.1:1/history";
    let ended = run(stagekeeper(&["doctor", "-o", "json"]).env("KUBECONFIG", &nowhere).env("DATABASE_URL", database));
    assert_eq!(ended.code, 1, "{ended:?}");
    let found = findings(&ended);
    for (check, expected) in [
        ("configuration", "pass"),
        ("cluster", "fail"),
        ("crd", "skipped"),
        ("permission", "skipped"),
        ("registry", "skipped"),
        ("database", "fail"),
        ("migrations", "skipped"),
    ] {
        assert_eq!(results(&found, check), [expected], "{check}: {ended:?}");
    }
    assert!(!ended.out.contains("hunter2"), "{ended:?}");
}

#[test]
fn a_wrong_configuration_is_a_finding_for_each_value() {
    let folder = Folder::new();
    let nowhere = kubeconfig_to_nowhere(&folder);
    let ended = run(stagekeeper(&["doctor"]).env("KUBECONFIG", &nowhere).env("STAGEKEEPER_PORT", "0"));
    assert_eq!(ended.code, 1, "{ended:?}");
    for expected in [
        "FAIL      configuration   DATABASE_URL (--database-url) is missing",
        "FAIL      configuration   STAGEKEEPER_PORT (--port) is `0`",
        "-> set it where the operator is started",
        "skipped   database        there is no usable URL",
    ] {
        assert!(ended.out.contains(expected), "{expected} is missing:\n{}", ended.out);
    }
}
