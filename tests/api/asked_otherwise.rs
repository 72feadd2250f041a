//! Requests by their verb, what the gates would say, why a stage waits, what ran, who was seen, and how all of it is counted.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{lab::Lab, shop::id};

#[tokio::test]
async fn each_verb_has_a_path_of_its_own_with_its_own_fields() {
    let lab = Lab::new().await;
    for (verb, body, action) in [
        ("promote", json!({"from": "prod"}), json!({"action": "promote", "from": "prod"})),
        ("rollback", json!({}), json!({"action": "rollback", "to": "previous"})),
        ("rollback", json!({"to": {"deploy": id(1)}}), json!({"action": "rollback", "to": {"deploy": id(1)}})),
        ("approve", json!({"release": "0123abcd"}), json!({"action": "approve", "release": "0123abcd"})),
        ("abort", json!({"deploy": id(3)}), json!({"action": "abort", "deploy": id(3)})),
        ("retry", json!({}), json!({"action": "retry"})),
        ("hold", json!({"reason": "audit", "owner": "x"}), json!({"action": "hold", "owner": "x"})),
        ("resume", json!({}), json!({"action": "resume"})),
        ("veto", json!({"reason": "bad"}), json!({"action": "veto"})),
        ("unveto", json!({"release": "0123abcd"}), json!({"action": "unveto", "release": "0123abcd"})),
    ] {
        let path = lab.path(&format!("/stages/dev/{verb}"));
        let made = lab.post(&lab.owner, &path, &body).await;
        assert_eq!(made.status, StatusCode::ACCEPTED, "{verb}: {made:?}");
        assert_eq!(made.json()["action"], action, "{verb}");
        assert_eq!(made.json()["verified"], true);
    }
    for (verb, body, field) in [
        ("promote", json!({"to": "previous"}), "to"),
        ("abort", json!({"release": "0123abcd"}), "release"),
        ("hold", json!({}), "reason"),
        ("unveto", json!({}), "release"),
        ("promote", json!({"emergency": true}), "reason"),
        ("promote", json!({"action": "hold"}), "action"),
    ] {
        let refused = lab.post(&lab.owner, &lab.path(&format!("/stages/dev/{verb}")), &body).await;
        assert_eq!((refused.status, refused.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{verb}");
    }
    // The same key is the same request, and another verb is another one.
    let path = lab.path("/stages/dev/retry");
    let once = async |path: &str| {
        lab.send(Method::POST, Some(&lab.owner), path, Some(&json!({})), &[("idempotency-key", "ci-1")]).await
    };
    assert_eq!(once(&path).await.json()["id"], once(&path).await.json()["id"]);
    assert_eq!(once(&lab.path("/stages/dev/abort")).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn lists_answer_what_people_ask() {
    let lab = Lab::new().await;
    let get = async |path: &str| lab.get(&lab.viewer, &lab.path(path)).await.json();
    let why = get("/stages/dev/why").await;
    assert_eq!((&why["stage"], &why["project"]), (&json!("dev"), &json!("shop")));
    assert_eq!(why["lastFailure"]["id"], json!(id(2)));
    assert!(why["unknown"][0].as_str().unwrap().contains("no such Stage any more"), "{why}");
    let rehearsal = get("/stages/dev/promotion").await;
    assert!(rehearsal["refused"].as_str().unwrap().contains("nothing is promoted to it"), "{rehearsal}");

    let found = get("/deploys?id=0193522a-8c12&transitions=true").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(found["items"][0]["transitions"][0]["to"], "pending");
    assert_eq!(get("/deploys?id=0193522a").await["items"].as_array().unwrap().len(), 4);
    assert_eq!(get("/deploys?id=ffffffff").await["items"], json!([]));
    for wrong in ["id=0193", "id=0193522a&stage=dev", "id=xxxxxxxxx"] {
        let refused = lab.get(&lab.viewer, &lab.path(&format!("/deploys?{wrong}"))).await;
        assert_eq!(
            (refused.status, refused.fields()),
            (StatusCode::BAD_REQUEST, vec!["query.id".to_owned()]),
            "{wrong}"
        );
    }
    let one = get(&format!("/deploys/{}", id(2))).await;
    assert_eq!((&one["hooks"][0]["name"], &one["predecessor"]["id"]), (&json!("migrate"), &json!(id(1))), "{one}");

    let then = lab.shop.at(185);
    let served = get(&format!("/served?at={then}")).await;
    assert_eq!(served["items"].as_array().unwrap().len(), 1, "{served}");
    assert_eq!(served["items"][0]["id"], json!(id(1)));
    let first = get("/served?limit=1").await;
    let next = get(&format!("/served?limit=1&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!((&first["items"][0]["stage"], &next["items"][0]["stage"]), (&json!("dev"), &json!("prod")));
    assert!(next.get("next").is_none(), "{next}");

    let stats = get("/stats?since=2000-01-01T00:00:00Z&stage=dev").await;
    assert_eq!((&stats["items"][0]["stage"], &stats["total"]["changes"]), (&json!("dev"), &json!(2)), "{stats}");
    assert_eq!(get("/stats?stage=nowhere").await["items"], json!([]));
    let refused = lab.get(&lab.viewer, &lab.path("/stats?since=2999-01-01T00:00:00Z")).await;
    assert_eq!((refused.status, refused.fields()), (StatusCode::BAD_REQUEST, vec!["query.since".to_owned()]));

    let all = lab.get(&lab.admin, "/deploys").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 4);
    let users = lab.get(&lab.admin, "/users").await.json();
    let names: Vec<&str> =
        users["items"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with(":viewer")), "{names:?}");
    let audit = lab.get(&lab.admin, &format!("/audit?subject=deploy/{}", id(1))).await.json();
    assert_eq!((&audit["items"][0]["namespace"], &audit["items"][0]["stage"]), (&json!(lab.namespace), &json!("dev")));
}

#[tokio::test]
async fn requests_are_counted_by_their_route() {
    let lab = Lab::new().await;
    let before = counted(&lab).await;
    assert_eq!(lab.get(&lab.viewer, &lab.path("/stages/dev")).await.status, StatusCode::OK);
    assert_eq!(lab.get(&lab.viewer, &lab.path("/stages/no-such-stage")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(lab.get("nobody's", &lab.path("/stages/dev")).await.status, StatusCode::UNAUTHORIZED);
    let after = counted(&lab).await;
    for status in ["200", "404", "401"] {
        let line = format!(
            "stagekeeper_api_requests_total{{route=\"/namespaces/{{namespace}}/stages/{{stage}}\",method=\"GET\",status=\"{status}\"}} 1"
        );
        assert!(after.contains(&line) && !before.contains(&line), "{line}: {after}");
    }
    assert!(!after.contains("no-such-stage") && !after.contains(&lab.namespace), "{after}");
}

async fn counted(lab: &Lab) -> String {
    let url = lab.url("").replace("/api/v1", "/metrics");
    let text =
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap();
    text.lines().filter(|line| line.starts_with("stagekeeper_api_requests")).collect::<Vec<_>>().join("\n")
}

/// Whoever may promote and not approve cannot pass over approvals, on either path.
#[tokio::test]
async fn an_emergency_takes_both_rights_by_its_verb_too() {
    let lab = Lab::new().await;
    let body: Value = json!({"emergency": true, "reason": "fire"});
    let refused = lab.post(&lab.viewer, &lab.path("/stages/dev/promote"), &body).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let made = lab.post(&lab.owner, &lab.path("/stages/dev/promote"), &body).await;
    assert_eq!((made.status, &made.json()["action"]["emergency"]), (StatusCode::ACCEPTED, &json!(true)));
}
