//! What a sender may not do, however it tries.

use std::time::Duration;

use reqwest::Method;
use stagekeeper::{
    http::Limits,
    store::{DeliveryKey, NewDelivery, Received},
    webhook::{self, MAX_BODY},
};
use uuid::Uuid;

use crate::door::{Door, SECRET, fixture, open, signature, signed};

#[tokio::test]
async fn a_body_of_more_than_a_megabyte_is_refused_unread() {
    let door = Door::new(&[signed("github", "github", &["one"])]).await;
    door.credential("one", SECRET).await;
    let send = async |length: usize| {
        let mut body = fixture("github/package");
        body.resize(length, b' ');
        let signature = signature(SECRET, &body);
        door.post("github", &[("x-github-event", "package"), ("x-hub-signature-256", &signature)], &body).await
    };
    assert_eq!(send(MAX_BODY).await, 202);
    assert_eq!(send(MAX_BODY + 1).await, 413);
    // Said in advance, or found out on the way.
    let path = door.path("github");
    let said =
        door.raw(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    let mut chunked = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..=16 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.resize(chunked.len() + 0x1_0000, b' ');
        chunked.extend_from_slice(b"\r\n");
    }
    let said = door.raw(&chunked).await;
    assert!(said.starts_with("HTTP/1.1 413 ") || said.is_empty(), "{said}");
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 1);
}

#[tokio::test]
async fn a_flood_is_answered_429_with_the_time_to_wait() {
    let door = Door::new(&[open("hub", "dockerhub"), open("other", "dockerhub")]).await;
    let body = fixture("dockerhub/push");
    let (path, mut answers) = (door.path("hub"), Vec::new());
    // More than there is room for, and than is let in again meanwhile on a slow machine.
    for _ in 0..8 {
        let all = (0..100).map(|_| door.send(Method::POST, &path, &[], &body));
        answers.extend(futures::future::join_all(all).await);
        if answers.iter().any(|answer| answer.status() == 429) {
            break;
        }
    }
    let taken = answers.iter().filter(|answer| answer.status() == 202).count();
    let flooded: Vec<_> = answers.iter().filter(|answer| answer.status() == 429).collect();
    assert!(taken >= 200 && !flooded.is_empty(), "{taken} were taken");
    assert_eq!(taken + flooded.len(), answers.len());
    assert!(flooded.iter().all(|answer| answer.headers()["retry-after"] == "1"));
    assert_eq!(door.post("other", &[], &body).await, 202, "another receiver is not to blame");
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 2, "they were one delivery each");
}

#[tokio::test]
async fn unknown_paths_cost_little_and_keep_nobody_out() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let body = fixture("dockerhub/push");
    assert_eq!(door.post("hub", &[], &body).await, 202);
    for path in ["/hooks/", "/hooks/short", "/hooks/a/b", "/hooks/%2e%2e", &format!("/hooks/{}", "x".repeat(4_000))] {
        assert_eq!(door.send(Method::POST, path, &[], &body).await.status(), 404, "{path}");
    }
    let mut limited = false;
    for number in 0..2_000 {
        let path = format!("/hooks/{number:043}");
        let status = door.send(Method::POST, &path, &[], b"x").await.status().as_u16();
        assert!(status == 404 || status == 429, "{status}");
        limited |= status == 429;
        if limited {
            break;
        }
    }
    assert!(limited, "paths can be guessed for ever");
    assert_eq!(door.post("hub", &[], &body).await, 202, "who knows the path is let in");
}

#[tokio::test]
async fn a_body_that_takes_its_time_is_given_up() {
    let limits = Limits { body: Duration::from_millis(100), ..Limits::default() };
    let door = Door::with(&[open("hub", "dockerhub")], webhook::parse, limits).await;
    let path = door.path("hub");
    let said = door.raw(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 0);
}

#[tokio::test]
async fn what_waits_has_an_end_and_what_waits_already_is_not_refused() {
    let door = Door::new(&[open("hub", "dockerhub"), open("other", "dockerhub")]).await;
    door.run(
        "INSERT INTO webhook_inbox (id, receiver_id, delivery, headers, body, size, state, received_at)
         SELECT md5('i' || i)::uuid, receiver.id, 'id:' || i, '[]', 'x', 1, 'pending', now()
         FROM generate_series(1, 1000) AS i, webhook_receivers AS receiver WHERE name = 'hub'",
    )
    .await;
    let body = fixture("dockerhub/push");
    let answer = door.send(Method::POST, &door.path("hub"), &[], &body).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"10".parse().unwrap()));
    assert_eq!(door.post("other", &[], &body).await, 202);
    door.run("UPDATE webhook_inbox SET body = 'x', size = 67108864 WHERE delivery = 'id:1'; DELETE FROM webhook_inbox WHERE delivery <> 'id:1'").await;
    assert_eq!(door.post("hub", &[], &body).await, 429, "64 MiB wait");
    door.run("UPDATE webhook_inbox SET state = 'processed', settled_at = now()").await;
    assert_eq!(door.post("hub", &[], &body).await, 202);
}

#[tokio::test]
async fn an_inbox_keeps_some_bodies_and_knows_more_deliveries() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    door.run(
        "INSERT INTO webhook_inbox (id, receiver_id, delivery, headers, body, size, state, received_at, settled_at)
         SELECT md5('i' || i)::uuid, receiver.id, 'id:' || i, '[]', 'x', 1, 'processed', now() - i * interval '1 s', now()
         FROM generate_series(1, 20100) AS i, webhook_receivers AS receiver",
    )
    .await;
    let receiver: Uuid = sqlx::query_scalar("SELECT id FROM webhook_receivers").fetch_one(&door.sql).await.unwrap();
    for _ in 0..10 {
        door.store().inbox_trim(receiver).await.unwrap();
    }
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 20_000);
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox WHERE delivery = 'id:1'").await, 1, "the newest stay");
    let bodies = door.number("SELECT count(body) FROM webhook_inbox").await;
    assert!((200..=18_200).contains(&bodies), "{bodies}");
    assert_eq!(door.number("SELECT count(body) FROM webhook_inbox WHERE delivery = 'id:200'").await, 1);
    assert_eq!(door.number("SELECT count(body) FROM webhook_inbox WHERE delivery = 'id:201'").await, 0);
    // Known for its name, although its body is gone.
    let again = NewDelivery {
        id: Uuid::from_u128(7),
        receiver,
        key: DeliveryKey::Id("10000".into()),
        headers: Vec::new(),
        body: b"x".to_vec(),
        ignored: None,
    };
    let received = door.store().inbox_put(&again, door.now()).await;
    assert!(matches!(received, Ok(Received::Known(_))), "{received:?}");
}
