//! From stage to stage: what was proven in one comes to the next, by itself or when people agree, and never by a tag.

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::DeleteParams};
use stagekeeper::{
    api::labels,
    domain::{
        actor::Actor,
        deploy::State,
        request::{Action, Destination, RequestState},
    },
    store::HistoryEntry,
};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{self, IMPATIENT, ends, holds, project, stage},
    operator::Operator,
    quiet,
};

fn gate<'s>(status: &'s stagekeeper::api::StageStatus, name: &str) -> (&'s str, &'s str) {
    let gate = status.gates.iter().find(|gate| gate.name == name);
    gate.map(|gate| (gate.verdict.as_str(), gate.message.as_deref().unwrap_or_default())).unwrap_or_default()
}

async fn newest(env: &Env, stage: &str) -> HistoryEntry {
    env.deploys(stage).await.pop().expect("a deploy")
}

fn promote() -> Action {
    Action::Promote { release: None, from: None, emergency: false }
}

/// dev → staging (by itself, after a soak) → production (two approvals in a window). A bad release is stopped in staging;
/// production goes back by id to what is long gone; the audit log tells all of it.
#[tokio::test]
async fn a_release_goes_from_stage_to_stage() {
    let env = Env::new("promote").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let staging = format!("{IMPATIENT}\n  promotion: {{from: [dev], auto: true, soak: 3s}}");
    let production = format!(
        "{IMPATIENT}\n  rollback: {{keepPrevious: 0s}}\n  promotion:\n    from: [staging]\n    approvals: {{required: 2, \
         groups: [release]}}\n    windows: [{{action: allow, schedule: '* * * * *', duration: 5m}}]"
    );
    // The last first: the order in which manifests are applied does not matter.
    let stages = stage("production", "shop", &production) + &stage("staging", "shop", &staging);
    env.apply(&(stages + &project("shop", "web") + &stage("dev", "shop", IMPATIENT))).await;

    let proven = env.until_serving("dev", "web 1.0.0").await;
    let staged = env.until_serving("staging", "web 1.0.0").await;
    assert_eq!(staged.release, proven.release, "what moves is the release");
    let (here, before) = (newest(&env, "staging").await, newest(&env, "dev").await);
    assert_eq!(here.stored.promoted_from, Some(before.stored.deploy.id));
    assert_eq!(here.stored.deploy.actor, Actor::Policy);
    assert!(here.stored.deploy.cause.starts_with("promoted from dev: "), "{}", here.stored.deploy.cause);
    let soaked = here.stored.deploy.created_at.duration_since(before.stored.deploy.finished_at.unwrap());
    assert!(soaked.as_secs() >= 3, "it came after {soaked:#}");
    assert!(env.deploys("production").await.is_empty(), "nobody has asked for it there");

    let asked = env.done("jane", "production", promote()).await;
    let status =
        env.until("production", "it waits for approvals", |status| lab::waiting(status) == "ApprovalNeeded").await;
    assert_eq!(gate(&status, "approvals").0, "Needs");
    assert_eq!(gate(&status, "window").0, "Pass", "{:?}", status.gates);
    assert_eq!(status.gates.len(), 9);
    let agree = || Action::Approve { release: None };
    let own = env.ask_as("jane", &["release"], "production", agree()).await;
    assert!(own.message.unwrap().contains("whoever asked for a deploy cannot approve it"));
    let other = env.ask_as("mallory", &["developers"], "production", agree()).await;
    assert_eq!(other.state, RequestState::Refused, "not in the group");
    assert_eq!(env.ask_as("ada", &["release"], "production", agree()).await.state, RequestState::Done);
    env.until("production", "one is missing", |status| gate(status, "approvals").1.contains("1 of 2")).await;
    assert_eq!(env.ask_as("ada", &["release"], "production", agree()).await.state, RequestState::Done);
    assert_eq!(newest(&env, "production").await.stored.deploy.state, State::Pending, "one person is one approval");
    assert_eq!(env.ask_as("bob", &["release"], "production", agree()).await.state, RequestState::Done);
    env.until_serving("production", "web 1.0.0").await;
    let first = newest(&env, "production").await;
    assert_eq!(Some(first.stored.deploy.id), asked.deploy);
    assert!(env.stage("production").await.status.unwrap().gates.is_empty(), "nothing waits any more");

    // Healthy in dev, broken in staging, whose configuration is another one.
    env.push("web", "1.1.0", &[("APP_HEALTH", "fail")]).await;
    let said = env.until_stalled("dev", "RolledBack").await;
    assert!(said.contains("web 1.1.0 failed"), "{said}");
    quiet::through_scans(&operator, 2).await;
    assert_eq!(ends(&env.deploys("staging").await), ["web 1.0.0 success"], "what failed upstream does not come");
    env.push("web", "1.2.0", &[]).await;
    env.until_serving("staging", "web 1.2.0").await;
    env.done("jane", "production", Action::Promote { release: None, from: Some("staging".into()), emergency: true })
        .await;
    env.until_serving("production", "web 1.2.0").await;
    let hurried = newest(&env, "production").await;
    assert!(hurried.stored.emergency);

    // The instance of 1.0.0 is gone: it is started again from what was stored.
    env.until("production", "one instance is left", |status| status.instances.len() == 1).await;
    env.done("jane", "production", Action::Rollback { to: Destination::Deploy(first.stored.deploy.id) }).await;
    env.until("production", "1.0.0 serves and is held", |status| {
        status.release == staged.release && holds(status, "Ready").is_some_and(|ready| ready.reason == "Held")
    })
    .await;
    env.until_answer("production-web", "shop 1.0.0 ").await;

    let verdict = env.database.store.audit_verify().await.unwrap();
    assert!(verdict.broken.is_none() && verdict.entries > 10, "{verdict:?}");
    operator.stop().await;
}

/// What is not ready upstream for a while begins its soak again, and the stage that waits for it says so.
#[tokio::test]
async fn a_soak_begins_again_when_the_release_was_not_ready() {
    const SOAK: i64 = 45;
    let env = Env::new("soak").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[("APP_HEALTH", "told"), ("APP_DATA", "/data")]).await;
    let data = "    volumes: [{name: data, mountPath: /data, emptyDir: {}}]\n";
    let shop = project("shop", "web").replace("failureThreshold: 8", "failureThreshold: 2") + data;
    let staging = format!("  promotion: {{from: [dev], auto: true, soak: {SOAK}s}}");
    env.apply(&(shop + &stage("dev", "shop", "  rollback: {watch: 0s}") + &stage("staging", "shop", &staging))).await;
    env.until_serving("dev", "web 1.0.0").await;
    env.tell("dev-web", "sick", "now").await;
    env.until("staging", "it says that the release is not healthy on dev", |status| {
        let (reason, said) = lab::reconciling(status).unwrap_or_default();
        reason == "NothingPromoted"
            && said.contains("web 1.0.0 does not come: it is not healthy on dev: its pods are not")
    })
    .await;

    // Another pod, which nobody told to be sick.
    let of_dev = |pod: &Pod| pod.labels().get(labels::STAGE).is_some_and(|stage| stage == "dev");
    for pod in env.list::<Pod>().await.iter().filter(|pod| of_dev(pod)) {
        env.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    env.until_serving("staging", "web 1.0.0").await;
    let (here, before) = (newest(&env, "staging").await.stored.deploy, newest(&env, "dev").await.stored.deploy);
    let target = env.database.store.stage_get(&env.namespace, "staging").await.unwrap().expect("the stage").id;
    let proofs = env.database.store.proofs_list(target, &["dev".into()], &[here.release]).await.unwrap();
    let recovered = proofs[0].upstreams[0].recovered.expect("it was healthy again");
    assert!(recovered > before.finished_at.unwrap());
    let soaked = here.created_at.duration_since(recovered);
    assert!(soaked.as_secs() >= SOAK, "it came {soaked:#} after dev was healthy again");
    operator.stop().await;
}

/// `from` that leads in a circle or to nowhere is refused with its path, and mended by mending it.
#[tokio::test]
async fn a_circle_of_stages_is_refused_with_its_path() {
    let env = Env::new("circle").await;
    let operator = Operator::start(&env).await;
    let after = |name: &str, from: &str| stage(name, "shop", &format!("  promotion: {{from: [{from}]}}"));
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &after("one", "two") + &after("two", "one"))).await;
    let said = env.until_stalled("one", "PromotionCycle").await;
    assert!(said.contains("one → two → one") || said.contains("two → one → two"), "{said}");
    env.apply(&after("three", "nowhere")).await;
    let said = env.until_stalled("three", "UnknownStage").await;
    assert!(said.contains("there is no Stage nowhere"), "{said}");
    env.apply(&stage("nowhere", "shop", "")).await;
    env.wait("nowhere is known", DEADLINE, async || {
        let status = env.stage("three").await.status?;
        lab::reconciling(&status).is_some_and(|(reason, _)| reason == "NothingPromoted").then_some(())
    })
    .await;
    operator.stop().await;
}
