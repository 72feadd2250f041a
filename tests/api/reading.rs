//! Pages, fields that are wrong, logs as they grow.

use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stagekeeper::store::LogLevel;

use crate::{lab::Lab, shop::id};

fn texts(page: &Value, field: &str) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn lists_come_in_pages_that_miss_nothing() {
    let lab = Lab::new().await;
    let whole = lab.get(&lab.viewer, &lab.path("/deploys")).await.json();
    let ids = texts(&whole, "id");
    assert_eq!(ids.len(), 4);
    assert!(whole.get("next").is_none(), "{whole}");
    let lists: [(&str, &str, usize); 5] = [
        ("/deploys", "id", 4),
        ("/stages", "name", 2),
        ("/stages/dev/deploys", "id", 3),
        ("/updates", "host", 1),
        ("/projects", "name", 1),
    ];
    for (path, field, length) in lists {
        let mut found = Vec::new();
        let mut next = String::new();
        loop {
            let page = lab.get(&lab.viewer, &lab.path(&format!("{path}?limit=1{next}"))).await.json();
            found.extend(texts(&page, field));
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
            assert!(found.len() <= length, "{path}: {found:?}");
        }
        assert_eq!(found, texts(&lab.get(&lab.viewer, &lab.path(path)).await.json(), field), "{path}");
        assert_eq!(found.len(), length, "{path}");
    }
    let all = lab.get(&lab.admin, "/updates").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "{all}");

    let failed = lab.get(&lab.viewer, &lab.path("/stages/dev/deploys?state=rolled_back&image=2.0.0")).await.json();
    assert_eq!(texts(&failed, "id"), [id(2).to_string()]);
    let stage = lab.get(&lab.viewer, &lab.path("/stages/dev")).await.json();
    assert_eq!(stage["latest"]["state"], "pending");
    assert_eq!(stage["good"]["summary"], "web 1.0.0");
    assert_eq!(stage["vetoes"].as_array().unwrap().len(), 1);
    let steps = lab.get(&lab.viewer, &lab.path(&format!("/deploys/{}/transitions", id(2)))).await.json();
    assert_eq!(texts(&steps, "to").last().unwrap(), "rolled_back");
    let diff = lab.get(&lab.viewer, &lab.path(&format!("/deploys/{}/diff", id(2)))).await.json();
    assert_eq!(diff["from"], json!(id(1)));
    assert_eq!(diff["images"]["web"]["to"]["tag"], "2.0.0");
    // From another stage, by its id.
    let diff = lab.get(&lab.viewer, &lab.path(&format!("/deploys/{}/diff?with={}", id(3), id(4)))).await.json();
    assert_eq!(diff["images"]["web"]["from"]["tag"], "1.0.0");
}

#[tokio::test]
async fn problems_name_every_field_that_is_wrong() {
    let lab = Lab::new().await;
    let cases: [(&str, &[&str]); 8] = [
        ("/deploys?limit=0", &["query.limit"]),
        ("/deploys?limit=500&state=odd&since=x&other=1", &["query.limit", "query.state", "query.since", "query.other"]),
        ("/deploys?cursor=abc", &["query.cursor"]),
        ("/deploys/17", &["path.deploy"]),
        ("/stages/UPPER", &["path.stage"]),
        ("/audit?actor=root", &["query.actor"]),
        ("/projects/shop/logs", &["query.search"]),
        ("/projects/shop/logs?search=&limit=0", &["query.search", "query.limit"]),
    ];
    for (path, fields) in cases {
        let answer = lab.get(&lab.owner, &lab.path(path)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {answer:?}");
        assert_eq!(answer.fields(), fields, "{path}");
        let problem = answer.problem();
        for field in ["type", "title", "status", "detail"] {
            assert!(!problem[field].is_null(), "{path}: {field}");
        }
    }
    let path = lab.path("/stages/dev/requests");
    let bodies: [(Value, &[&str]); 4] = [
        (json!({"action": "promote", "actor": "user:root"}), &["actor"]),
        (json!({"action": "rollback"}), &["to"]),
        (json!({"reason": "x"}), &["action"]),
        (json!([1]), &["body"]),
    ];
    for (body, fields) in bodies {
        let answer = lab.post(&lab.owner, &path, &body).await;
        assert_eq!(
            (answer.status, answer.fields()),
            (StatusCode::BAD_REQUEST, fields.iter().map(|f| (*f).into()).collect()),
            "{body}"
        );
    }
    let long = json!({"action": "promote", "reason": "a".repeat(70_000)});
    let answer = lab.post(&lab.owner, &path, &long).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let plain = client.post(lab.url(&path)).bearer_auth(&lab.owner).body("action=promote").send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_request_has_a_name_in_its_answer() {
    let lab = Lab::new().await;
    for (given, kept) in [("ci-4711", true), ("a b", false), (&*"a".repeat(65), false)] {
        let headers = [("x-request-id", given)];
        let answer = lab.send(Method::GET, Some(&lab.viewer), &lab.path("/nothing"), None, &headers).await;
        _ = answer;
        let answer = lab.send(Method::GET, Some(&lab.viewer), &lab.path("/stages/none"), None, &headers).await;
        let name = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(name == given, kept, "{given:?}: {name:?}");
        assert_eq!(answer.json()["requestId"], name.as_str());
    }
}

#[tokio::test]
async fn words_are_found_in_the_logs_of_a_whole_project() {
    let lab = Lab::new().await;
    lab.shop.line(4, 1, "operator", LogLevel::Info, "nothing answered").await;
    lab.shop.line(3, 1, "probe", LogLevel::Warn, "GET /healthz answered 503").await;
    let path = lab.path("/projects/shop/logs?search=answered");
    let whole = lab.get(&lab.owner, &path).await.json();
    // Newest deploy first, of several stages.
    assert_eq!(texts(&whole, "text"), ["nothing answered", "GET /healthz answered 503", "GET /healthz answered 500"]);
    assert_eq!(texts(&whole, "deploy"), [4, 3, 2].map(|number| id(number).to_string()));
    assert_eq!((whole["gaveUp"].as_bool(), whole.get("next")), (Some(false), None), "{whole}");

    let (mut found, mut next) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = lab.get(&lab.owner, &format!("{path}&limit=1{next}")).await.json();
        found.extend(texts(&page, "text"));
        next = page["next"].as_str().map_or(String::new(), |cursor| format!("&cursor={cursor}"));
    }
    assert_eq!((found, next), (texts(&whole, "text"), String::new()));
    let none = lab.get(&lab.owner, &lab.path("/projects/shop/logs?search=answered+-get+-nothing")).await.json();
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn a_log_is_read_in_pages_and_heard_until_the_deploy_has_ended() {
    let lab = Lab::new().await;
    let path = lab.path(&format!("/deploys/{}/logs", id(2)));
    let first = lab.get(&lab.owner, &format!("{path}?limit=2")).await.json();
    assert_eq!(texts(&first, "source"), ["hook/migrate", "pod/web-0/web"]);
    let cursor = first["next"].as_str().unwrap();
    let rest = lab.get(&lab.owner, &format!("{path}?limit=2&cursor={cursor}")).await.json();
    assert_eq!(texts(&rest, "text"), ["GET /healthz answered 500"]);
    let found = lab.get(&lab.owner, &format!("{path}?search=tables")).await.json();
    assert_eq!(texts(&found, "text"), ["2 tables made"]);

    // A deploy that goes on.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let path = lab.path(&format!("/deploys/{}/logs", id(3)));
    let listen = client.get(lab.url(&path)).bearer_auth(&lab.owner).header("accept", "text/event-stream");
    let answer = listen.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.bytes_stream();
    let mut heard = String::new();
    lab.shop.line(3, 1, "operator", LogLevel::Info, "pulling images").await;
    while !heard.contains("pulling images") {
        heard.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    let place = heard.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    lab.shop.line(3, 2, "operator", LogLevel::Info, "all is well").await;
    lab.shop.finish(3).await;
    while let Some(more) = stream.next().await {
        heard.push_str(std::str::from_utf8(&more.unwrap()).unwrap());
    }
    assert!(heard.contains("event: line") && heard.contains("all is well"), "{heard}");
    assert!(heard.ends_with("event: end\ndata: {\"state\":\"success\"}\n\n"), "{heard}");
    // Whoever comes back misses nothing, and hears nothing twice.
    let again = client.get(lab.url(&path)).bearer_auth(&lab.owner).header("accept", "text/event-stream");
    let again = again.header("last-event-id", &place).send().await.unwrap().text().await.unwrap();
    assert!(again.contains("all is well") && !again.contains("pulling images"), "{again}");
}
