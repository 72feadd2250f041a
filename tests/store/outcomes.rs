//! How deploys end and what is remembered of it: reasons, vetoes, the recent past, retention.

use stagekeeper::{
    domain::{
        actor::Actor,
        deploy::{Phase, State},
    },
    store::{Advance, Class, InstanceStatus, NewDeploy, Provenance},
};
use uuid::Uuid;

use crate::fixture::{EPOCH, Shop, WAY, at, change, id, new_deploy, release, step, veto};

fn rolls_back(bad: Uuid) -> Provenance {
    Provenance { rollback_of: Some(bad), ..Provenance::default() }
}

#[tokio::test]
async fn a_failure_keeps_its_reason_through_the_rollback() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let way = [WAY[0], (State::Failed, "PullDeadlineExceeded")];
    let version = shop.walk(deploy, &way).await;
    assert_eq!(version, 3);
    let version = shop.deploy_evidence_done(deploy, version, EPOCH, at(5)).await;
    assert_eq!(version, Ok(4));
    let back = Advance {
        at: at(6),
        veto: Some(veto(90)),
        ..step(deploy, 4, State::Failed, State::RolledBack, "LastGoodServing")
    };
    assert_eq!(shop.deploy_advance(&back).await, Ok(5));
    let stored = shop.deploy_get(deploy).await.unwrap().unwrap().entry.stored;
    let row = stored.deploy;
    assert_eq!(row.state, State::RolledBack);
    assert_eq!(row.reason.as_deref(), Some("PullDeadlineExceeded"));
    assert_eq!(row.message.as_deref(), Some("pulling to failed"));
    assert_eq!(row.evidence_at, Some(at(5)));
    assert_eq!((row.since, row.finished_at), (at(6), Some(at(6))));
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.vetoes.len(), 1);
    assert_eq!(seen.vetoes[0].release, row.release);
}

#[tokio::test]
async fn a_failure_that_is_not_rolled_back_is_closed() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let early = shop.deploy_close(deploy, 1, EPOCH, "no", at(2)).await;
    assert_eq!(early.unwrap_err().class(), Class::Conflict, "it has not failed");
    let version = shop.walk(deploy, &[WAY[0], (State::Failed, "HookFailed")]).await;
    let open = shop.target_state_load(stage).await.unwrap().unwrap().open;
    assert_eq!(open.len(), 1, "a failed deploy stays open until it is closed");
    let why = "rollback.onFailure is off";
    let closed = shop.deploy_close(deploy, version, EPOCH, why, at(9)).await;
    assert_eq!(closed, Ok(version + 1));
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.open, []);
    let row = seen.latest.unwrap().deploy;
    assert_eq!((row.state, row.finished_at), (State::Failed, Some(at(9))));
    assert_eq!(row.since, at(2), "closing is no step");
    let message = "pulling to failed; rollback.onFailure is off";
    assert_eq!(row.message.as_deref(), Some(message));
    let again = shop.deploy_close(deploy, version + 1, EPOCH, "no", at(10)).await;
    assert_eq!(again.unwrap_err().class(), Class::Conflict);
}

#[tokio::test]
async fn a_failure_and_its_end_can_be_one_write() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let version = shop.walk(deploy, &WAY[..1]).await;
    let advance = Advance {
        close: Some("no earlier release".into()),
        evidence: true,
        ..step(deploy, version, State::Pulling, State::Failed, "HookFailed")
    };
    shop.deploy_advance(&advance).await.unwrap();
    let row = shop.target_state_load(stage).await.unwrap().unwrap().latest;
    let row = row.unwrap().deploy;
    assert_eq!(row.finished_at, Some(at(1)));
    assert_eq!(row.evidence_at, Some(at(1)));
    let message = "pulling to failed; no earlier release";
    assert_eq!(row.message.as_deref(), Some(message));
}

#[tokio::test]
async fn a_veto_holds_until_somebody_asks() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let good = shop.success(&new_deploy(stage, 1, 10)).await;
    let bad = shop.success(&new_deploy(stage, 2, 11)).await;
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.good.unwrap().stored.deploy.id, bad);
    let before = shop.deploy_good_before(stage, 2).await.unwrap().unwrap();
    assert_eq!(before.stored.deploy.id, good);

    // It went bad after its success: the deploy that goes back vetoes it.
    let back = NewDeploy {
        provenance: rolls_back(bad),
        veto: Some(veto(90)),
        release: release("1.10.0"),
        ..new_deploy(stage, 3, 12)
    };
    shop.pending(&back).await;
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.good.unwrap().stored.deploy.id, good);
    let [held] = &seen.vetoes[..] else { panic!("{:?}", seen.vetoes) };
    assert_eq!((held.deploy, held.id), (Some(bad), id(90)));
    assert_eq!(held.release, release("1.11.0").id());

    // A newer release leaves it, an explicit request for the same one lifts it.
    shop.pending(&new_deploy(stage, 4, 13)).await;
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.vetoes.len(), 1);
    let asked = NewDeploy {
        release: release("1.11.0"),
        request: Some("pin@4".into()),
        actor: Actor::User("jane".into()),
        ..new_deploy(stage, 5, 14)
    };
    shop.pending(&asked).await;
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.vetoes, []);
    let lifted = "SELECT count(*) FROM vetoes WHERE lifted_by = 'user:jane'";
    assert_eq!(shop.number(lifted).await, 1);
    let asked = release("1.11.0").id();
    let lifted = shop.veto_lift(stage, &asked, &Actor::Policy, at(9)).await;
    assert_eq!(lifted, Ok(false));
}

#[tokio::test]
async fn old_deploys_go_when_nothing_needs_them() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    for (sequence, number) in (1..).zip(10..14) {
        shop.success(&new_deploy(stage, sequence, number)).await;
    }
    // The first still runs; the last is vetoed, so the one before it is what a rollback goes back to.
    let runs = [change("blue", InstanceStatus::Running, Some(id(10)))];
    shop.instances_change(stage, &runs, at(1)).await.unwrap();
    let vetoing = NewDeploy { provenance: rolls_back(id(13)), veto: Some(veto(90)), ..new_deploy(stage, 5, 14) };
    shop.pending(&vetoing).await;
    assert_eq!(shop.deploys_prune(at(0), 100).await, Ok(0), "none is older");
    assert_eq!(shop.deploys_prune(at(1), 100).await, Ok(1));
    let mut left: Vec<i64> =
        sqlx::query_scalar("SELECT sequence FROM deploys ORDER BY sequence").fetch_all(&shop.sql).await.unwrap();
    assert_eq!(left, [1, 3, 4, 5]);
    assert_eq!(shop.number("SELECT count(*) FROM releases").await, 4);
    assert_eq!(shop.number("SELECT count(*) FROM snapshots").await, 4);

    // Once it is removed, the first goes too; its release stays while another deploy has it.
    let removed = [change("blue", InstanceStatus::Removed, None)];
    shop.instances_change(stage, &removed, at(2)).await.unwrap();
    let live = shop.stage(3, "live").await;
    let same = NewDeploy { now: at(50), id: id(20), ..new_deploy(live, 1, 10) };
    shop.pending(&same).await;
    assert_eq!(shop.deploys_prune(at(1), 100).await, Ok(1));
    left.remove(0);
    assert_eq!(left, [3, 4, 5]);
    assert_eq!(shop.number("SELECT count(*) FROM releases").await, 4);
    assert_eq!(shop.number("SELECT count(*) FROM deploys").await, 4);
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.good.unwrap().stored.deploy.id, id(12));
}

#[tokio::test]
async fn a_target_is_read_with_its_recent_past() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let good = shop.success(&new_deploy(stage, 1, 10)).await;
    for (sequence, number) in (2..).zip(11..18) {
        let deploy = shop.pending(&new_deploy(stage, sequence, number)).await;
        shop.walk(deploy, &[(State::Aborted, "Aborted")]).await;
    }
    let back = NewDeploy { provenance: rolls_back(id(11)), ..new_deploy(stage, 9, 18) };
    shop.pending(&back).await;
    shop.hook_begin(good, Phase::AfterSuccess, "tell", at(1)).await.unwrap();
    shop.hook_begin(back.id, Phase::BeforeStart, "migrate", at(1)).await.unwrap();
    shop.hook_begin(id(17), Phase::BeforeStart, "migrate", at(1)).await.unwrap();
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    let finished: Vec<i64> = seen.finished.iter().map(|stored| stored.deploy.sequence).collect();
    assert_eq!(finished, [8, 7, 6, 5, 4]);
    assert_eq!(seen.undone.unwrap().deploy.id, id(11));
    assert_eq!(seen.good.unwrap().stored.deploy.id, good);
    assert_eq!(seen.latest.unwrap().deploy.id, back.id);
    assert_eq!(seen.open.len(), 1);
    assert_eq!(seen.open[0].snapshot.parse::<serde_json::Value>().unwrap(), back.snapshot);
    let hooks: Vec<_> = seen.hooks.iter().map(|hook| hook.deploy).collect();
    assert_eq!(hooks, [back.id, good]);
}
