//! Requests: who asked is known from their token, the same is done once, and whoever waits hears of the end.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stagekeeper::{domain::share::Share, store::Settlement};

use crate::lab::{Answer, Lab};

async fn ask(lab: &Lab, key: Option<&str>, body: &Value) -> Answer {
    let headers: Vec<(&str, &str)> =
        key.map(|key| ("idempotency-key", key)).into_iter().chain([("x-request-id", "ci-17")]).collect();
    lab.send(Method::POST, Some(&lab.owner), &lab.path("/stages/dev/requests"), Some(body), &headers).await
}

#[tokio::test]
async fn a_request_is_written_down_with_whoever_asked() {
    let lab = Lab::new().await;
    let body = json!({"action": "rollback", "to": "previous", "reason": "checkout is slow"});
    let answer = ask(&lab, None, &body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let made = answer.json();
    let who = format!("user:system:serviceaccount:{}:owner", lab.namespace);
    assert_eq!((&made["actor"], &made["via"], &made["verified"]), (&json!(who), &json!("api"), &json!(true)));
    assert_eq!(made["state"], "pending");
    assert_eq!(made["action"], json!({"action": "rollback", "to": "previous"}));

    let id = made["id"].as_str().unwrap().parse().unwrap();
    let stored = lab.shop.store().request_get(id).await.unwrap().unwrap();
    assert!(stored.groups.contains(&"system:serviceaccounts".to_owned()), "{:?}", stored.groups);
    assert_eq!(stored.origin.source.as_deref(), Some("127.0.0.1"));
    assert_eq!(stored.origin.request_id.as_deref(), Some("ci-17"));

    let audit = lab.get(&lab.owner, &lab.path("/audit?action=stage.rollback")).await.json();
    let entry = &audit["items"][0];
    assert_eq!((&entry["actor"], &entry["stage"]), (&json!(who), &json!("dev")), "{audit}");
    let details = &entry["details"];
    assert_eq!(
        (&details["reason"], &details["requestId"], &details["source"], &details["via"]),
        (&json!("checkout is slow"), &json!("ci-17"), &json!("127.0.0.1"), &json!("api"))
    );
    let listed = lab.get(&lab.viewer, &lab.path("/stages/dev/requests")).await.json();
    assert_eq!(listed["items"][0], made);
    let users = lab.shop.store().users_list(None, None, 10).await.unwrap().users;
    assert!(users.iter().any(|user| format!("user:{}", user.name) == who), "{users:?}");
}

#[tokio::test]
async fn the_same_key_is_done_once_and_refused_for_something_else() {
    let lab = Lab::new().await;
    let promote = json!({"action": "promote"});
    let first = ask(&lab, Some("one"), &promote).await.json();
    assert_eq!(ask(&lab, Some("one"), &promote).await.json(), first);
    let other = ask(&lab, Some("one"), &json!({"action": "retry"})).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert_eq!(other.problem()["type"], "urn:stagekeeper:problem:idempotency-key-reused");
    assert_ne!(ask(&lab, Some("two"), &promote).await.json()["id"], first["id"]);

    // Everything else that is posted.
    let path = lab.path("/updates/acknowledge");
    let post = async |key: &str, body: Value| {
        lab.send(Method::POST, Some(&lab.owner), &path, Some(&body), &[("idempotency-key", key)]).await
    };
    let all = json!({"filter": {}});
    assert_eq!(post("ack", all.clone()).await.json(), json!({"changed": 1}));
    assert_eq!(post("ack", all.clone()).await.json(), json!({"changed": 1}), "the answer that was given");
    assert_eq!(post("new", all).await.json(), json!({"changed": 0}));
    let other = post("ack", json!({"ids": [1]})).await;
    assert_eq!(other.problem()["type"], "urn:stagekeeper:problem:idempotency-key-reused");
    // What failed may be tried again with its key.
    let wrong = json!({"ids": [4_711]});
    for _ in 0..2 {
        assert_eq!(post("wrong", wrong.clone()).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn updates_of_another_namespace_cannot_be_named() {
    let lab = Lab::new().await;
    let all = lab.get(&lab.admin, "/updates").await.json();
    let all = all["items"].as_array().unwrap();
    let foreign = all.iter().find(|update| update["host"] == "elsewhere/dev").unwrap()["id"].clone();
    let own = all.iter().find(|update| update["host"] != "elsewhere/dev").unwrap()["id"].clone();
    let answer = lab.post(&lab.owner, &lab.path("/updates/acknowledge"), &json!({"ids": [own, foreign]})).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let filter = json!({"filter": {"image": "ghcr.io/*"}});
    assert_eq!(lab.post(&lab.owner, &lab.path("/updates/acknowledge"), &filter).await.json(), json!({"changed": 1}));
    let pending = lab.get(&lab.admin, "/updates?pending=true").await.json();
    assert_eq!(pending["items"].as_array().unwrap().len(), 1);
    assert_eq!(pending["items"][0]["id"], foreign);
    let audit = lab.shop.store().audit_list(&format!("update/{own}"), None, 10).await.unwrap();
    let details = &audit[0].entry.details;
    assert_eq!((&details["via"], &details["source"]), (&json!("api"), &json!("127.0.0.1")), "{details}");
    assert!(details["requestId"].is_string(), "{details}");
}

#[tokio::test]
async fn whoever_waits_hears_of_the_end() {
    let lab = Lab::new().await;
    let path = lab.path("/stages/dev/requests?wait=30");
    let abort = json!({"action": "abort"});
    let waiting = lab.post(&lab.owner, &path, &abort);
    let settling = async {
        let store = lab.shop.store();
        let request = loop {
            if let Some(request) = store.requests_pending(&Share::all(), &[], 1).await.unwrap().pop() {
                break request;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let settlement = Settlement { request: request.id, message: "there is nothing to stop".into() };
        assert_eq!(store.request_refuse(&settlement, Lab::now()).await, Ok(true));
    };
    let (answer, ()) = tokio::join!(waiting, settling);
    let settled = answer.json();
    assert_eq!((&settled["state"], &settled["message"]), (&json!("refused"), &json!("there is nothing to stop")));
    let asked = format!("/requests/{}", settled["id"].as_str().unwrap());
    assert_eq!(lab.get(&lab.viewer, &lab.path(&asked)).await.json(), settled);
}
