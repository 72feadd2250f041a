//! What is known of pull requests, and what they are told.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::json;
use stagekeeper::{
    domain::{
        pull_request::{Known, Made, Provider, PullRequest, PullState},
        share::Share,
    },
    store::{MessageKind, NewMessage},
};
use uuid::Uuid;

use crate::fixture::{Shop, at, id};

/// An open pull request of the repository `acme/shop`.
pub(crate) fn known(number: i64, second: i64) -> Known {
    let facts = PullRequest {
        number,
        title: "Add a cart".into(),
        author: "jane".into(),
        branch: "feat/cart".into(),
        target: "main".into(),
        head: format!("{number:040x}"),
        head_repository: "acme/shop".into(),
        fork: false,
        labels: ["preview", "safe"].map(str::to_owned).into(),
        vouched: ["safe".to_owned()].into(),
        state: PullState::Open,
        updated_at: at(second),
    };
    Known::new(Provider::GitHub, "Acme/Shop", facts)
}

fn made(known: &Known, uid: &str) -> Made {
    let commit = known.facts.head.clone();
    Made { name: format!("shop-pr-{}", known.facts.number), uid: Some(uid.to_owned()), commit }
}

pub(crate) fn message(number: u32, project: Uuid, text: &str) -> NewMessage {
    NewMessage {
        id: id(number),
        project,
        kind: MessageKind::Comment,
        key: format!("about-{number}"),
        payload: json!({"text": text}),
    }
}

#[tokio::test]
async fn what_is_stored_of_a_pull_request_comes_back() {
    let shop = Shop::new().await;
    let mut one = known(7, 1);
    one.facts.title = "a \0 in it".into();
    assert_eq!(shop.pull_request_put(id(50), shop.project, &one, None, at(2)).await, Ok(true));
    one.facts.title = "a \u{fffd} in it".into();
    let stored = shop.pull_requests_live(shop.project).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].id, stored[0].version, &stored[0].known), (id(50), 1, &one));

    one.facts.state = PullState::Merged;
    one.facts.labels = BTreeSet::new();
    one.facts.vouched = BTreeSet::new();
    one.absences = 2;
    one.made = Some(made(&one, "uid"));
    assert_eq!(shop.pull_request_put(id(50), shop.project, &one, Some(1), at(3)).await, Ok(true));
    let stored = shop.pull_requests_live(shop.project).await.unwrap();
    assert_eq!((stored[0].version, &stored[0].known), (2, &one), "closed, but it has an environment");
    shop.pull_request_commented(id(50), Some("99")).await.unwrap();

    one.made = None;
    assert_eq!(shop.pull_request_put(id(50), shop.project, &one, Some(3), at(4)).await, Ok(true));
    assert!(shop.pull_requests_live(shop.project).await.unwrap().is_empty());
    let stored = shop.pull_requests_get(shop.project, "github", "acme/shop", &[6, 7]).await.unwrap();
    assert_eq!((stored.len(), stored[0].comment.as_deref()), (1, Some("99")));
    assert!(shop.pull_requests_get(shop.project, "gitlab", "acme/shop", &[7]).await.unwrap().is_empty());
    assert!(shop.pull_requests_get(shop.project, "github", "acme/other", &[7]).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_two_who_write_a_pull_request_one_reads_it_again() {
    let shop = Shop::new().await;
    let one = known(7, 1);
    assert_eq!(shop.pull_request_put(id(50), shop.project, &one, None, at(2)).await, Ok(true));
    assert_eq!(shop.pull_request_put(id(51), shop.project, &one, None, at(2)).await, Ok(false), "it is there");
    let later = known(7, 5);
    assert_eq!(shop.pull_request_put(id(50), shop.project, &later, Some(1), at(2)).await, Ok(true));
    assert_eq!(shop.pull_request_put(id(50), shop.project, &one, Some(1), at(2)).await, Ok(false), "it has changed");
    let stored = shop.pull_requests_live(shop.project).await.unwrap();
    assert_eq!(stored[0].known.facts.updated_at, at(5));
}

#[tokio::test]
async fn projects_with_something_to_look_after_are_found_and_tombstones_go_in_time() {
    let shop = Shop::new().await;
    assert!(shop.pull_requests_projects(&Share::all()).await.unwrap().is_empty());
    let (mut closed, mut ended) = (known(7, 1), known(8, 1));
    closed.facts.state = PullState::Closed;
    ended.facts.state = PullState::Closed;
    ended.made = Some(made(&ended, "uid"));
    for (number, one) in [(50, &closed), (51, &ended), (52, &known(9, 1))] {
        assert_eq!(shop.pull_request_put(id(number), shop.project, one, None, at(2)).await, Ok(true));
    }
    let all = [("acme".to_owned(), "shop".to_owned())];
    assert_eq!(shop.pull_requests_projects(&Share::all()).await.unwrap(), all);
    assert_eq!(shop.pull_requests_projects(&Share::of(Some(vec!["acme".into()]))).await.unwrap(), all);
    assert!(shop.pull_requests_projects(&Share::of(Some(vec!["other".into()]))).await.unwrap().is_empty());
    assert_eq!(shop.pull_requests_prune(at(2), 10).await, Ok(0), "it is not old enough");
    assert_eq!(shop.pull_requests_prune(at(3), 10).await, Ok(1), "open ones and those with an environment stay");
    assert_eq!(shop.number("SELECT count(*) FROM pull_requests").await, 2);
}

#[tokio::test]
async fn the_latest_text_wins_and_the_same_is_not_told_twice() {
    let shop = Shop::new().await;
    let wait = SignedDuration::from_secs(2);
    assert_eq!(shop.outbox_put(&message(60, shop.project, "one"), wait, at(0)).await, Ok(true));
    assert_eq!(shop.outbox_put(&message(60, shop.project, "one"), wait, at(1)).await, Ok(false));
    assert!(shop.outbox_due(&Share::all(), at(1), 9).await.unwrap().is_empty(), "there may be more to tell");
    assert_eq!(shop.outbox_put(&message(60, shop.project, "two"), wait, at(1)).await, Ok(true));
    let due = shop.outbox_due(&Share::all(), at(2), 9).await.unwrap();
    assert_eq!((due.len(), &due[0].payload, due[0].version), (1, &json!({"text": "two"}), 2));

    // Another text comes while this one is under way: it is still to be sent, after a pause.
    assert_eq!(shop.outbox_put(&message(60, shop.project, "three"), wait, at(3)).await, Ok(true));
    shop.outbox_sent(due[0].id, due[0].version, at(4)).await.unwrap();
    assert_eq!(shop.outbox_next(&Share::all()).await, Ok(Some(at(14))));
    let due = shop.outbox_due(&Share::all(), at(14), 9).await.unwrap();
    assert_eq!(due[0].payload, json!({"text": "three"}));
    shop.outbox_sent(due[0].id, due[0].version, at(14)).await.unwrap();
    assert_eq!(shop.outbox_next(&Share::all()).await, Ok(None));
    assert_eq!(shop.outbox_put(&message(60, shop.project, "three"), wait, at(15)).await, Ok(false), "it was told");
    // What changes quickly is told once.
    assert_eq!(shop.outbox_put(&message(60, shop.project, "four"), wait, at(15)).await, Ok(true));
    assert_eq!(shop.outbox_next(&Share::all()).await, Ok(Some(at(24))));
    assert_eq!(shop.outbox_next(&Share::of(Some(vec!["other".into()]))).await, Ok(None));
}

#[tokio::test]
async fn what_did_not_arrive_is_tried_again_until_it_is_given_up() {
    let shop = Shop::new().await;
    let now = SignedDuration::ZERO;
    shop.outbox_put(&message(60, shop.project, "one"), now, at(0)).await.unwrap();
    let due = shop.outbox_due(&Share::all(), at(0), 9).await.unwrap();
    shop.outbox_failed(due[0].id, due[0].version, "it is away", Some(at(30))).await.unwrap();
    assert!(shop.outbox_due(&Share::all(), at(29), 9).await.unwrap().is_empty());
    let due = shop.outbox_due(&Share::all(), at(30), 9).await.unwrap();
    assert_eq!(due[0].attempts, 1);
    shop.outbox_failed(due[0].id, due[0].version, "it is gone", None).await.unwrap();
    assert_eq!(shop.outbox_next(&Share::all()).await, Ok(None));
    // Another text begins anew.
    assert_eq!(shop.outbox_put(&message(60, shop.project, "two"), now, at(40)).await, Ok(true));
    assert_eq!(shop.outbox_due(&Share::all(), at(40), 9).await.unwrap()[0].attempts, 0);
    assert_eq!(shop.outbox_prune(at(1_000_000_000), 9).await, Ok(0), "it is still to be sent");
    shop.outbox_sent(id(60), 2, at(41)).await.unwrap();
    assert_eq!(shop.outbox_prune(at(1_000_000_000), 9).await, Ok(1));
}
