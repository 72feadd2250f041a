//! What people ask: written down once, done once, heard of when it is done.

use std::time::Duration;

use futures::future::join_all;
use stagekeeper::{
    domain::{
        actor::Actor,
        deploy::State,
        request::{Action, Destination, Origin, RequestState, Via},
        share::Share,
    },
    store::{Asked, Begun, Creation, NewDeploy, NewHold, NewRequest, Proof, Settlement, StoredRequest},
};

use crate::fixture::{EPOCH, Shop, at, id, new_deploy, step};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn asks(number: u32, stage: &str, action: Action) -> NewRequest {
    NewRequest {
        id: id(number),
        namespace: "acme".into(),
        stage: stage.into(),
        action,
        actor: Actor::User("jane".into()),
        groups: vec!["release".into()],
        reason: "checkout is slow".into(),
        origin: Origin {
            via: Via::Api,
            verified: true,
            source: Some("192.0.2.7".into()),
            request_id: Some("abc".into()),
        },
        idempotency_key: None,
        group: None,
        at: at(1),
    }
}

fn rollback() -> Action {
    Action::Rollback { to: Destination::Previous }
}

async fn made(shop: &Shop, new: &NewRequest) -> StoredRequest {
    match shop.request_create(new).await.unwrap() {
        Asked::Made(made) => made,
        other => panic!("{other:?}"),
    }
}

fn hold(number: u32, owner: &str) -> NewHold {
    NewHold {
        id: id(number),
        owner: owner.into(),
        actor: Actor::User("jane".into()),
        reason: "fair".into(),
        expires_at: None,
        from: None,
        settled_on: Some("h".into()),
        declared: None,
    }
}

#[tokio::test]
async fn the_same_key_is_one_request_and_for_something_else_it_is_refused() {
    let shop = Shop::new().await;
    shop.stage(2, "dev").await;
    let keyed = |number, action| NewRequest { idempotency_key: Some("k1".into()), ..asks(number, "dev", action) };
    let first = made(&shop, &keyed(50, rollback())).await;
    assert_eq!((first.state, first.stage.as_str(), first.project.as_str()), (RequestState::Pending, "dev", "shop"));
    let again = shop.request_create(&keyed(51, rollback())).await.unwrap();
    assert!(matches!(&again, Asked::Repeated(one) if one.id == id(50)), "{again:?}");
    assert_eq!(shop.request_create(&keyed(52, Action::Abort { deploy: None })).await, Ok(Asked::Reused));
    let somebody = NewRequest { actor: Actor::User("joe".into()), ..keyed(53, rollback()) };
    assert!(matches!(shop.request_create(&somebody).await, Ok(Asked::Made(_))), "keys are their owner's own");
    let nowhere = shop.request_create(&asks(54, "nowhere", rollback())).await.unwrap_err();
    assert_eq!(nowhere.to_string(), "stage acme/nowhere does not exist");
    assert_eq!(shop.number("SELECT count(*) FROM audit_log WHERE action = 'stage.rollback'").await, 2);
    assert_eq!(shop.number("SELECT count(*) FROM audit_log WHERE details ->> 'source' = '192.0.2.7'").await, 2);
}

/// A hundred who act on the same request at once, as leaders that were replaced might: one deploy comes of it.
#[tokio::test]
async fn a_request_is_done_once_however_many_act_on_it() {
    let shop = Shop::new().await;
    let dev = shop.stage(2, "dev").await;
    shop.success(&new_deploy(dev, 1, 10)).await;
    let asked = made(&shop, &asks(50, "dev", rollback())).await;
    let answer = |number: u32| NewDeploy {
        settles: Some(Settlement { request: asked.id, message: format!("deploy {number} is made") }),
        hold: Some(hold(number + 1000, "jane")),
        ..new_deploy(dev, 2, number)
    };
    let waiting = shop.request_settled(asked.id, PATIENCE);
    let acting = async {
        let all: Vec<NewDeploy> = (100..200).map(answer).collect();
        join_all(all.iter().map(|new| shop.deploy_create(new))).await
    };
    let (settled, made) = futures::join!(waiting, acting);
    let created = made.iter().filter(|one| **one == Ok(Creation::Created)).count();
    assert_eq!(created, 1, "{made:?}");
    let settled = settled.unwrap();
    assert_eq!(settled.state, RequestState::Done);
    assert!(settled.message.unwrap().ends_with("is made"));
    assert_eq!(shop.number("SELECT count(*) FROM deploys WHERE sequence = 2").await, 1);
    let holds = shop.holds_list(dev).await.unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(Some(holds[0].id), settled.deploy.map(|deploy| uuid::Uuid::from_u128(deploy.as_u128() + 1000)));
    // A later one finds it settled: another place in the sequence makes no difference.
    let late = NewDeploy {
        settles: Some(Settlement { request: asked.id, message: "again".into() }),
        ..new_deploy(dev, 3, 300)
    };
    assert_eq!(shop.deploy_create(&late).await, Ok(Creation::Conflict));
    assert_eq!(shop.requests_pending(&Share::all(), &[], 10).await, Ok(Vec::new()));
}

/// A hundred promoters at once, each with a deploy of its own in line: one is past pending, and they leave in order.
#[tokio::test]
async fn of_a_hundred_that_wait_one_begins() {
    let shop = Shop::new().await;
    let dev = shop.stage(2, "dev").await;
    for number in 1..=100 {
        shop.pending(&new_deploy(dev, number, 100 + u32::try_from(number).unwrap())).await;
    }
    let begins: Vec<_> =
        (1..=100).map(|number| step(id(100 + number), 1, State::Pending, State::Pulling, "Started")).collect();
    let nothing = new_deploy(dev, 1, 1).release.id();
    let all = begins.iter().map(|begin| shop.deploy_begin(begin, dev, &[], &nothing, |_: &Proof| true));
    let all = join_all(all).await;
    assert_eq!(all.iter().filter(|one| matches!(one, Ok(Begun::Moved(2)))).count(), 1, "{all:?}");
    for lost in all.iter().filter_map(|one| one.as_ref().err()) {
        assert_eq!(lost.class(), stagekeeper::store::Class::Conflict, "{lost}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM deploys WHERE state = 'pulling'").await, 1);
    let closed = step(id(101), 1, State::Pending, State::Pulling, "Started");
    let refused = shop.deploy_begin(&closed, dev, &[], &nothing, |_: &Proof| false).await;
    assert!(matches!(refused, Ok(Begun::Waits) | Err(_)), "{refused:?}");
}

#[tokio::test]
async fn what_is_refused_holds_and_ends_is_settled_with_it() {
    let shop = Shop::new().await;
    let dev = shop.stage(2, "dev").await;
    let at_work = shop.pending(&new_deploy(dev, 1, 10)).await;
    for number in 50..56 {
        made(&shop, &asks(number, "dev", rollback())).await;
    }
    let settles = |number| Settlement { request: id(number), message: "so it is".into() };
    assert_eq!(shop.request_refuse(&settles(50), at(2)).await, Ok(true));
    assert_eq!(shop.request_refuse(&settles(50), at(3)).await, Ok(false), "once");
    assert_eq!(shop.request_hold(&settles(51), &hold(60, "ada"), at(2)).await, Ok(true));
    assert_eq!(shop.request_hold(&settles(52), &hold(61, "ada"), at(3)).await, Ok(true));
    assert_eq!(shop.request_hold(&settles(52), &hold(62, "joe"), at(3)).await, Ok(false));
    let held = shop.holds_list(dev).await.unwrap();
    assert_eq!(held.iter().map(|hold| (hold.owner.as_str(), hold.at)).collect::<Vec<_>>(), [("ada", at(3))]);
    assert_eq!(shop.request_resume(&settles(53), Some("joe"), at(4)).await, Ok(true));
    assert_eq!(shop.holds_list(dev).await.unwrap().len(), 1, "that of somebody else");
    assert_eq!(shop.request_resume(&settles(54), None, at(4)).await, Ok(true));
    assert_eq!(shop.holds_list(dev).await, Ok(Vec::new()));
    let stop = stagekeeper::store::Advance {
        settles: Some(settles(55)),
        actor: Actor::User("jane".into()),
        epoch: EPOCH,
        ..step(at_work, 1, State::Pending, State::Aborted, "Aborted")
    };
    assert_eq!(shop.deploy_advance(&stop).await, Ok(2));
    let stopped = shop.request_get(id(55)).await.unwrap().unwrap();
    assert_eq!((stopped.state, stopped.deploy), (RequestState::Done, Some(at_work)));
    let page = shop.requests_list(dev, None, 10).await.unwrap();
    assert_eq!(page.len(), 6);
    assert!(page.iter().all(|request| request.state != RequestState::Pending));
}

#[tokio::test]
async fn a_later_stage_of_the_same_name_does_not_do_what_the_earlier_was_asked() {
    let shop = Shop::new().await;
    shop.stage(2, "dev").await;
    shop.stage(3, "live").await;
    made(&shop, &asks(50, "dev", rollback())).await;
    made(&shop, &asks(51, "live", rollback())).await;
    shop.stage_soft_delete("acme", "dev").await.unwrap();
    let refused = shop.request_get(id(50)).await.unwrap().unwrap();
    assert_eq!((refused.state, refused.message.as_deref()), (RequestState::Refused, Some("the stage was deleted")));
    shop.stage(4, "dev").await;
    let pending = shop.requests_pending(&Share::all(), &[], 10).await.unwrap();
    assert_eq!(
        pending.iter().map(|request| request.id).collect::<Vec<_>>(),
        [id(51)],
        "that of another stage waits on"
    );
}
