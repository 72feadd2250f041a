//! `stagekeeper controller` as a process: it starts, becomes ready, tells about itself and stops when it is asked to.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    binary::{Folder, PATIENCE, Running, run, stagekeeper},
    cluster::{Ground, kubeconfig, kubeconfig_to_nowhere},
    postgres::TestDatabase,
};

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Asks until the answer has this status.
async fn answer(url: &str, status: u16) -> String {
    let asked = async {
        loop {
            if let Ok(answer) = reqwest::get(url).await
                && answer.status() == status
            {
                return answer.text().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answered = timeout(PATIENCE, asked).await;
    answered.unwrap_or_else(|_| panic!("{url} did not answer {status} in time"))
}

/// A secret that was opened more often than housekeeping deletes at once, long ago and once lately.
const USES: &str = "
INSERT INTO projects (id, namespace, name) VALUES (gen_random_uuid(), 'acme', 'old');
INSERT INTO secrets (id, project_id, name, version, origin, created_by, updated_by)
    SELECT gen_random_uuid(), id, 'KEY', 1, 'test', 'test', 'test' FROM projects;
INSERT INTO secret_uses (secret_id, version, actor, purpose, at)
    SELECT id, 1, 'controller', 'test', now() - CASE number WHEN 1 THEN interval '1 day' ELSE interval '3 years' END
    FROM secrets, generate_series(1, 2501) AS number";

/// Waits until housekeeping has left so many.
async fn uses_left(sql: &sqlx::PgPool, expected: i64) {
    let counted = async {
        let count = "SELECT count(*) FROM secret_uses";
        while sqlx::query_scalar::<_, i64>(count).fetch_one(sql).await.unwrap() != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("old uses are not deleted"));
}

#[tokio::test]
async fn it_becomes_ready_and_stops_in_order() {
    let ground = Ground::new("controller").await;
    let database = TestDatabase::new().await;
    let sql = sqlx::PgPool::connect(&database.url).await.unwrap();
    sqlx::raw_sql(USES).execute(&sql).await.unwrap();
    let port = free_port();
    let process = Running::start(
        stagekeeper(&["controller", "--port", &port.to_string()])
            .env("KUBECONFIG", kubeconfig())
            .env("DATABASE_URL", &database.url)
            .env("STAGEKEEPER_NAMESPACES", &ground.namespace)
            .env("STAGEKEEPER_LEASE_NAMESPACE", &ground.namespace)
            .env("STAGEKEEPER_LOG", "info,stagekeeper=debug"),
    );
    let first: Value = serde_json::from_str(&process.err()).expect("a JSON object");
    assert_eq!(first["message"], "stagekeeper starts");
    assert!(!first.to_string().contains("password"), "{first}");

    let base = format!("http://127.0.0.1:{port}");
    assert_eq!(answer(&format!("{base}/healthz"), 200).await, "ok\n");
    assert_eq!(answer(&format!("{base}/readyz"), 200).await, r#"{"missing":[],"ready":true}"#);
    let metrics = answer(&format!("{base}/metrics"), 200).await;
    for name in
        ["stagekeeper_build_info{", "stagekeeper_store_up 1", "rest_client_requests_total{code=\"200\",method=\"GET\"}"]
    {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }

    uses_left(&sql, 1).await;
    process.signal("TERM");
    let ended = process.end();
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{ended:?}");
    let said: Vec<Value> = ended
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    let messages: Vec<&str> = said.iter().filter_map(|line| line["message"].as_str()).collect();
    assert!(messages.contains(&"stopping; a second signal stops at once"), "{messages:?}");
    assert_eq!(messages.last(), Some(&"stagekeeper has stopped"), "{messages:?}");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is closed");
    ground.clear().await;
}

/// Lets the service account `nobody` lead and see children, but neither projects nor stages.
async fn let_nobody_lead(ground: &Ground) {
    let role: Role = serde_json::from_value(json!({"metadata": {"name": "leads"}, "rules": [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
        {"apiGroups": ["", "apps", "batch", "networking.k8s.io", "gateway.networking.k8s.io"], "verbs": ["list", "watch"],
         "resources": ["deployments", "services", "pods", "jobs", "ingresses", "httproutes"]},
    ]}))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "leads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "leads"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": ground.namespace}]}))
    .unwrap();
    let params = PostParams::default();
    Api::namespaced(ground.client.clone(), &ground.namespace).create(&params, &role).await.unwrap();
    Api::namespaced(ground.client.clone(), &ground.namespace).create(&params, &binding).await.unwrap();
}

#[tokio::test]
async fn it_stops_while_it_has_never_seen_a_project() {
    let ground = Ground::new("unseen").await;
    let database = TestDatabase::new().await;
    let folder = Folder::new();
    let kubeconfig = ground.kubeconfig_of_nobody(&folder).await;
    let_nobody_lead(&ground).await;
    let process = Running::start(
        stagekeeper(&["controller", "--port", &free_port().to_string()])
            .env("KUBECONFIG", kubeconfig)
            .env("DATABASE_URL", &database.url)
            .env("STAGEKEEPER_NAMESPACES", &ground.namespace)
            .env("STAGEKEEPER_LEASE_NAMESPACE", &ground.namespace),
    );
    loop {
        let line: Value = serde_json::from_str(&process.err()).expect("a JSON object");
        // The election says so too; the term that begins knows its stages.
        if line["message"] == "leading" && line["stages"] == 0 {
            break;
        }
    }
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    ground.clear().await;
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = Folder::new();
    let said = run(stagekeeper(&["controller", "--port", &port])
        .env("KUBECONFIG", kubeconfig_to_nowhere(&folder))
        .env("STAGEKEEPER_LOG", "off")
        .env("DATABASE_URL", "postgres://127.0.0.1:1/x"))
    .badly(1);
    assert!(said.contains(&format!("port {port} cannot be listened on")), "{said}");
    assert!(said.contains("STAGEKEEPER_PORT"), "{said}");
}

#[test]
fn without_a_database_it_gives_up_after_three_tries() {
    let folder = Folder::new();
    let said = run(stagekeeper(&["controller", "--port", &free_port().to_string()])
        .env("KUBECONFIG", kubeconfig_to_nowhere(&folder))
        .env("STAGEKEEPER_LOG", "off")
        .env("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/history"))
    .badly(3);
    assert!(said.contains("failed to connect to database after 3 attempts"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
