//! What is received, how it is answered, and what is kept of it.

use reqwest::Method;
use serde_json::Value;
use stagekeeper::{domain::share::Share, store::DeliveryState};

use crate::door::{Door, SECRET, fixture, open, signature, signed};

#[tokio::test]
async fn a_delivery_is_stored_as_it_came_before_it_is_answered() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let body = fixture("dockerhub/push");
    let answer = door.send(Method::POST, &door.path("hub"), &[], &body).await;
    assert_eq!(answer.status(), 202);
    let said: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(said["status"], "accepted");
    let pending = door.store().inbox_pending(&Share::all(), 10).await.unwrap();
    let [one] = &pending[..] else { panic!("one delivery, not {}", pending.len()) };
    assert_eq!(said["delivery"], one.id.to_string());
    assert_eq!((one.body.as_slice(), one.source.as_str(), one.receiver.as_str()), (&body[..], "dockerhub", "hub"));
    assert_eq!((one.project.namespace.as_str(), one.project.name.as_str()), ("acme", "shop"));
    assert!(door.counted(r#"stagekeeper_webhook_deliveries_total{source="dockerhub",outcome="accepted"} 1"#));
}

/// Byte for byte what Diun 4.33 sends without a `method` of its own: GET, with a body.
#[tokio::test]
async fn diuns_own_request_is_received() {
    let door = Door::new(&[signed("diun", "diun", &["diun"])]).await;
    door.credential("diun", SECRET).await;
    let body = fixture("diun/new");
    let request = |authorization: &str| {
        let mut bytes = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: diun/4.33.0 go/1.25.1 Linux\r\nContent-Length: {}\r\n\
             Authorization: {authorization}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\
             Connection: close\r\n\r\n",
            door.path("diun"),
            door.address,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    };
    let said = door.raw(&request(SECRET)).await;
    assert!(said.starts_with("HTTP/1.1 202 Accepted\r\n"), "{said}");
    let said = door.raw(&request("something else")).await;
    assert!(said.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{said}");
    let pending = door.store().inbox_pending(&Share::all(), 10).await.unwrap();
    assert_eq!(pending.iter().map(|one| one.body.as_slice()).collect::<Vec<_>>(), [&body[..]]);
}

#[tokio::test]
async fn a_malformed_body_is_told_why_and_not_stored() {
    let door = Door::new(&[open("diun", "diun")]).await;
    for (body, why) in [("{", "not JSON"), ("{}", "image is missing"), ("", "not JSON")] {
        let answer = door.send(Method::POST, &door.path("diun"), &[], body.as_bytes()).await;
        assert_eq!(answer.status(), 400, "{body}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let said = answer.text().await.unwrap();
        assert!(said.contains(why), "{body}: {said}");
    }
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 0);
    assert!(door.counted(r#"stagekeeper_webhook_deliveries_total{source="diun",outcome="malformed"} 3"#));
}

#[tokio::test]
async fn an_unknown_event_is_recorded_and_answered_204() {
    let door = Door::new(&[signed("github", "github", &["github"])]).await;
    door.credential("github", SECRET).await;
    let send = async |event: &str, id: &str, body: &[u8]| {
        let signature = signature(SECRET, body);
        let headers = [("x-github-event", event), ("x-github-delivery", id), ("x-hub-signature-256", &signature)];
        door.post("github", &headers, body).await
    };
    assert_eq!(send("ping", "1", &fixture("github/ping")).await, 204);
    // Who is asked to review is nothing to us.
    assert_eq!(send("pull_request", "2", br#"{"action":"review_requested"}"#).await, 204);
    assert_eq!(send("package", "3", &fixture("github/npm")).await, 204);
    assert_eq!(send("package", "4", &fixture("github/package")).await, 202);
    let mut all = door.store().inbox_list(Some(door.project), 10).await.unwrap();
    all.sort_by(|one, other| one.delivery.cmp(&other.delivery));
    let told: Vec<_> = all.iter().map(|one| (one.delivery.as_str(), one.state, one.result.as_str())).collect();
    assert_eq!(
        told,
        [
            ("id:1", DeliveryState::Ignored, "ping"),
            ("id:2", DeliveryState::Ignored, "pull_request review_requested"),
            ("id:3", DeliveryState::Ignored, "package of type npm"),
            ("id:4", DeliveryState::Pending, ""),
        ]
    );
}

#[tokio::test]
async fn a_delivery_that_is_repeated_is_one_for_as_long_as_it_is_known() {
    let door = Door::new(&[signed("github", "github", &["github"])]).await;
    door.credential("github", SECRET).await;
    let body = fixture("github/package");
    let signature = signature(SECRET, &body);
    let headers =
        [("x-github-event", "package"), ("x-github-delivery", "72d3162e"), ("x-hub-signature-256", &signature)];
    assert_eq!(door.post("github", &headers, &body).await, 202);
    // A replay is answered as the first one was, pending or settled, a minute later or days.
    for days in [0, 1, 3, 10] {
        door.wait(days * 86_400);
        assert_eq!(door.post("github", &headers, &body).await, 202);
        door.run("UPDATE webhook_inbox SET state = 'processed', settled_at = now()").await;
    }
    assert_eq!(door.number("SELECT seen::bigint FROM webhook_inbox").await, 5);
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox WHERE state = 'pending'").await, 0);
    assert!(door.counted(r#"stagekeeper_webhook_deliveries_total{source="github",outcome="repeated"} 4"#));
}

#[tokio::test]
async fn a_body_without_a_name_of_its_own_counts_again_after_a_minute() {
    let door = Door::new(&[open("hub", "dockerhub"), open("other", "dockerhub")]).await;
    let body = fixture("dockerhub/push");
    let pending = "SELECT count(*) FROM webhook_inbox WHERE state = 'pending'";
    let settle = "UPDATE webhook_inbox SET state = 'processed', settled_at = now()";
    assert_eq!(door.post("hub", &[], &body).await, 202);
    door.wait(3_600);
    assert_eq!(door.post("hub", &[], &body).await, 202);
    assert_eq!(door.number("SELECT opened::bigint FROM webhook_inbox").await, 1, "it is pending anyway");
    door.run(settle).await;
    assert_eq!(door.post("hub", &[], &body).await, 202);
    assert_eq!(door.number(pending).await, 1, "it was an hour old");
    door.run(settle).await;
    door.wait(59);
    assert_eq!(door.post("hub", &[], &body).await, 202);
    assert_eq!(door.number(pending).await, 0, "less than a minute old");
    door.wait(1);
    assert_eq!(door.post("hub", &[], &body).await, 202);
    assert_eq!(door.number(pending).await, 1);
    // Another receiver has its own.
    assert_eq!(door.post("other", &[], &body).await, 202);
    assert_eq!(door.number(pending).await, 2);
}

#[tokio::test]
async fn only_get_and_post_are_received() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = door.send(method.clone(), &door.path("hub"), &[], &fixture("dockerhub/push")).await;
        assert_eq!(answer.status(), 405, "{method}");
        assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control")), "{method}");
    }
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 0);
}

#[tokio::test]
async fn without_a_database_nothing_is_accepted() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    door.store().close().await;
    let answer = door.send(Method::POST, &door.path("hub"), &[], &fixture("dockerhub/push")).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"10".parse().unwrap()));
    assert!(door.counted(r#"stagekeeper_webhook_deliveries_total{source="unknown",outcome="unavailable"} 1"#));
}

#[tokio::test]
async fn a_panic_in_a_reader_is_one_senders_trouble() {
    let door = Door::with(
        &[open("diun", "diun"), open("hub", "dockerhub")],
        |source, headers, body, registry| {
            assert!(source.word() != "diun", "a mistake in the reader");
            stagekeeper::webhook::parse(source, headers, body, registry)
        },
        stagekeeper::http::Limits::default(),
    )
    .await;
    assert_eq!(door.post("diun", &[], &fixture("diun/new")).await, 500);
    assert_eq!(door.post("hub", &[], &fixture("dockerhub/push")).await, 202);
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 1);
}
