//! Deploys whose rows were lost and that the cluster still serves.

use serde_json::json;
use stagekeeper::{
    domain::deploy::State,
    store::{Adopted, Creation, InstanceStatus},
};

use crate::fixture::{EPOCH, Shop, WAY, at, change, found, id, new_deploy, release, step, veto};

#[tokio::test]
async fn what_serves_is_written_down_once_with_everything_that_a_success_leaves() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "production").await;
    shop.success(&new_deploy(stage, 1, 11)).await;
    let lost = found(stage, 2, 12);
    assert_eq!(shop.deploy_adopt(&lost).await, Ok(Creation::Created));
    assert_eq!(shop.deploy_adopt(&lost).await, Ok(Creation::Created), "asked again after a lost answer");

    let state = shop.target_state_load(stage).await.unwrap().unwrap();
    let good = state.good.unwrap().stored;
    assert_eq!((good.deploy.id, good.deploy.state, good.deploy.finished_at), (lost.id, State::Success, Some(at(9))));
    assert_eq!((good.deploy.sequence, good.epoch, &good.release), (2, EPOCH, &release("1.12.0")));
    assert_eq!(good.deploy.snapshot, "snapshot-12");
    assert_eq!(state.latest.unwrap().deploy.id, lost.id);
    let instance = state.instances.iter().find(|instance| instance.name == "shop-12").unwrap();
    assert_eq!((instance.deploy, instance.status), (lost.id, InstanceStatus::Running));
    let hook = state.hooks.iter().find(|hook| hook.deploy == lost.id).unwrap();
    assert_eq!((hook.name.as_str(), hook.ok), ("backup", Some(true)), "it is not run again");

    let steps = shop.transitions_list(lost.id).await.unwrap();
    let [step] = &steps[..] else { panic!("one step expected: {steps:?}") };
    assert_eq!((step.from, step.to, step.reason.as_str()), (None, State::Success, "Adopted"));
    let audit = shop.audit_list(&format!("deploy/{}", lost.id), None, 10).await.unwrap();
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((audit[0].entry.action.as_str(), &audit[0].entry.details["sequence"]), ("deploy.adopt", &json!(2)));
    assert_eq!(shop.audit_verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn a_place_that_is_taken_is_read_again() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "production").await;
    shop.success(&new_deploy(stage, 1, 11)).await;
    assert_eq!(shop.deploy_adopt(&found(stage, 1, 12)).await, Ok(Creation::Conflict));
    assert_eq!(shop.deploy_adopt(&found(stage, 3, 12)).await, Ok(Creation::Conflict), "there is no second one");
    let older = Adopted { epoch: EPOCH - 1, ..found(stage, 2, 12) };
    assert_eq!(shop.deploy_adopt(&older).await, Ok(Creation::Conflict), "a newer leader wrote the one before");
    assert!(shop.deploy_adopt(&found(id(99), 1, 12)).await.is_err(), "no such target");
    assert_eq!(shop.number("SELECT count(*) FROM deploys").await, 1);
}

#[tokio::test]
async fn a_release_that_serves_is_not_vetoed_any_more() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "production").await;
    let bad = shop.pending(&new_deploy(stage, 1, 12)).await;
    let version = shop.walk(bad, &[WAY[0], (State::Failed, "PullDeadlineExceeded")]).await;
    let mut undone = step(bad, version, State::Failed, State::RolledBack, "LastGoodServing");
    undone.veto = Some(veto(50));
    undone.instances = vec![change("shop-12", InstanceStatus::Removed, Some(bad))];
    shop.deploy_advance(&undone).await.unwrap();
    let lost = Adopted { id: id(13), ..found(stage, 2, 12) };
    assert_eq!(shop.deploy_adopt(&lost).await, Ok(Creation::Created));
    let state = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(state.good.map(|good| good.stored.deploy.id), Some(lost.id));
    assert!(state.vetoes.is_empty(), "{:?}", state.vetoes);
    assert_eq!(state.instances.len(), 1);
}
