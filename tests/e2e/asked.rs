//! What people ask of a stage: back to what was proven, hold, resume, stop, try again; and nothing that a `GitOps` tool keeps
//! applying undoes it.

use std::{sync::Arc, time::Duration};

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use stagekeeper::{
    api::Stage,
    domain::{
        actor::Actor,
        deploy::State,
        request::{Action, Destination, RequestState},
    },
    store::StoredRequest,
};

use crate::{
    asking,
    cluster::{DEADLINE, Env},
    lab::{self, IMPATIENT, ends, holds, project, stage},
    operator::Operator,
    quiet,
};

impl Env {
    /// Asks something of a stage as `user:NAME` and waits for what became of it.
    pub async fn ask(&self, name: &str, stage: &str, action: Action) -> StoredRequest {
        self.ask_as(name, &[], stage, action).await
    }

    /// The same as a member of groups.
    pub async fn ask_as(&self, name: &str, groups: &[&str], stage: &str, action: Action) -> StoredRequest {
        let made = asking::make(self, name, groups, stage, action).await;
        let settled = self.database.store.request_settled(made.id, DEADLINE).await.unwrap();
        assert_ne!(settled.state, RequestState::Pending, "nobody acted on {:?} within {DEADLINE:?}", settled.action);
        settled
    }

    /// The same, which has to be done.
    pub async fn done(&self, name: &str, stage: &str, action: Action) -> StoredRequest {
        let settled = self.ask(name, stage, action).await;
        assert_eq!(settled.state, RequestState::Done, "{:?}", settled.message);
        settled
    }

    /// The same, which has to be refused: why.
    pub async fn refused(&self, name: &str, stage: &str, action: Action) -> String {
        let settled = self.ask(name, stage, action).await;
        assert_eq!(settled.state, RequestState::Refused, "{:?}", settled.message);
        settled.message.unwrap()
    }
}

/// A tool that applies the same manifests every second, as a `GitOps` tool does that heals itself.
struct Healer {
    task: tokio::task::JoinHandle<u32>,
    stop: Arc<tokio::sync::Notify>,
}

impl Healer {
    fn start(env: &Env, yaml: &str) -> Self {
        let stop = Arc::new(tokio::sync::Notify::new());
        let (client, namespace, stopped) = (env.client.clone(), env.namespace.clone(), stop.clone());
        let yaml = yaml.replace("REGISTRY/web", &env.repository("web"));
        let task = tokio::spawn(async move {
            let mut applied = 0;
            loop {
                for document in yaml.split("---\n").filter(|text| !text.trim().is_empty()) {
                    let object: DynamicObject = serde_yaml::from_str(document).unwrap();
                    let resource = kube::core::ApiResource {
                        group: "stagekeeper.dev".into(),
                        version: "v1alpha1".into(),
                        api_version: "stagekeeper.dev/v1alpha1".into(),
                        kind: object.types.as_ref().unwrap().kind.clone(),
                        plural: format!("{}s", object.types.as_ref().unwrap().kind.to_lowercase()),
                    };
                    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
                    // Not forced: a field that somebody else owns is a conflict, and fails the test.
                    let params = PatchParams::apply("gitops");
                    let name = object.metadata.name.clone().unwrap();
                    api.patch(&name, &params, &Patch::Apply(&object)).await.expect("no conflict with the operator");
                }
                applied += 1;
                tokio::select! {
                    () = stopped.notified() => return applied,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        });
        Self { task, stop }
    }

    async fn stop(self) -> u32 {
        self.stop.notify_one();
        self.task.await.unwrap()
    }
}

/// Back by hand to what an instance still runs, then to what is long gone; nothing undoes it, while a tool applies the same
/// manifests every second; something newer ends the hold, and so does resuming.
#[tokio::test]
async fn a_rollback_by_hand_holds_whatever_is_applied_again() {
    let env = Env::new("held").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let manifests = project("shop", "web") + &stage("live", "shop", "  rollback: {keepPrevious: 10m}");
    env.apply(&manifests).await;
    let healer = Healer::start(&env, &manifests);
    let first = env.until_serving("live", "web 1.0.0").await;
    env.push("web", "1.1.0", &[]).await;
    let second = env.until_serving("live", "web 1.1.0").await;
    let generation = env.stage("live").await.metadata.generation;

    let asked = env.done("jane", "live", Action::Rollback { to: Destination::Previous }).await;
    let back = asked.deploy.expect("a deploy");
    env.until("live", "1.0.0 serves and is held", |status| {
        let ready = holds(status, "Ready").is_some_and(|ready| ready.reason == "Held");
        ready && status.release == first.release && status.hold.is_some()
    })
    .await;
    env.until_answer("live-web", "shop 1.0.0 ").await;
    let status = env.stage("live").await.status.unwrap();
    let hold = status.hold.unwrap();
    assert_eq!(hold.owner, "user:jane");
    assert!(hold.reason.unwrap().contains("rollback to web 1.0.0: the test asks"));
    assert_eq!(status.active, first.active, "the instance that still ran has the traffic");
    let deploys = env.deploys("live").await;
    assert_eq!(ends(&deploys), ["web 1.0.0 success", "web 1.1.0 success", "web 1.0.0 success"]);
    let it = &deploys[2].stored.deploy;
    assert_eq!((it.id, it.rollback_of), (back, Some(deploys[1].stored.deploy.id)));
    assert_eq!(it.actor, Actor::User("jane".into()));
    assert_eq!(it.snapshot, deploys[0].stored.deploy.snapshot, "what was stored, started again");

    quiet::through_scans(&operator, 4).await;
    assert_eq!(env.deploys("live").await.len(), 3, "the policy does not fight");
    let again =
        env.refused("jane", "live", Action::Rollback { to: Destination::Deploy(deploys[0].stored.deploy.id) }).await;
    assert!(again.contains("web 1.0.0 serves already"), "{again}");

    env.push("web", "1.2.0", &[]).await;
    env.until_serving("live", "web 1.2.0").await;
    assert!(env.stage("live").await.status.unwrap().hold.is_none(), "something newer ends the hold");

    // The instance of 1.1.0 is gone by now, or nearly so; the snapshot is not.
    let deploy = deploys[1].stored.deploy.id;
    env.done("jane", "live", Action::Rollback { to: Destination::Deploy(deploy) }).await;
    env.until("live", "1.1.0 serves and is held", |status| {
        status.release == second.release && holds(status, "Ready").is_some_and(|ready| ready.reason == "Held")
    })
    .await;
    env.until_answer("live-web", "shop 1.1.0 ").await;

    // Further back: 1.2.0 is still what was left, and is nothing newer.
    let deploy = deploys[0].stored.deploy.id;
    env.done("jane", "live", Action::Rollback { to: Destination::Deploy(deploy) }).await;
    env.until("live", "1.0.0 serves and is held", |status| {
        status.release == first.release && holds(status, "Ready").is_some_and(|ready| ready.reason == "Held")
    })
    .await;
    quiet::through_scans(&operator, 4).await;
    assert_eq!(env.stage("live").await.status.unwrap().release, first.release, "the policy does not fight");
    env.done("joe", "live", Action::Resume { owner: None }).await;
    env.until_serving("live", "web 1.2.0").await;

    let applied = healer.stop().await;
    assert!(applied > 5, "the manifests were applied {applied} times only");
    let stage: Stage = env.stage("live").await;
    assert_eq!(stage.metadata.generation, generation, "nobody wrote the spec");
    operator.stop().await;
}

/// A pin in git that an emergency rollback goes over: the condition names both digests, and another pin ends it.
#[tokio::test]
async fn a_pin_that_a_rollback_went_over_is_told_as_drift() {
    let env = Env::new("drift").await;
    let operator = Operator::start(&env).await;
    let one = env.push("web", "1.0.0", &[]).await;
    env.push("web", "1.1.0", &[]).await;
    let two = env.push("web", "1.2.0", &[]).await;
    let pinned = |tag: &str| project("shop", "web") + &stage("live", "shop", &format!("  pin: {{web: {tag}}}"));
    env.apply(&pinned("1.0.0")).await;
    env.until_serving("live", "web 1.0.0").await;
    env.apply(&pinned("1.2.0")).await;
    env.until_serving("live", "web 1.2.0").await;

    env.done("jane", "live", Action::Rollback { to: Destination::Previous }).await;
    let status = env
        .until("live", "the drift is told", |status| {
            holds(status, "Drifted").is_some() && holds(status, "Ready").is_some_and(|ready| ready.reason == "Held")
        })
        .await;
    let drift = holds(&status, "Drifted").unwrap();
    assert!(drift.message.contains(&one) && drift.message.contains(&two), "{}", drift.message);
    env.until_answer("live-web", "shop 1.0.0 ").await;
    quiet::through_scans(&operator, 2).await;
    assert_eq!(env.deploys("live").await.len(), 3, "the pin is not applied again");

    env.apply(&pinned("1.1.0")).await;
    let status = env.until_serving("live", "web 1.1.0").await;
    assert!(status.hold.is_none(), "another pin is a wish of its own");
    env.until("live", "no drift any more", |status| holds(status, "Drifted").is_none()).await;
    operator.stop().await;
}

/// Stopping: what waits, what runs beside the good instance, what runs in its place; then the same again on request.
#[tokio::test]
async fn a_deploy_that_is_stopped_leaves_what_served() {
    let env = Env::new("abort").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let slow = "  timeouts: {start: 10m, health: 10m}";
    let rolling = format!("{slow}\n  strategy: {{type: Rolling}}");
    env.apply(&(project("shop", "web") + &stage("beside", "shop", slow) + &stage("inplace", "shop", &rolling))).await;
    for name in ["beside", "inplace"] {
        env.until_serving(name, "web 1.0.0").await;
    }
    assert!(env.refused("jane", "beside", Action::Abort { deploy: None }).await.contains("no deploy is under way"));
    assert!(
        env.refused("jane", "beside", Action::Retry { deploy: None })
            .await
            .contains("none of the last deploys has failed")
    );

    env.push("web", "1.1.0", &[("APP_HEALTH", "fail")]).await;
    for name in ["beside", "inplace"] {
        env.until(name, "1.1.0 starts", |status| {
            status.deploy.as_ref().is_some_and(|deploy| deploy.state == "Starting")
        })
        .await;
        let stopped = env.done("jane", name, Action::Abort { deploy: None }).await;
        assert!(stopped.message.unwrap().contains("web 1.1.0 was stopped in starting"));
        env.wait("all is at rest", DEADLINE, async || lab::is_at_rest(&env.deploys(name).await).then_some(())).await;
        env.until_answer(&format!("{name}-web"), "shop 1.0.0 ").await;
        let stopped = env.deploys(name).await[1].clone();
        assert_eq!(stopped.stored.deploy.state, State::Aborted);
        let last = stopped.transitions.last().unwrap();
        assert_eq!(last.actor, Actor::User("jane".into()));
        assert!(last.message.contains("user:jane stopped it in starting: the test asks"), "{}", last.message);
    }
    env.until("beside", "what was left is removed", |status| status.instances.len() == 1).await;
    let inplace = env.deploys("inplace").await;
    assert_eq!(ends(&inplace), ["web 1.0.0 success", "web 1.1.0 aborted", "web 1.0.0 success"]);
    assert_eq!(inplace[2].stored.deploy.rollback_of, Some(inplace[1].stored.deploy.id));
    quiet::through_scans(&operator, 3).await;
    assert_eq!(env.deploys("beside").await.len(), 2, "what was stopped is not tried again by itself");
    assert_eq!(env.deploys("inplace").await.len(), 3, "nor in place");

    let asked = env.done("joe", "beside", Action::Retry { deploy: None }).await;
    env.until("beside", "the retry starts", |status| {
        status.deploy.as_ref().is_some_and(|deploy| deploy.state == "Starting")
    })
    .await;
    let retried = env.deploys("beside").await.pop().unwrap();
    assert_eq!(Some(retried.stored.deploy.id), asked.deploy);
    assert_eq!(retried.stored.retry_of, Some(stopped_id(&env).await));
    env.done("joe", "beside", Action::Abort { deploy: asked.deploy }).await;
    operator.stop().await;
}

async fn stopped_id(env: &Env) -> uuid::Uuid {
    env.deploys("beside").await[1].stored.deploy.id
}

/// A hold keeps policies away until it expires or is resumed; vetoes keep a release away that never came.
#[tokio::test]
async fn a_hold_and_a_veto_keep_policies_away() {
    let env = Env::new("hold").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", IMPATIENT))).await;
    env.until_serving("live", "web 1.0.0").await;
    let past = jiff::Timestamp::UNIX_EPOCH;
    assert!(
        env.refused("jane", "live", Action::Hold { owner: None, until: Some(past) }).await.contains("passed already")
    );
    assert!(env.refused("jane", "live", Action::Resume { owner: None }).await.contains("nothing is held"));
    env.done("jane", "live", Action::Hold { owner: Some("release-team".into()), until: None }).await;
    env.until("live", "it is held", |status| status.hold.as_ref().is_some_and(|hold| hold.owner == "release-team"))
        .await;
    env.push("web", "1.1.0", &[]).await;
    quiet::through_scans(&operator, 3).await;
    assert_eq!(env.deploys("live").await.len(), 1, "nothing comes while it is held");
    assert!(env.refused("jane", "live", Action::Resume { owner: Some("others".into()) }).await.contains("by others"));
    env.done("jane", "live", Action::Resume { owner: Some("release-team".into()) }).await;
    env.until_serving("live", "web 1.1.0").await;
    operator.stop().await;
}
