//! How deliveries are worked on: once, and again when it is not known whether they were.

use stagekeeper::{
    domain::{actor::Actor, share::Share},
    store::{DeliveryState, Replayed, Settled},
};
use uuid::Uuid;

use crate::door::{Door, fixture, open};

fn processed(id: Uuid, opened: i32) -> Settled {
    Settled { id, opened, state: DeliveryState::Processed, result: "the registry is asked about a".into() }
}

async fn one(door: &Door) -> Uuid {
    assert_eq!(door.post("hub", &[], &fixture("dockerhub/push")).await, 202);
    door.store().inbox_pending(&Share::all(), 10).await.unwrap()[0].id
}

#[tokio::test]
async fn what_was_not_marked_is_worked_on_again() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let id = one(&door).await;
    // Whoever read it and died left it as it was.
    for _ in 0..2 {
        let pending = door.store().inbox_pending(&Share::all(), 10).await.unwrap();
        assert_eq!(pending.iter().map(|one| (one.id, one.opened)).collect::<Vec<_>>(), [(id, 1)]);
    }
    assert_eq!(door.store().inbox_settle(&[processed(id, 1)], door.now()).await, Ok(1));
    assert_eq!(door.store().inbox_settle(&[processed(id, 1)], door.now()).await, Ok(0), "a lost reply");
    assert!(door.store().inbox_pending(&Share::all(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_opened_again_meanwhile_stays_open() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let id = one(&door).await;
    assert_eq!(door.store().inbox_settle(&[processed(id, 1)], door.now()).await, Ok(1));
    door.wait(60);
    assert_eq!(one(&door).await, id);
    assert_eq!(door.store().inbox_settle(&[processed(id, 1)], door.now()).await, Ok(0));
    assert_eq!(door.store().inbox_settle(&[processed(id, 2)], door.now()).await, Ok(1));
}

#[tokio::test]
async fn a_replay_is_audited_and_opens_what_was_settled() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let id = one(&door).await;
    let (jane, store) = (Actor::User("jane".into()), door.store());
    assert_eq!(store.inbox_replay(id, &jane, door.now()).await, Ok(Replayed::Waiting));
    store.inbox_settle(&[processed(id, 1)], door.now()).await.unwrap();
    assert_eq!(store.inbox_replay(id, &jane, door.now()).await, Ok(Replayed::Opened));
    assert_eq!(store.inbox_pending(&Share::all(), 10).await.unwrap()[0].opened, 2);
    store.inbox_settle(&[processed(id, 2)], door.now()).await.unwrap();
    door.run("UPDATE webhook_inbox SET body = NULL").await;
    assert_eq!(store.inbox_replay(id, &jane, door.now()).await, Ok(Replayed::Bodiless));
    assert_eq!(store.inbox_replay(Uuid::nil(), &jane, door.now()).await, Ok(Replayed::Unknown));
    assert_eq!(
        door.number("SELECT count(*) FROM audit_log WHERE action = 'webhook.replay' AND actor = 'user:jane'").await,
        1
    );
    let found = store.inbox_get(id).await.unwrap().unwrap();
    assert_eq!((found.body, found.delivery.state, found.delivery.seen), (None, DeliveryState::Processed, 1));
}

#[tokio::test]
async fn only_the_namespaces_that_are_watched_are_worked_on() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    one(&door).await;
    let pending = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        door.store().inbox_pending(&Share::of(Some(names)), 10).await.unwrap().len()
    };
    assert_eq!((pending(&["beta"]).await, pending(&["beta", "acme"]).await), (0, 1));
}

#[tokio::test]
async fn what_is_old_and_settled_goes() {
    let door = Door::new(&[open("hub", "dockerhub")]).await;
    let id = one(&door).await;
    let later = door.now() + jiff::SignedDuration::from_hours(15 * 24);
    assert_eq!(door.store().inbox_prune(later, 100).await, Ok(0), "it waits, however long");
    door.store().inbox_settle(&[processed(id, 1)], door.now()).await.unwrap();
    assert_eq!(door.store().inbox_prune(door.now(), 100).await, Ok(0));
    assert_eq!(door.store().inbox_prune(later, 100).await, Ok(1));
}
