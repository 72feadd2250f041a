//! Several stages as one: they begin together or not at all, and go back together where that was asked for.

use stagekeeper::{
    domain::{
        actor::Actor,
        clock::{Clock as _, Ids as _, SystemClock, SystemIds},
        deploy::State,
        group::{OnFailure, Phase, phase},
        request::{Action, Destination, Origin, RequestState, Via},
    },
    store::{NewGroup, StoredGroup},
};
use uuid::Uuid;

use crate::{
    cluster::{DEADLINE, Env},
    lab::{self, IMPATIENT, ends, project, stage},
    operator::Operator,
};

impl Env {
    /// Asks the same of several stages as one.
    async fn ask_all(&self, stages: &[&str], action: Action, on_failure: OnFailure) -> Uuid {
        let new = NewGroup {
            id: SystemIds.next(),
            namespace: self.namespace.clone(),
            action,
            on_failure,
            actor: Actor::User("jane".into()),
            groups: Vec::new(),
            reason: "the test asks".into(),
            origin: Origin { via: Via::Api, verified: true, source: None, request_id: None },
            stages: stages.iter().map(|stage| ((*stage).to_owned(), SystemIds.next())).collect(),
            at: SystemClock.now(),
        };
        self.database.store.group_create(&new).await.unwrap();
        new.id
    }

    /// How many hold the stage.
    async fn held(&self, stage: &str) -> usize {
        let target = self.deploys(stage).await[0].stored.deploy.target;
        self.database.store.holds_list(target).await.unwrap().len()
    }

    async fn group(&self, id: Uuid) -> StoredGroup {
        self.database.store.group_get(id).await.unwrap().expect("the group")
    }

    /// Waits until the group is as `wanted`.
    async fn until_group(&self, id: Uuid, what: &str, wanted: impl Fn(&Phase) -> bool) -> StoredGroup {
        self.wait(what, DEADLINE, async || {
            let group = self.group(id).await;
            wanted(&phase(&group.members, group.started_at.is_some())).then_some(group)
        })
        .await
    }
}

fn promote() -> Action {
    Action::Promote { release: None, from: None, emergency: false }
}

fn back() -> Action {
    Action::Rollback { to: Destination::Previous }
}

/// dev, and behind it `eu` and `us`, of which `us` wants somebody to agree.
async fn regions(name: &str) -> (Env, Operator) {
    let env = Env::new(name).await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let eu = format!("{IMPATIENT}\n  promotion: {{from: [dev]}}");
    let us = format!("{eu}\n").replace("{from: [dev]}", "{from: [dev], approvals: {required: 1}}");
    env.apply(
        &(project("shop", "web")
            + &stage("dev", "shop", IMPATIENT)
            + &stage("eu", "shop", &eu)
            + &stage("us", "shop", &us)),
    )
    .await;
    env.until_serving("dev", "web 1.0.0").await;
    (env, operator)
}

async fn agree(env: &Env) {
    let agreed = env.ask_as("ada", &[], "us", Action::Approve { release: None }).await;
    assert_eq!(agreed.state, RequestState::Done, "{:?}", agreed.message);
}

/// Promoted together: the one that could begin waits for the other, across a restart of the operator; both leave pending
/// in one transaction. Rolled back together.
#[tokio::test]
async fn stages_of_a_group_begin_together() {
    let (env, operator) = regions("together").await;
    let group = env.ask_all(&["us", "eu"], promote(), OnFailure::Keep).await;
    let says = |status: &stagekeeper::api::StageStatus| {
        let gate = status.gates.iter().find(|gate| gate.name == "group");
        gate.and_then(|gate| gate.message.clone()).unwrap_or_default()
    };
    let waits = |status: &stagekeeper::api::StageStatus| {
        lab::waiting(status) == "GroupWaits" && says(status).contains("us: approved by nobody: 0 of 1")
    };
    env.until("eu", "it waits for us", waits).await;
    env.until("us", "it waits for somebody", |status| lab::waiting(status) == "ApprovalNeeded").await;
    operator.stop().await;
    let operator = Operator::start(&env).await;
    agree(&env).await;
    env.until_serving("eu", "web 1.0.0").await;
    env.until_serving("us", "web 1.0.0").await;
    let done = env.until_group(group, "all of it is done", |phase| *phase == Phase::Over).await;
    let (eu, us) = (env.deploys("eu").await, env.deploys("us").await);
    for deploys in [&eu, &us] {
        let steps = env.transitions(deploys[0].stored.deploy.id).await;
        let left = steps.iter().find(|step| step.to == State::Pulling).map(|step| step.at);
        assert_eq!(left, done.started_at, "at one instant");
    }
    assert_eq!((eu[0].stored.group, us[0].stored.group), (Some(group), Some(group)));

    env.push("web", "1.1.0", &[]).await;
    env.until_serving("dev", "web 1.1.0").await;
    let group = env.ask_all(&["us", "eu"], promote(), OnFailure::Keep).await;
    env.until("us", "it waits for somebody", |status| lab::waiting(status) == "ApprovalNeeded").await;
    agree(&env).await;
    env.until_group(group, "1.1.0 is everywhere", |phase| *phase == Phase::Over).await;
    let group = env.ask_all(&["us", "eu"], back(), OnFailure::Keep).await;
    env.until_group(group, "1.0.0 is everywhere", |phase| *phase == Phase::Over).await;
    for name in ["eu", "us"] {
        assert_eq!(ends(&env.deploys(name).await), ["web 1.0.0 success", "web 1.1.0 success", "web 1.0.0 success"]);
        assert_eq!(env.held(name).await, 1, "{name}");
    }
    operator.stop().await;
}

/// What cannot be done on one stage is not done on the others: nothing is held, and everybody is told the same reason.
#[tokio::test]
async fn a_group_that_cannot_begin_leaves_everything_as_it_was() {
    let (env, operator) = regions("broken").await;
    env.done("jane", "eu", promote()).await;
    env.until_serving("eu", "web 1.0.0").await;
    env.push("web", "1.1.0", &[]).await;
    env.until_serving("dev", "web 1.1.0").await;
    env.done("jane", "eu", promote()).await;
    env.until_serving("eu", "web 1.1.0").await;
    // `us` has nothing to go back to.
    let group = env.ask_all(&["eu", "us"], back(), OnFailure::Keep).await;
    let broken = |phase: &Phase| matches!(phase, Phase::Broken(why) if why.contains("us: nothing serves yet"));
    env.until_group(group, "us cannot go back", broken).await;
    env.wait("eu is told", DEADLINE, async || {
        let group = env.group(group).await;
        let eu = &group.members[0];
        let stopped = eu.deploy.as_ref().is_some_and(|deploy| deploy.state == State::Aborted);
        (stopped || eu.request == RequestState::Refused).then_some(())
    })
    .await;
    env.until_serving("eu", "web 1.1.0").await;
    assert_eq!(env.held("eu").await, 0, "nothing was gone back to");

    // One of them is stopped by hand while they wait: so are all.
    env.push("web", "1.2.0", &[]).await;
    env.until_serving("dev", "web 1.2.0").await;
    let group = env.ask_all(&["eu", "us"], promote(), OnFailure::Keep).await;
    env.until("eu", "it waits for us", |status| lab::waiting(status) == "GroupWaits").await;
    env.done("joe", "us", Action::Abort { deploy: None }).await;
    env.until_group(group, "it is over", |phase| matches!(phase, Phase::Broken(why) if why.contains("us is aborted")))
        .await;
    env.wait("eu is stopped too", DEADLINE, async || {
        let deploys = env.deploys("eu").await;
        let last = &deploys.last()?.stored.deploy;
        let told =
            last.message.as_deref().is_some_and(|message| message.contains("its group cannot begin: us is aborted"));
        (last.state == State::Aborted && told).then_some(())
    })
    .await;
    operator.stop().await;
}

/// One fails: where `onFailure` is `rollback` the others go back, also those that had succeeded, and the release does not
/// come again by itself.
#[tokio::test]
async fn a_group_goes_back_together() {
    let env = Env::new("undone").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let eu = format!("{IMPATIENT}\n  promotion: {{from: [dev]}}");
    let us = format!("{eu}\n  services: {{web: {{env: [{{name: APP_HEALTH, value: fail}}]}}}}");
    let stages = stage("dev", "shop", IMPATIENT) + &stage("eu", "shop", &eu) + &stage("us", "shop", &us);
    env.apply(&(project("shop", "web") + &stages)).await;
    env.until_serving("dev", "web 1.0.0").await;
    env.done("jane", "eu", promote()).await;
    env.until_serving("eu", "web 1.0.0").await;
    env.push("web", "1.1.0", &[]).await;
    env.until_serving("dev", "web 1.1.0").await;

    let group = env.ask_all(&["eu", "us"], promote(), OnFailure::Rollback).await;
    env.until_group(group, "us fails", |phase| matches!(phase, Phase::Failed(_))).await;
    env.wait("eu is back", DEADLINE, async || {
        let deploys = env.deploys("eu").await;
        let last = &deploys.last()?.stored.deploy;
        let back = last.cause.contains(&format!("group {group} did not succeed: us is ")) && last.rollback_of.is_some();
        (back && lab::is_at_rest(&deploys)).then_some(())
    })
    .await;
    env.until_serving("eu", "web 1.0.0").await;
    let deploys = env.deploys("eu").await;
    assert_eq!(ends(&deploys), ["web 1.0.0 success", "web 1.1.0 success", "web 1.0.0 success"]);
    assert_eq!(deploys[2].stored.deploy.actor, Actor::Policy);
    let left = Action::Unveto { release: deploys[1].stored.deploy.release.0.clone() };
    env.done("jane", "eu", left).await;
    operator.stop().await;
}
