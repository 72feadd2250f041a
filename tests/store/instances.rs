//! What deploys work with: instances and hooks, written only when something changed.

use futures::future::join_all;
use stagekeeper::{
    domain::deploy::{Phase, State},
    store::{Advance, HookStart, InstanceStatus},
};

use crate::fixture::{Shop, at, change, id, new_deploy, release, step};

#[tokio::test]
async fn instances_follow_the_steps() {
    use InstanceStatus::{Failed, Removed, Removing, Running, Stopped};
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let start = Advance {
        instances: vec![change("blue", Running, Some(deploy))],
        ..step(deploy, 1, State::Pending, State::Pulling, "Started")
    };
    shop.deploy_advance(&start).await.unwrap();
    let fail = Advance {
        instances: vec![change("blue", Failed, None), change("nobody", Failed, None)],
        ..step(deploy, 2, State::Pulling, State::Failed, "HookFailed")
    };
    shop.deploy_advance(&fail).await.unwrap();
    let list = shop.instances_list(stage).await.unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((list[0].status, list[0].deploy), (Failed, deploy));
    assert_eq!(list[0].release, release("1.10.0").id());
    assert_eq!(list[0].snapshot, "snapshot-10");

    for status in [Stopped, Removing, Running] {
        let only = [change("blue", status, None)];
        shop.instances_change(stage, &only, at(3)).await.unwrap();
        let list = shop.instances_list(stage).await.unwrap();
        assert_eq!(list[0].status, status);
    }
    let gone = [change("blue", Removed, None)];
    for _ in 0..2 {
        shop.instances_change(stage, &gone, at(4)).await.unwrap();
        assert_eq!(shop.instances_list(stage).await, Ok(Vec::new()));
    }
    // Its status alone does not bring it back; a deploy does.
    let back = [change("blue", Running, None)];
    shop.instances_change(stage, &back, at(5)).await.unwrap();
    assert_eq!(shop.instances_list(stage).await, Ok(Vec::new()));
    let second = shop.pending(&new_deploy(stage, 2, 11)).await;
    let back = [change("blue", Running, Some(second))];
    shop.instances_change(stage, &back, at(6)).await.unwrap();
    let list = shop.instances_list(stage).await.unwrap();
    assert_eq!((list[0].status, list[0].deploy), (Running, second));
}

#[tokio::test]
async fn what_is_so_already_is_not_written() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let change = [change("blue", InstanceStatus::Running, Some(deploy))];
    shop.instances_change(stage, &change, at(1)).await.unwrap();
    let settings = shop.settings_get().await.unwrap();
    let writes = "SELECT pg_current_xact_id()::text::bigint";
    let before = shop.number(writes).await;
    shop.instances_change(stage, &change, at(2)).await.unwrap();
    shop.settings_put(settings).await.unwrap();
    assert_eq!(shop.stage(2, "dev").await, stage);
    let again = shop.project_upsert(id(77), "acme", "shop").await.unwrap();
    assert_eq!(again.id, shop.project);
    shop.partitions_ensure(at(0), 0).await.unwrap();
    let made = shop.partitions_ensure(at(0), 0).await.unwrap();
    assert_eq!(made, 0);
    let versions = "SELECT count(*) FROM instances WHERE xmin::text::bigint > ";
    assert_eq!(shop.number(&format!("{versions}{before}")).await, 0);
    for table in ["stages", "projects", "settings"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE xmin::text::bigint > {before}");
        assert_eq!(shop.number(&sql).await, 0, "{table} was written");
    }
}

#[tokio::test]
async fn a_hook_begins_once_and_its_first_end_counts() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let begin = || shop.hook_begin(deploy, Phase::BeforeStart, "migrate", at(1));
    let starts = join_all((0..8).map(|_| begin())).await;
    let started = starts.iter().filter(|start| **start == Ok(HookStart::Started));
    assert_eq!(started.count(), 1, "{starts:?}");
    assert_eq!(begin().await, Ok(HookStart::AlreadyRunning));
    let finish = |ok| shop.hook_finish(deploy, Phase::BeforeStart, "migrate", ok, "exit 0\0", at(2));
    assert_eq!(finish(true).await, Ok(true));
    assert_eq!(finish(false).await, Ok(false), "the first report counts");
    assert_eq!(begin().await, Ok(HookStart::Finished { ok: true }));
    let runs = shop.hooks_list(deploy).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].message.as_deref(), Some("exit 0\u{fffd}"));
    assert_eq!(runs[0].finished_at, Some(at(2)));
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.hooks, runs);
}
