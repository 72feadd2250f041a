//! Deploys: made once, moved by compare-and-set, fenced by epoch.

use futures::future::join_all;
use stagekeeper::{
    domain::{actor::Actor, deploy::State},
    store::{Advance, Class, Creation, InstanceStatus, NewDeploy, StoreError},
};

use crate::fixture::{EPOCH, Shop, WAY, at, change, id, new_deploy, step, transition, veto};

#[tokio::test]
async fn a_deploy_is_stored_with_all_that_belongs_to_it() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let new =
        NewDeploy { request: Some("retry-1".into()), actor: Actor::User("jane".into()), ..new_deploy(stage, 1, 10) };
    shop.pending(&new).await;

    let detail = shop.deploy_get(new.id).await.unwrap().unwrap();
    let stored = detail.entry.stored;
    assert_eq!(stored.deploy.state, State::Pending);
    assert_eq!(stored.deploy.version, 1);
    assert_eq!(stored.deploy.release, new.release.id());
    assert_eq!(stored.deploy.created_at, new.now);
    assert_eq!(stored.deploy.actor, new.actor);
    assert_eq!(stored.release, new.release);
    assert_eq!(stored.request, new.request);
    assert_eq!(stored.epoch, EPOCH);
    let steps = detail.entry.transitions;
    assert_eq!(steps.len(), 1);
    assert_eq!((steps[0].from, steps[0].to), (None, State::Pending));
    assert_eq!(steps[0].message, new.cause);
    let snapshot = shop.snapshot_get(shop.project, &new.snapshot_hash).await;
    assert_eq!(snapshot, Ok(Some(new.snapshot)));
    let audit = shop.audit_list(&format!("deploy/{}", new.id), None, 10).await;
    let audit = audit.unwrap();
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].entry.action, "deploy.create");
    assert_eq!(audit[0].entry.actor, new.actor);
}

#[tokio::test]
async fn asking_twice_is_asking_once() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let new = new_deploy(stage, 1, 10);
    // The first answer was lost; the caller asks again with the same identity.
    assert_eq!(shop.deploy_create(&new).await, Ok(Creation::Created));
    assert_eq!(shop.deploy_create(&new).await, Ok(Creation::Created));
    assert_eq!(shop.number("SELECT count(*) FROM deploys").await, 1);
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 1);
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 1);
    // Once it has moved on, asking again says: look.
    shop.walk(new.id, &WAY[..1]).await;
    assert_eq!(shop.deploy_create(&new).await, Ok(Creation::Conflict));
}

#[tokio::test]
async fn of_many_who_ask_for_the_same_place_one_gets_it() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let asked: Vec<NewDeploy> = (10..26).map(|number| new_deploy(stage, 1, number)).collect();
    let answers = join_all(asked.iter().map(|new| shop.deploy_create(new))).await;
    let created = answers.iter().filter(|answer| **answer == Ok(Creation::Created));
    assert_eq!(created.count(), 1, "{answers:?}");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(shop.number("SELECT count(*) FROM deploys").await, 1);
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 1);
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 1);
}

#[tokio::test]
async fn places_have_no_gaps() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let conflict = Ok(Creation::Conflict);
    assert_eq!(shop.deploy_create(&new_deploy(stage, 2, 10)).await, conflict);
    shop.pending(&new_deploy(stage, 1, 11)).await;
    assert_eq!(shop.deploy_create(&new_deploy(stage, 3, 12)).await, conflict);
    shop.pending(&new_deploy(stage, 2, 13)).await;
    let nowhere = shop.deploy_create(&new_deploy(id(99), 1, 14)).await;
    assert_eq!(nowhere.unwrap_err().class(), Class::NotFound);
}

#[tokio::test]
async fn steps_that_follow_each_other_are_one_write() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let mut from = State::Pending;
    let mut steps = Vec::new();
    for (to, reason) in WAY {
        steps.push(transition(from, to, reason));
        from = to;
    }
    let advance = Advance { steps, ..step(deploy, 1, State::Pending, State::Pulling, "Started") };
    assert_eq!(shop.deploy_advance(&advance).await, Ok(2));
    let detail = shop.deploy_get(deploy).await.unwrap().unwrap();
    assert_eq!(detail.entry.stored.deploy.state, State::Success);
    assert_eq!(detail.entry.stored.deploy.since, at(1));
    assert_eq!(detail.entry.stored.deploy.finished_at, Some(at(1)));
    assert_eq!(detail.entry.stored.deploy.reason, None);
    let states: Vec<State> = detail.entry.transitions.iter().map(|step| step.to).collect();
    let mut want = vec![State::Pending];
    want.extend(WAY.map(|(state, _)| state));
    assert_eq!(states, want);
    assert_eq!(detail.entry.transitions[1].actor, Actor::Controller);
}

#[tokio::test]
async fn steps_that_do_not_follow_each_other_are_refused() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let one = step(deploy, 1, State::Pending, State::Pulling, "Started");
    let none = Advance { steps: Vec::new(), ..one.clone() };
    let torn = Advance {
        steps: vec![
            transition(State::Pending, State::Pulling, "Started"),
            transition(State::Starting, State::ConfiguringProxy, "InstanceReady"),
        ],
        ..one
    };
    for advance in [none, torn] {
        let error = shop.deploy_advance(&advance).await.unwrap_err();
        assert_eq!(error.class(), Class::Other, "{error}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 1);
}

#[tokio::test]
async fn of_many_who_move_the_same_version_one_wins() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let advance = step(deploy, 1, State::Pending, State::Pulling, "Started");
    let answers = join_all((0..12).map(|_| shop.deploy_advance(&advance))).await;
    let won = answers.iter().filter(|answer| **answer == Ok(2)).count();
    assert_eq!(won, 1, "{answers:?}");
    for error in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 2);
}

#[tokio::test]
async fn a_write_on_another_state_or_version_changes_nothing() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let late = [
        step(deploy, 2, State::Pending, State::Pulling, "Started"),
        step(deploy, 1, State::Pulling, State::Starting, "ImagesPulled"),
    ];
    for advance in late {
        let advance = Advance {
            instances: vec![change("shop-10", InstanceStatus::Running, Some(deploy))],
            veto: Some(veto(90)),
            ..advance
        };
        let error = shop.deploy_advance(&advance).await.unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{error}");
    }
    let unknown = step(id(99), 1, State::Pending, State::Pulling, "Started");
    let error = shop.deploy_advance(&unknown).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
    for table in ["instances", "vetoes"] {
        let rows = shop.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 1);
}

#[tokio::test]
async fn a_deposed_leader_is_fenced() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let by_new_leader = Advance { epoch: EPOCH + 1, ..step(deploy, 1, State::Pending, State::Pulling, "Started") };
    assert_eq!(shop.deploy_advance(&by_new_leader).await, Ok(2));
    let late = step(deploy, 2, State::Pulling, State::Starting, "ImagesPulled");
    let Err(StoreError::Fenced(why)) = shop.deploy_advance(&late).await else { panic!("it is not fenced") };
    assert!(why.contains(&deploy.to_string()) && why.contains("leads no more"), "{why}");
    // Nor may it put another deploy behind one that the new leader has written.
    let next = shop.deploy_create(&new_deploy(stage, 2, 11)).await;
    assert!(matches!(next, Err(StoreError::Fenced(_))), "{next:?}");
    let next = NewDeploy { epoch: EPOCH + 1, ..new_deploy(stage, 2, 11) };
    assert_eq!(shop.deploy_create(&next).await, Ok(Creation::Created));
}

#[tokio::test]
async fn epochs_only_rise() {
    let shop = Shop::new().await;
    assert_eq!(shop.leader_epoch_claim("a", "pod-1", 0).await, Ok(1));
    assert_eq!(shop.leader_epoch_claim("a", "pod-1", 0).await, Ok(2));
    assert_eq!(shop.leader_epoch_claim("a", "pod-2", 40).await, Ok(40));
    assert_eq!(shop.leader_epoch_claim("b", "pod-2", 1).await, Ok(41));
    assert_eq!(shop.leader_epoch_claim("a", "pod-1", 40).await, Ok(42));
    let claims = (0..8).map(|_| shop.leader_epoch_claim("c", "pod-3", 0));
    let mut given: Vec<i64> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 8, "an epoch was given out twice: {given:?}");
}

#[tokio::test]
async fn one_deploy_of_a_stage_is_past_pending() {
    let shop = Shop::new().await;
    let (dev, live) = (shop.stage(2, "dev").await, shop.stage(3, "live").await);
    let first = shop.pending(&new_deploy(dev, 1, 10)).await;
    let second = shop.pending(&new_deploy(dev, 2, 11)).await;
    let elsewhere = shop.pending(&new_deploy(live, 1, 12)).await;
    let start = |deploy| step(deploy, 1, State::Pending, State::Pulling, "Started");
    assert_eq!(shop.deploy_advance(&start(first)).await, Ok(2));
    assert_eq!(shop.deploy_advance(&start(elsewhere)).await, Ok(2));
    for (version, (from, to)) in (2..).zip([
        (State::Pulling, State::Starting),
        (State::Starting, State::ConfiguringProxy),
        (State::ConfiguringProxy, State::HealthChecking),
        (State::HealthChecking, State::Failed),
    ]) {
        let error = shop.deploy_advance(&start(second)).await.unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{from}: {error}");
        let on = step(first, version, from, to, "Next");
        shop.deploy_advance(&on).await.unwrap();
    }
    assert_eq!(shop.deploy_advance(&start(second)).await, Ok(2));
}

#[tokio::test]
async fn a_lost_answer_is_found_by_reading_again() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let advance = step(deploy, 1, State::Pending, State::Pulling, "Started");
    // Committed, but the caller never heard of it and tries again.
    assert_eq!(shop.deploy_advance(&advance).await, Ok(2));
    let error = shop.deploy_advance(&advance).await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    let row = &seen.open[0].stored.deploy;
    assert_eq!((row.state, row.version), (State::Pulling, 2));
    let on = step(deploy, row.version, State::Pulling, State::Starting, "ImagesPulled");
    assert_eq!(shop.deploy_advance(&on).await, Ok(3));
    assert_eq!(shop.number("SELECT count(*) FROM deploy_transitions").await, 3);
}
