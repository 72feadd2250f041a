//! Who is believed: the rules of `docs/security.md` about webhooks.

use std::sync::{Arc, Mutex};

use reqwest::Method;
use sqlx::Row as _;
use stagekeeper::{telemetry::logs, webhook::Source};
use tracing_subscriber::filter::Targets;

use crate::door::{Door, SECRET, fixture, open, signature, signed};

/// A body of each source that names an image, with what goes with it.
const BODIES: [(Source, &str, &[(&str, &str)]); 12] = [
    (Source::Diun, "diun/new", &[]),
    (Source::DockerHub, "dockerhub/push", &[]),
    (Source::GitHub, "github/package", &[("x-github-event", "package")]),
    (Source::Harbor, "harbor/push", &[]),
    (Source::Quay, "quay/push", &[]),
    (Source::Distribution, "distribution/push", &[]),
    (Source::Acr, "acr/push", &[]),
    (Source::JFrog, "jfrog/pushed", &[]),
    (Source::CloudEvents, "cloudevents/ecr", &[]),
    (Source::GitLab, "gitlab/registry", &[]),
    (Source::Gitea, "gitea/pull-request", &[("x-gitea-event", "pull_request")]),
    (Source::Generic, "generic/image", &[]),
];

fn proof(source: Source, secret: &str, body: &[u8]) -> (&'static str, String) {
    match source {
        Source::GitHub => ("x-hub-signature-256", signature(secret, body)),
        Source::Generic => ("x-signature", signature(secret, body)),
        Source::Harbor => ("authorization", secret.to_owned()),
        Source::GitLab => ("x-gitlab-token", secret.to_owned()),
        Source::Gitea => ("x-gitea-signature", signature(secret, body)["sha256=".len()..].to_owned()),
        Source::JFrog => ("x-jfrog-event-auth", secret.to_owned()),
        Source::CloudEvents => ("x-webhook-secret", secret.to_owned()),
        _ => ("authorization", format!("Bearer {secret}")),
    }
}

#[tokio::test]
async fn no_source_with_credentials_takes_a_delivery_without_them() {
    let all: Vec<_> = BODIES.iter().map(|(source, ..)| signed(source.word(), source.word(), &["one"])).collect();
    let door = Door::new(&all).await;
    door.credential("one", SECRET).await;
    for (source, name, headers) in BODIES {
        let body = fixture(name);
        let refused = |more: &[(&'static str, String)]| {
            let mut headers: Vec<(String, String)> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            headers
        };
        let (header, right) = proof(source, SECRET, &body);
        let wrong = proof(source, "something else", &body).1;
        let other_body = proof(source, SECRET, b"{}").1;
        let mut answers = Vec::new();
        let mut tries =
            vec![vec![], vec![(header, String::new())], vec![(header, wrong)], vec![(header, "sha256=00".into())]];
        if right.starts_with("sha256=") || source == Source::Gitea {
            tries.push(vec![(header, other_body)]);
        }
        for more in tries {
            let headers = refused(&more);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answer = door.send(Method::POST, &door.path(source.word()), &headers, &body).await;
            assert_eq!(answer.status(), 401, "{source}: {more:?}");
            answers.push(answer.text().await.unwrap());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{source}: the answer says which part was wrong");
        assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 0, "{source}");
        let headers = refused(&[(header, right)]);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(door.post(source.word(), &headers, &body).await, 202, "{source}");
        door.run("DELETE FROM webhook_inbox").await;
    }
}

#[tokio::test]
async fn the_raw_body_is_verified_before_it_is_read() {
    let door = Door::with(
        &[signed("github", "github", &["one"])],
        |_, _, _, _| panic!("it was read"),
        stagekeeper::http::Limits::default(),
    )
    .await;
    door.credential("one", SECRET).await;
    // Whatever is in it: without a signature it is not looked at.
    for body in [&b"{"[..], b"", br#"{"a":null}"#, &[0xff; 4_096]] {
        let headers = [("x-github-event", "package"), ("x-hub-signature-256", "sha256=00")];
        assert_eq!(door.post("github", &headers, body).await, 401);
    }
}

#[tokio::test]
async fn an_unsigned_word_about_a_pull_request_is_not_stored() {
    let door = Door::new(&[
        signed("github", "github", &["one"]),
        signed("gitlab", "gitlab", &["one"]),
        signed("gitea", "gitea", &["one"]),
        open("bare", "github"),
    ])
    .await;
    door.credential("one", SECRET).await;
    for (name, body, event) in [
        ("github", "github/pull-request", ("x-github-event", "pull_request")),
        ("bare", "github/pull-request", ("x-github-event", "pull_request")),
        ("gitlab", "gitlab/merge-request", ("x-gitlab-event", "Merge Request Hook")),
        ("gitea", "gitea/pull-request", ("x-gitea-event", "pull_request")),
    ] {
        assert_eq!(door.post(name, &[event], &fixture(body)).await, 401, "{name}");
        let wrong = signature("something else", &fixture(body));
        let all = [event, ("x-hub-signature-256", &wrong), ("x-gitea-signature", &wrong), ("x-gitlab-token", "wrong")];
        assert_eq!(door.post(name, &all, &fixture(body)).await, 401, "{name}");
    }
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 0);
    let good = signature(SECRET, &fixture("github/pull-request"));
    let headers = [("x-github-event", "pull_request"), ("x-hub-signature-256", good.as_str())];
    assert_eq!(door.post("github", &headers, &fixture("github/pull-request")).await, 202);
    let ping = signature(SECRET, &fixture("github/ping"));
    let headers = [("x-github-event", "ping"), ("x-hub-signature-256", ping.as_str())];
    assert_eq!(door.post("github", &headers, &fixture("github/ping")).await, 204);
}

#[tokio::test]
async fn credentials_that_are_declared_and_not_stored_let_nobody_in() {
    let door = Door::new(&[signed("diun", "diun", &["missing"]), open("open", "diun")]).await;
    let body = fixture("diun/new");
    assert_eq!(door.post("diun", &[], &body).await, 401);
    assert_eq!(door.post("diun", &[("authorization", "")], &body).await, 401);
    assert_eq!(door.post("open", &[], &body).await, 202);
}

#[tokio::test]
async fn either_of_two_secrets_is_good_while_one_takes_the_place_of_the_other() {
    let door = Door::new(&[signed("github", "github", &["new", "old"])]).await;
    let body = fixture("github/package");
    let send = async |secret: &str| {
        let signature = signature(secret, &body);
        door.post("github", &[("x-github-event", "package"), ("x-hub-signature-256", &signature)], &body).await
    };
    door.credential("old", "the old secret").await;
    assert_eq!((send("the old secret").await, send("the new secret").await), (202, 401));
    // At once, although the old one was opened just now.
    door.credential("new", "the new secret").await;
    assert_eq!((send("the old secret").await, send("the new secret").await), (202, 202));
    door.credential("old", "another secret").await;
    assert_eq!((send("the old secret").await, send("the new secret").await), (401, 202));
}

#[tokio::test]
async fn secrets_are_opened_once_for_many_deliveries_and_each_opening_is_recorded() {
    let door = Door::new(&[signed("github", "github", &["one"])]).await;
    door.credential("one", SECRET).await;
    let body = fixture("github/package");
    let signature = signature(SECRET, &body);
    let headers = [("x-github-event", "package"), ("x-hub-signature-256", signature.as_str())];
    let all = (0..50).map(|_| door.post("github", &headers, &body));
    assert_eq!(futures::future::join_all(all).await, [202; 50]);
    let uses = sqlx::query("SELECT actor, purpose, version FROM credential_uses").fetch_all(&door.sql).await.unwrap();
    let uses: Vec<(String, String, i64)> = uses.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(uses, [("webhook:github".to_owned(), "webhook github".to_owned(), 1)]);
    assert_eq!(door.number("SELECT count(*) FROM webhook_inbox").await, 1, "they were one delivery");
}

#[tokio::test]
async fn a_path_that_was_rotated_is_good_for_another_day_unless_it_is_not_to_be() {
    let mut door = Door::new(&[open("hub", "dockerhub")]).await;
    let body = fixture("dockerhub/push");
    let first = door.path("hub");
    let send = async |door: &Door, path: &str| door.send(Method::POST, path, &[], &body).await.status().as_u16();
    let rotate = async |door: &mut Door, hours: Option<i64>| {
        let keep = hours.map(|hours| door.now() + jiff::SignedDuration::from_hours(hours));
        let token = stagekeeper::safe::token().unwrap();
        let actor = stagekeeper::domain::actor::Actor::User("jane".into());
        let done = door.store().receiver_rotate(door.project, "hub", &token, keep, &actor, door.now()).await;
        assert_eq!(done, Ok(true));
        door.look().await;
    };
    rotate(&mut door, Some(24)).await;
    let second = door.path("hub");
    assert_ne!(first, second);
    assert_eq!((send(&door, &first).await, send(&door, &second).await), (202, 202));
    door.wait(24 * 3_600);
    assert_eq!((send(&door, &first).await, send(&door, &second).await), (404, 202));
    rotate(&mut door, None).await;
    assert_eq!((send(&door, &second).await, send(&door, &door.path("hub")).await), (404, 202));
    assert_eq!(door.number("SELECT count(*) FROM audit_log WHERE action = 'webhook.rotate'").await, 2);
}

#[tokio::test]
async fn what_is_not_declared_any_more_is_not_received_and_comes_back_with_its_path() {
    let mut door = Door::new(&[open("hub", "dockerhub")]).await;
    let (path, body) = (door.path("hub"), fixture("dockerhub/push"));
    door.declare(&[]).await;
    assert_eq!(door.send(Method::POST, &path, &[], &body).await.status(), 404);
    door.declare(&[open("hub", "dockerhub")]).await;
    assert_eq!(door.path("hub"), path);
    assert_eq!(door.send(Method::POST, &path, &[], &body).await.status(), 202);
    door.run("UPDATE projects SET deleted_at = now()").await;
    assert_eq!(door.send(Method::POST, &path, &[], &body).await.status(), 404);
}

#[tokio::test]
async fn a_token_is_not_stored_where_it_is_looked_up() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let token = door.path("hub").replace("/hooks/", "");
    assert!(token.len() >= 32);
    let by_hash = format!("SELECT count(*) FROM webhook_receivers WHERE token_hash = sha256('{token}'::bytea)");
    assert_eq!(door.number(&by_hash).await, 1);
    // Who knows the hash alone does not get in.
    let hash: Vec<u8> =
        sqlx::query_scalar("SELECT token_hash FROM webhook_receivers").fetch_one(&door.sql).await.unwrap();
    let path = format!("/hooks/{}", hex::encode(hash));
    assert_eq!(door.send(Method::POST, &path, &[], &fixture("dockerhub/push")).await.status(), 404);
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_of_a_delivery_or_its_secret_is_logged_or_answered() {
    let heard = Heard::default();
    let writer = heard.clone();
    let filter: Targets = "trace".parse().unwrap();
    let _guard = tracing::subscriber::set_default(logs::json(filter, move || writer.clone()));
    let door = Door::new(&[signed("github", "github", &["one"]), open("diun", "diun"), open("hub", "dockerhub")]).await;
    door.credential("one", SECRET).await;
    let canary = "canary-in-a-body";
    let mut answers = String::new();
    let bodies =
        [format!("{{\"{canary}\""), format!("{{\"image\": 7, \"x\": \"{canary}\"}}"), format!("[\"{canary}\"]")];
    for body in &bodies {
        for name in ["github", "diun", "hub"] {
            let signature = signature(SECRET, body.as_bytes());
            for signature in [signature.as_str(), canary] {
                let headers =
                    [("x-github-event", "package"), ("x-hub-signature-256", signature), ("authorization", canary)];
                let answer = door.send(Method::POST, &door.path(name), &headers, body.as_bytes()).await;
                answers.push_str(&answer.text().await.unwrap());
            }
        }
    }
    let path = door.path("hub");
    assert_eq!(door.post("hub", &[], &fixture("dockerhub/push")).await, 202);
    let logged = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
    // What the server itself says: the client of this test tells of its own requests.
    let logged: String = logged.lines().filter(|line| line.contains("\"target\":\"stagekeeper")).collect();
    assert!(logged.contains("a webhook was refused"), "{logged}");
    for secret in [canary, SECRET, &path["/hooks/".len()..]] {
        assert!(!logged.contains(secret), "{secret}: {logged}");
        assert!(!answers.contains(secret), "{secret}: {answers}");
    }
}
