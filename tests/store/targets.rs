//! Projects, stages and what a starting leader reads.

use futures::future::join_all;
use stagekeeper::{
    domain::{deploy::State, share::Share},
    store::{Class, NewStage},
};

use crate::fixture::{Shop, WAY, id, new_deploy, release};

#[tokio::test]
async fn a_deleted_stage_that_comes_back_continues_its_history() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    shop.success(&new_deploy(stage, 1, 10)).await;
    for _ in 0..2 {
        shop.stage_soft_delete("acme", "dev").await.unwrap();
        assert_eq!(shop.targets_load(&Share::all()).await, Ok(Vec::new()));
        assert_eq!(shop.target_state_load(stage).await, Ok(None));
    }
    // The object is another one: new UID, and whoever records it proposes a new identity.
    assert_eq!(shop.stage(3, "dev").await, stage);
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.target.uid, "uid-3");
    assert_eq!(seen.latest.unwrap().deploy.sequence, 1);
    assert_eq!(shop.number("SELECT count(*) FROM targets").await, 1);
}

#[tokio::test]
async fn a_deleted_project_that_comes_back_is_the_same() {
    let shop = Shop::new().await;
    for _ in 0..2 {
        shop.project_soft_delete("acme", "shop").await.unwrap();
        assert_eq!(shop.project_get("acme", "shop").await, Ok(None));
    }
    let back = shop.project_upsert(id(9), "acme", "shop").await.unwrap();
    assert_eq!(back.id, shop.project);
    assert_eq!(shop.project_get("acme", "shop").await, Ok(Some(back)));
}

#[tokio::test]
async fn a_stage_that_moves_to_another_project_leaves_its_history_there() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    shop.success(&new_deploy(stage, 1, 10)).await;
    let other = shop.project_upsert(id(5), "acme", "blog").await.unwrap();
    let moved =
        NewStage { id: id(6), project_id: other.id, namespace: "acme".into(), name: "dev".into(), uid: "uid-2".into() };
    let moved = shop.stage_upsert(&moved).await.unwrap();
    assert_ne!(moved, stage);
    let targets = shop.targets_load(&Share::all()).await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].id, targets[0].project.as_str()), (moved, "blog"));
    let seen = shop.target_state_load(moved).await.unwrap().unwrap();
    assert_eq!(seen.latest, None);
    // And back again: the first life goes on.
    assert_eq!(shop.stage(7, "dev").await, stage);
    assert_eq!(shop.targets_load(&Share::all()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn many_who_record_the_same_stage_record_one() {
    let shop = Shop::new().await;
    let stages = join_all((20..28).map(|number| shop.stage(number, "dev"))).await;
    assert!(stages.iter().all(|stage| *stage == stages[0]), "{stages:?}");
    assert_eq!(shop.number("SELECT count(*) FROM targets").await, 1);
    let orphan =
        NewStage { id: id(30), project_id: id(99), namespace: "acme".into(), name: "live".into(), uid: "u".into() };
    let error = shop.stage_upsert(&orphan).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
}

#[tokio::test]
async fn a_starting_leader_reads_everything_about_every_stage() {
    let shop = Shop::new().await;
    let dev = shop.stage(2, "dev").await;
    let live = shop.stage(3, "live").await;
    let fresh = shop.stage(4, "fresh").await;
    shop.success(&new_deploy(dev, 1, 10)).await;
    let good = shop.success(&new_deploy(dev, 2, 11)).await;
    let failing = shop.pending(&new_deploy(dev, 3, 12)).await;
    shop.walk(failing, &[WAY[0], (State::Failed, "HookFailed")]).await;
    let waiting = shop.pending(&new_deploy(dev, 4, 13)).await;
    let only = shop.success(&new_deploy(live, 1, 14)).await;

    let states = shop.targets_state_load(&Share::all()).await.unwrap();
    let of = |target| states.iter().find(|state| state.target.id == target).unwrap();
    assert_eq!(states.len(), 3);
    let dev = of(dev);
    assert_eq!(dev.target.project, "shop");
    assert_eq!(dev.latest.as_ref().unwrap().deploy.id, waiting);
    let open: Vec<_> = dev.open.iter().map(|open| open.stored.deploy.id).collect();
    assert_eq!(open, [failing, waiting]);
    let back_to = dev.good.as_ref().unwrap();
    assert_eq!(back_to.stored.deploy.id, good);
    assert_eq!(back_to.stored.release, release("1.11.0"));
    let snapshot: serde_json::Value = serde_json::from_str(&back_to.snapshot).unwrap();
    assert_eq!(snapshot, new_deploy(live, 2, 11).snapshot);
    let live = of(live);
    assert_eq!(live.open, []);
    assert_eq!(live.latest.as_ref().unwrap().deploy.id, only);
    assert_eq!(live.good.as_ref().unwrap().stored, *live.latest.as_ref().unwrap());
    let fresh = of(fresh);
    assert_eq!((&fresh.latest, &fresh.good), (&None, &None));

    for state in &states {
        let one = shop.target_state_load(state.target.id).await.unwrap();
        assert_eq!(one.as_ref(), Some(state));
    }
    let here = ["acme".to_owned()];
    assert_eq!(shop.targets_state_load(&Share::of(Some(here.to_vec()))).await.unwrap(), states);
    let elsewhere = ["other".to_owned()];
    assert_eq!(shop.targets_state_load(&Share::of(Some(elsewhere.to_vec()))).await, Ok(Vec::new()));
}
