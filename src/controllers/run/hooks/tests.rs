//! What one delivery asks for and leaves behind.

use uuid::Uuid;

use super::*;
use crate::store::Project as ProjectRow;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("an instant")
}

fn delivery(source: &str, body: &str) -> PendingDelivery {
    PendingDelivery {
        id: Uuid::nil(),
        opened: 1,
        project: ProjectRow { id: Uuid::nil(), namespace: "acme".into(), name: "shop".into() },
        receiver: "any".into(),
        source: source.into(),
        registry: None,
        headers: Vec::new(),
        body: body.replace("DIGEST", DIGEST).into_bytes(),
        received_at: now(),
    }
}

/// What became of it, and what was asked, where `questions` are asked about every repository.
fn became(delivery: &PendingDelivery, questions: usize, declared: bool) -> (Outcome, Vec<String>) {
    let mut asked = Vec::new();
    let ask = |repository: &Repository| {
        asked.push(repository.to_string());
        questions
    };
    let outcome = outcome(delivery, read(delivery), ask, |_| declared);
    (outcome, asked)
}

#[test]
fn each_repository_is_asked_about_once_however_many_tags_moved() {
    let body = r#"{"docker_url":"quay.io/acme/shop","updated_tags":["1","2","3"]}"#;
    let (outcome, asked) = became(&delivery("quay", body), 2, true);
    assert_eq!(asked, ["quay.io/acme/shop"]);
    assert_eq!(outcome.state, DeliveryState::Processed);
    assert_eq!(outcome.result, "the registry is asked 2 questions about quay.io/acme/shop");
    assert_eq!(outcome.seen, []);
}

#[test]
fn what_nobody_follows_goes_on_the_update_list_if_its_digest_is_known() {
    let body = r#"{"host":"ghcr.io","name":"acme/other","tag":"2","digest":"DIGEST"}"#;
    let (outcome, _) = became(&delivery("generic", body), 0, false);
    assert_eq!(outcome.result, "nothing here follows ghcr.io/acme/other; put on the update list");
    let [seen] = &outcome.seen[..] else { panic!("one update: {outcome:?}") };
    assert_eq!(seen.image, "ghcr.io/acme/other:2");
    assert_eq!(seen.seen_by, Actor::Webhook("generic".into()));
    // Who declares it has its own scans.
    assert_eq!(became(&delivery("generic", body), 1, true).0.seen, []);
    assert_eq!(became(&delivery("generic", body), 0, true).0.seen, []);
    let without = r#"{"host":"ghcr.io","name":"acme/other","tag":"2"}"#;
    assert_eq!(became(&delivery("generic", without), 0, false).0.seen, []);
}

#[test]
fn what_diun_sees_on_a_host_is_on_the_update_list_whoever_follows_it() {
    let body = r#"{"status":"update","image":"ghcr.io/acme/shop:1","digest":"DIGEST","hostname":"vm-1","provider":"docker",
        "platform":"linux/amd64","hub_link":"https://ghcr.io/acme/shop","created":"2026-02-01T00:00:00Z"}"#;
    for questions in [0, 1] {
        let (outcome, asked) = became(&delivery("diun", body), questions, true);
        assert_eq!(asked, ["ghcr.io/acme/shop"]);
        let [seen] = &outcome.seen[..] else { panic!("one update: {outcome:?}") };
        assert_eq!(
            (seen.host.as_str(), seen.provider.as_str(), seen.platform.as_str()),
            ("vm-1", "docker", "linux/amd64")
        );
        assert_eq!(seen.link.as_deref(), Some("https://ghcr.io/acme/shop"));
        assert_eq!(seen.created.map(|at| at.to_string()).as_deref(), Some("2026-02-01T00:00:00Z"));
    }
}

#[test]
fn what_cannot_be_read_fails_and_what_is_about_something_else_is_ignored() {
    for (source, body, state, result) in [
        ("diun", "{", DeliveryState::Failed, "not JSON"),
        ("teleprinter", "{}", DeliveryState::Failed, "does not know"),
        ("acr", r#"{"action":"delete"}"#, DeliveryState::Ignored, "delete"),
    ] {
        let (outcome, asked) = became(&delivery(source, body), 1, true);
        assert_eq!((outcome.state, asked.len()), (state, 0), "{body}");
        assert!(outcome.result.contains(result), "{outcome:?}");
    }
}

#[test]
fn a_result_is_a_short_sentence() {
    let all: Vec<Repository> =
        (0..9).map(|number| format!("ghcr.io/acme/s{number}").parse().expect("a name")).collect();
    let all: Vec<&Repository> = all.iter().collect();
    assert_eq!(
        sentence(&all, 9, 2),
        "the registry is asked 9 questions about ghcr.io/acme/s0, ghcr.io/acme/s1, ghcr.io/acme/s2, 6 more; 2 put on the update list"
    );
    assert_eq!(sentence(&all[..1], 1, 0), "the registry is asked about ghcr.io/acme/s0");
}
