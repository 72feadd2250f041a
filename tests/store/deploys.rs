//! Deploys: made once, moved by compare-and-set, fenced by epoch.

use futures::future::join_all;
use stagekeeper::{
    domain::{
        actor::Actor,
        deploy::{Phase, State},
    },
    store::{
        Advance, Class, Creation, HookStart, InstanceChange, InstanceStatus, NewDeploy, NewVeto,
        StoreError,
    },
};

use crate::fixture::{EPOCH, Shop, WAY, at, id, new_deploy, release, step, transition};

#[tokio::test]
async fn a_deploy_is_stored_with_all_that_belongs_to_it() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let new = NewDeploy {
        request: Some("retry-1".into()),
        actor: Actor::User("jane".into()),
        ..new_deploy(stage, 1, 10)
    };
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
    let audit = shop
        .audit_list(&format!("deploy/{}", new.id), None, 10)
        .await;
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
    assert_eq!(
        shop.number("SELECT count(*) FROM deploy_transitions").await,
        1
    );
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 1);
    // Once it has moved on, asking again says: look.
    shop.walk(new.id, &WAY[..1]).await;
    assert_eq!(shop.deploy_create(&new).await, Ok(Creation::Conflict));
}

#[tokio::test]
async fn of_many_who_ask_for_the_same_place_one_gets_it() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let asked: Vec<NewDeploy> = (10..26)
        .map(|number| new_deploy(stage, 1, number))
        .collect();
    let answers = join_all(asked.iter().map(|new| shop.deploy_create(new))).await;
    let created = answers
        .iter()
        .filter(|answer| **answer == Ok(Creation::Created));
    assert_eq!(created.count(), 1, "{answers:?}");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(shop.number("SELECT count(*) FROM deploys").await, 1);
    assert_eq!(
        shop.number("SELECT count(*) FROM deploy_transitions").await,
        1
    );
    assert_eq!(shop.number("SELECT count(*) FROM audit_log").await, 1);
}

#[tokio::test]
async fn places_have_no_gaps() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let conflict = Ok(Creation::Conflict);
    assert_eq!(
        shop.deploy_create(&new_deploy(stage, 2, 10)).await,
        conflict
    );
    shop.pending(&new_deploy(stage, 1, 11)).await;
    assert_eq!(
        shop.deploy_create(&new_deploy(stage, 3, 12)).await,
        conflict
    );
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
    let advance = Advance {
        steps,
        ..step(deploy, 1, State::Pending, State::Pulling, "Started")
    };
    assert_eq!(shop.deploy_advance(&advance).await, Ok(2));
    let detail = shop.deploy_get(deploy).await.unwrap().unwrap();
    assert_eq!(detail.entry.stored.deploy.state, State::Success);
    assert_eq!(detail.entry.stored.deploy.since, at(1));
    assert_eq!(detail.entry.stored.deploy.finished_at, Some(at(1)));
    assert_eq!(detail.entry.stored.deploy.reason, None);
    let states: Vec<State> = detail
        .entry
        .transitions
        .iter()
        .map(|step| step.to)
        .collect();
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
    let none = Advance {
        steps: Vec::new(),
        ..one.clone()
    };
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
    assert_eq!(
        shop.number("SELECT count(*) FROM deploy_transitions").await,
        1
    );
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
    assert_eq!(
        shop.number("SELECT count(*) FROM deploy_transitions").await,
        2
    );
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
    assert_eq!(
        shop.number("SELECT count(*) FROM deploy_transitions").await,
        1
    );
}

#[tokio::test]
async fn a_deposed_leader_is_fenced() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let by_new_leader = Advance {
        epoch: EPOCH + 1,
        ..step(deploy, 1, State::Pending, State::Pulling, "Started")
    };
    assert_eq!(shop.deploy_advance(&by_new_leader).await, Ok(2));
    let fenced = StoreError::Fenced {
        id: deploy,
        mine: EPOCH,
        theirs: EPOCH + 1,
    };
    let late = step(deploy, 2, State::Pulling, State::Starting, "ImagesPulled");
    assert_eq!(shop.deploy_advance(&late).await, Err(fenced.clone()));
    assert_eq!(fenced.class(), Class::Conflict);
    // Nor may it put another deploy behind one that the new leader has written.
    let next = shop.deploy_create(&new_deploy(stage, 2, 11)).await;
    assert!(matches!(next, Err(StoreError::Fenced { .. })), "{next:?}");
    let next = NewDeploy {
        epoch: EPOCH + 1,
        ..new_deploy(stage, 2, 11)
    };
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
    let mut given: Vec<i64> = join_all(claims)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
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
async fn a_failure_keeps_its_reason_through_the_rollback() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let way = [WAY[0], (State::Failed, "PullDeadlineExceeded")];
    let version = shop.walk(deploy, &way).await;
    assert_eq!(version, 3);
    let version = shop
        .deploy_evidence_done(deploy, version, EPOCH, at(5))
        .await;
    assert_eq!(version, Ok(4));
    let back = Advance {
        at: at(6),
        veto: Some(veto(90)),
        ..step(
            deploy,
            4,
            State::Failed,
            State::RolledBack,
            "LastGoodServing",
        )
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
    assert_eq!(
        early.unwrap_err().class(),
        Class::Conflict,
        "it has not failed"
    );
    let version = shop
        .walk(deploy, &[WAY[0], (State::Failed, "HookFailed")])
        .await;
    let open = shop.target_state_load(stage).await.unwrap().unwrap().open;
    assert_eq!(
        open.len(),
        1,
        "a failed deploy stays open until it is closed"
    );
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
    let again = shop
        .deploy_close(deploy, version + 1, EPOCH, "no", at(10))
        .await;
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

fn change(name: &str, status: InstanceStatus, deploy: Option<uuid::Uuid>) -> InstanceChange {
    InstanceChange {
        name: name.into(),
        status,
        deploy,
    }
}

fn veto(number: u32) -> NewVeto {
    NewVeto {
        id: id(number),
        reason: "its health check failed".into(),
    }
}

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
        rollback_of: Some(bad),
        veto: Some(veto(90)),
        release: release("1.10.0"),
        ..new_deploy(stage, 3, 12)
    };
    shop.pending(&back).await;
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    assert_eq!(seen.good.unwrap().stored.deploy.id, good);
    let [held] = &seen.vetoes[..] else {
        panic!("{:?}", seen.vetoes)
    };
    assert_eq!((held.deploy, held.id), (bad, id(90)));
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
async fn a_hook_begins_once_and_its_first_end_counts() {
    let shop = Shop::new().await;
    let stage = shop.stage(2, "dev").await;
    let deploy = shop.pending(&new_deploy(stage, 1, 10)).await;
    let begin = || shop.hook_begin(deploy, Phase::BeforeStart, "migrate", at(1));
    let starts = join_all((0..8).map(|_| begin())).await;
    let started = starts
        .iter()
        .filter(|start| **start == Ok(HookStart::Started));
    assert_eq!(started.count(), 1, "{starts:?}");
    assert_eq!(begin().await, Ok(HookStart::AlreadyRunning));
    let finish =
        |ok| shop.hook_finish(deploy, Phase::BeforeStart, "migrate", ok, "exit 0\0", at(2));
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
    let on = step(
        deploy,
        row.version,
        State::Pulling,
        State::Starting,
        "ImagesPulled",
    );
    assert_eq!(shop.deploy_advance(&on).await, Ok(3));
    assert_eq!(
        shop.number("SELECT count(*) FROM deploy_transitions").await,
        3
    );
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
    let vetoing = NewDeploy {
        rollback_of: Some(id(13)),
        veto: Some(veto(90)),
        ..new_deploy(stage, 5, 14)
    };
    shop.pending(&vetoing).await;
    assert_eq!(shop.deploys_prune(at(0), 100).await, Ok(0), "none is older");
    assert_eq!(shop.deploys_prune(at(1), 100).await, Ok(1));
    let mut left: Vec<i64> = sqlx::query_scalar("SELECT sequence FROM deploys ORDER BY sequence")
        .fetch_all(&shop.sql)
        .await
        .unwrap();
    assert_eq!(left, [1, 3, 4, 5]);
    assert_eq!(shop.number("SELECT count(*) FROM releases").await, 4);
    assert_eq!(shop.number("SELECT count(*) FROM snapshots").await, 4);

    // Once it is removed, the first goes too; its release stays while another deploy has it.
    let removed = [change("blue", InstanceStatus::Removed, None)];
    shop.instances_change(stage, &removed, at(2)).await.unwrap();
    let live = shop.stage(3, "live").await;
    let same = NewDeploy {
        now: at(50),
        id: id(20),
        ..new_deploy(live, 1, 10)
    };
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
    let back = NewDeploy {
        rollback_of: Some(id(11)),
        ..new_deploy(stage, 9, 18)
    };
    shop.pending(&back).await;
    shop.hook_begin(good, Phase::AfterSuccess, "tell", at(1))
        .await
        .unwrap();
    shop.hook_begin(back.id, Phase::BeforeStart, "migrate", at(1))
        .await
        .unwrap();
    shop.hook_begin(id(17), Phase::BeforeStart, "migrate", at(1))
        .await
        .unwrap();
    let seen = shop.target_state_load(stage).await.unwrap().unwrap();
    let finished: Vec<i64> = seen
        .finished
        .iter()
        .map(|stored| stored.deploy.sequence)
        .collect();
    assert_eq!(finished, [8, 7, 6, 5, 4]);
    assert_eq!(seen.undone.unwrap().deploy.id, id(11));
    assert_eq!(seen.good.unwrap().stored.deploy.id, good);
    assert_eq!(seen.latest.unwrap().deploy.id, back.id);
    assert_eq!(seen.open.len(), 1);
    assert_eq!(
        seen.open[0].snapshot.parse::<serde_json::Value>().unwrap(),
        back.snapshot
    );
    let hooks: Vec<_> = seen.hooks.iter().map(|hook| hook.deploy).collect();
    assert_eq!(hooks, [back.id, good]);
}
