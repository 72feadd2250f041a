//! The update list and deploys: what one puts on it, what its success acknowledges, what a stage takes along.

use stagekeeper::{
    domain::{actor::Actor, deploy::State, release::Release, update::SeenUpdate},
    store::{Creation, NewDeploy, StoreError, Update, UpdateChoice::Matching, UpdateFilter},
};
use uuid::Uuid;

use crate::{
    fixture::{Shop, WAY, id, new_deploy, step},
    updates::{digest, nginx, shop_image},
};

fn pending(updates: &[Update]) -> Vec<(&str, bool)> {
    updates.iter().map(|update| (update.image.as_str(), update.is_pending())).collect()
}

/// Deploy `number` of `target` with this image for the web.
fn deploy_of(target: Uuid, sequence: i64, number: u32, version: &str, updates: Vec<SeenUpdate>) -> NewDeploy {
    let new = new_deploy(target, sequence, number);
    let Release(mut images) = new.release.clone();
    let image = images.get_mut("web").unwrap();
    (image.tag, image.digest) = (Some(version.into()), digest(version).to_string());
    NewDeploy { release: Release(images), updates, ..new }
}

#[tokio::test]
async fn a_deploy_puts_its_updates_on_the_list_and_its_success_acknowledges_them() {
    let shop = Shop::new().await;
    let dev = shop.stage(2, "dev").await;
    let new = deploy_of(dev, 1, 10, "2.0", vec![shop_image("dev", "2.0", 0)]);
    let deploy = shop.pending(&new).await;
    assert!(shop.the_update().await.is_pending());
    let other = [shop_image("live", "2.0", 0), nginx("1", 0)];
    shop.updates_see(&other).await.unwrap();
    // The same place again, and one that is not there: nothing is told.
    let late = deploy_of(dev, 1, 20, "3.0", vec![shop_image("dev", "3.0", 5)]);
    assert_eq!(shop.deploy_create(&late).await, Ok(Creation::Conflict));
    let lost = deploy_of(id(99), 1, 21, "3.0", vec![shop_image("dev", "3.0", 5)]);
    assert!(matches!(shop.deploy_create(&lost).await, Err(StoreError::NotFound { .. })));
    assert_eq!(shop.number("SELECT count(*) FROM image_updates").await, 3);
    shop.walk(deploy, &WAY[..4]).await;
    assert_eq!(shop.updates_pending_count().await, Ok(3), "on its way is not there");
    let last = step(deploy, 5, State::HealthChecking, State::Success, "TrafficSwitched");
    shop.deploy_advance(&last).await.unwrap();
    let here = shop.updates(UpdateFilter { host: Some("acme/dev".into()), ..UpdateFilter::default() }).await;
    let acknowledged = here[0].acknowledged.clone().unwrap();
    assert_eq!((acknowledged.digest, acknowledged.by), (digest("2.0"), Actor::Controller));
    assert_eq!(shop.updates_pending_count().await, Ok(2), "another stage and another host have it not");
}

#[tokio::test]
async fn a_success_acknowledges_what_it_brings_and_what_was_seen_before_and_nothing_newer() {
    let shop = Shop::new().await;
    let dev = shop.stage(2, "dev").await;
    // Before the stage named a platform.
    shop.see(shop_image("dev", "1.9", 0)).await;
    let arm = |new: &str, second| SeenUpdate { platform: "linux/arm64".into(), ..shop_image("dev", new, second) };
    let followed = SeenUpdate { image: "registry.test/acme/shop:2.0".into(), ..arm("2.0", 11) };
    let first = deploy_of(dev, 1, 10, "2.0", vec![arm("2.0", 10), followed]);
    shop.success(&first).await;
    assert_eq!(shop.updates_pending_count().await, Ok(0));
    // 2.1 failed and is held back, 2.0 is deployed with another configuration: 2.1 is still newer than what runs.
    let second = deploy_of(dev, 2, 11, "2.1", vec![arm("2.1", 20)]);
    let failed = shop.pending(&second).await;
    shop.deploy_advance(&step(failed, 1, State::Pending, State::Aborted, "Aborted")).await.unwrap();
    shop.success(&deploy_of(dev, 3, 12, "2.0", Vec::new())).await;
    let all = shop.updates(UpdateFilter::pending()).await;
    assert_eq!(pending(&all), [("registry.test/acme/shop", true)]);
    assert_eq!(all[0].new_digest, digest("2.1"));
    // Something newer is seen while it is deployed after all.
    let last = shop.pending(&deploy_of(dev, 4, 13, "2.1", Vec::new())).await;
    shop.see(arm("2.2", 30)).await;
    shop.walk(last, &WAY).await;
    let all = shop.updates(UpdateFilter::pending()).await;
    assert_eq!((all.len(), all[0].new_digest), (1, digest("2.2")));
}

#[tokio::test]
async fn a_stage_that_goes_takes_what_was_pending_for_it() {
    let shop = Shop::new().await;
    shop.stage(2, "dev").await;
    shop.stage(3, "live").await;
    let foreign = SeenUpdate { host: "acme/dev".into(), ..nginx("1", 0) };
    let known = SeenUpdate { platform: "linux/arm64".into(), ..shop_image("dev", "2.0", 0) };
    shop.updates_see(&[known]).await.unwrap();
    shop.ack(&Matching(UpdateFilter::pending()), 1).await.unwrap();
    shop.updates_see(&[foreign, shop_image("dev", "2.0", 0), shop_image("live", "2.0", 0)]).await.unwrap();
    shop.stage_soft_delete("acme", "dev").await.unwrap();
    let left: Vec<(String, String, bool)> = (shop.updates(UpdateFilter::default()).await.into_iter())
        .map(|update| (update.host.clone(), update.platform.clone(), update.is_pending()))
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&("acme/live".into(), String::new(), true)), "{left:?}");
    assert!(left.contains(&("acme/dev".into(), "linux/arm64".into(), false)), "what was done stays: {left:?}");
    assert!(left.contains(&("acme/dev".into(), "linux/amd64".into(), true)), "a sender's host is no stage: {left:?}");
    // The stage is back, and what is newer is seen again.
    shop.stage(2, "dev").await;
    assert_eq!(shop.see(shop_image("dev", "2.0", 5)).await, 1);
}
