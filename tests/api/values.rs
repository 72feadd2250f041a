//! Values of credentials and secrets: they go in and never come out.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stagekeeper::http::api::openapi;

use crate::lab::{Answer, Lab, parts};

const CANARY: &str = "hunter2-canary-4711";

async fn put(lab: &Lab, path: &str, body: &Value, seen: Option<&str>) -> Answer {
    let headers: Vec<(&str, &str)> = seen.map(|seen| ("if-match", seen)).into_iter().collect();
    lab.send(Method::PUT, Some(&lab.owner), &lab.path(path), Some(body), &headers).await
}

#[tokio::test]
async fn a_value_is_in_no_answer() {
    let lab = Lab::new().await;
    let encoded = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(CANARY)
    };
    let mut answers = Vec::new();
    for (path, body) in [
        ("/projects/shop/credentials/ghcr", json!({"host": "ghcr.io", "user": "robot", "value": CANARY})),
        ("/projects/shop/credentials/hook", json!({"kind": "webhook", "base64": encoded})),
        ("/projects/shop/secrets/API_KEY", json!({"value": CANARY})),
        ("/projects/shop/secrets/API_KEY?service=web", json!({"value": CANARY})),
    ] {
        let answer = put(&lab, path, &body, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answers.push(answer);
    }
    // Wrong ones are not quoted either.
    for (path, body) in [
        ("/projects/shop/credentials/ghcr", json!({"value": CANARY})),
        ("/projects/shop/credentials/ghcr", json!({"kind": CANARY, "value": CANARY})),
        ("/projects/shop/credentials/ghcr", json!({"host": "ghcr.io", "user": "a:b", "value": CANARY})),
        ("/projects/shop/credentials/ghcr", json!({"value": {"inner": CANARY}})),
        ("/projects/shop/secrets/API_KEY", json!({"value": CANARY, "base64": CANARY})),
        ("/projects/shop/secrets/API_KEY", json!([CANARY])),
        ("/projects/shop/secrets/API_KEY", json!(CANARY)),
        ("/projects/shop/secrets/API_KEY", json!({"value": CANARY, "expiresAt": CANARY})),
    ] {
        let answer = put(&lab, path, &body, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert!(!answer.fields().is_empty());
        answers.push(answer);
    }
    let deploy = lab.get(&lab.owner, &lab.path(&format!("/deploys/{}", crate::shop::id(2)))).await.json();
    let parts =
        parts(&lab, &lab.namespace, "0193522a-0000-7000-8000-000000000000", deploy["release"].as_str().unwrap());
    let document = openapi::document();
    let mut read = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("get").is_some() {
            let path = path.strip_prefix("/api/v1").unwrap().to_owned();
            let path = parts.iter().fold(path, |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
            let token = if path.starts_with("/namespaces") { &lab.owner } else { &lab.admin };
            answers.push(lab.get(token, &path).await);
            read += 1;
        }
    }
    assert!(read > 20, "{read}");
    for answer in &answers {
        assert!(!answer.text.contains(CANARY) && !answer.text.contains(&encoded), "{answer:?}");
    }
    let listed = lab.get(&lab.owner, &lab.path("/projects/shop/secrets")).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let opened = put(&lab, "/projects/shop/secrets/API_KEY", &json!({"value": CANARY}), None).await.json();
    assert_eq!(opened["version"], 1, "the same value is no new version");
}

#[tokio::test]
async fn what_somebody_else_changed_is_not_written_over() {
    let lab = Lab::new().await;
    for (path, one, two) in [
        ("/projects/shop/secrets/API_KEY", json!({"value": "one"}), json!({"value": "two"})),
        (
            "/projects/shop/credentials/hook",
            json!({"kind": "webhook", "value": "one"}),
            json!({"kind": "webhook", "value": "two"}),
        ),
    ] {
        let early = put(&lab, path, &one, Some("\"1\"")).await;
        assert_eq!(early.status, StatusCode::PRECONDITION_FAILED, "there is none: {early:?}");
        let first = put(&lab, path, &one, None).await;
        let seen = first.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(lab.get(&lab.viewer, &lab.path(path)).await.headers["etag"], seen.as_str());
        let second = put(&lab, path, &two, Some(&seen)).await;
        assert_eq!((second.status, &second.json()["version"]), (StatusCode::OK, &json!(2)));
        let late = put(&lab, path, &one, Some(&seen)).await;
        assert_eq!(late.status, StatusCode::PRECONDITION_FAILED, "{late:?}");
        assert_eq!(late.problem()["type"], "urn:stagekeeper:problem:changed");
        let odd = put(&lab, path, &one, Some("odd")).await;
        assert_eq!((odd.status, odd.fields()), (StatusCode::BAD_REQUEST, vec!["header.if-match".to_owned()]));

        let delete = async |seen: &str| {
            lab.send(Method::DELETE, Some(&lab.owner), &lab.path(path), None, &[("if-match", seen)]).await.status
        };
        assert_eq!(delete(&seen).await, StatusCode::PRECONDITION_FAILED);
        assert_eq!(delete("\"2\"").await, StatusCode::NO_CONTENT);
        assert_eq!(delete("\"2\"").await, StatusCode::NOT_FOUND);
        assert_eq!(lab.get(&lab.owner, &lab.path(path)).await.status, StatusCode::NOT_FOUND);
    }
}
