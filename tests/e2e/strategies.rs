//! How one release replaces another: rolling, all at once, and from one strategy to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use futures::TryStreamExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;
use stagekeeper::api::{Stage, labels};
use tokio::task::JoinHandle;

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    shop,
    visitors::{Connections, Visitors},
};

/// What a pod was at one moment: its release, and whether it was ready and meant to stay.
type Life = (String, bool);

/// Every set of pods that existed at one moment.
struct Moments {
    all: Arc<Mutex<Vec<Vec<Life>>>>,
    task: JoinHandle<()>,
}

impl Moments {
    fn watch(env: &Env) -> Self {
        let all = Arc::new(Mutex::new(Vec::new()));
        let (moments, pods) = (all.clone(), env.api::<Pod>());
        let task = tokio::spawn(async move {
            let mut alive = BTreeMap::<String, Life>::new();
            let events = watcher(pods, watcher::Config::default()).try_for_each(|event| {
                match event {
                    Event::Apply(pod) if ended(&pod) => drop(alive.remove(&pod.name_any())),
                    Event::Apply(pod) | Event::InitApply(pod) => drop(alive.insert(pod.name_any(), life(&pod))),
                    Event::Delete(pod) => drop(alive.remove(&pod.name_any())),
                    Event::Init => alive.clear(),
                    Event::InitDone => {}
                }
                moments.lock().unwrap().push(alive.values().cloned().collect());
                futures::future::ready(Ok(()))
            });
            events.await.expect("the watch holds for as long as a test takes");
        });
        Self { all, task }
    }

    fn end(self) -> Vec<Vec<Life>> {
        self.task.abort();
        let all = self.all.lock().unwrap();
        all.clone()
    }
}

/// Whether all its containers have ended: what is left is a record.
fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn life(pod: &Pod) -> Life {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True");
    (pod.labels()[labels::RELEASE].clone(), ready && pod.metadata.deletion_timestamp.is_none())
}

fn releases(moment: &[Life]) -> BTreeSet<&str> {
    moment.iter().map(|(release, _)| release.as_str()).collect()
}

#[tokio::test]
async fn rolling_always_has_a_ready_pod_and_fails_no_request() {
    let env = Env::new("rolling").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("replicas: 2")).await;
    env.apply(&shop::stage("strategy: {type: Rolling}")).await;
    let before = shop::serves(&env, "production", "web 1.0.0").await;
    assert_eq!(before.active.as_deref(), Some("main"));
    let [workload] = &env.list::<Deployment>().await[..] else { panic!("one workload") };

    let mut fresh = Visitors::start(&env, "production-web", Connections::Fresh).await;
    let mut kept = Visitors::start(&env, "production-web", Connections::Kept).await;
    let moments = Moments::watch(&env);
    env.push("web", "1.1.0", &[]).await;
    let after = shop::serves(&env, "production", "web 1.1.0").await;
    let moments = moments.end();
    let release = &after.release.as_ref().unwrap()[..12];
    env.wait("the old pods are gone", DEADLINE, async || {
        let pods = env.list::<Pod>().await;
        pods.iter().all(|pod| pod.labels()[labels::RELEASE] == release).then_some(())
    })
    .await;
    fresh.more(5).await;
    kept.more(5).await;
    fresh.stop().await.assert_answered_by(&["shop 1.0.0", "shop 1.1.0"]);
    kept.stop().await.assert_answered_by(&["shop 1.0.0", "shop 1.1.0"]);

    let fewest = moments.iter().skip(2).map(|moment| moment.iter().filter(|(_, ready)| *ready).count()).min();
    assert!(fewest >= Some(2), "fewer pods were ready than asked for: {moments:?}");
    assert!(moments.iter().any(|moment| releases(moment).len() == 2), "both ran side by side for a moment");
    let [same] = &env.list::<Deployment>().await[..] else { panic!("one workload") };
    assert_eq!(same.uid(), workload.uid(), "it was changed in place");
    assert_eq!(after.instances.len(), 1);
    operator.stop().await;
}

#[tokio::test]
async fn recreate_never_runs_two_releases() {
    let env = Env::new("recreate").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("replicas: 2")).await;
    env.apply(&shop::stage("strategy: {type: Recreate}")).await;
    shop::serves(&env, "production", "web 1.0.0").await;

    let moments = Moments::watch(&env);
    env.push("web", "1.1.0", &[]).await;
    shop::serves(&env, "production", "web 1.1.0").await;
    let moments = moments.end();
    let seen: BTreeSet<&str> = moments.iter().flat_map(|moment| releases(moment)).collect();
    assert_eq!(seen.len(), 2, "one after the other: {moments:?}");
    assert!(moments.iter().all(|moment| releases(moment).len() < 2), "two releases at once: {moments:?}");
    shop::answers(&env, "production-web", "shop 1.1.0").await;
    operator.stop().await;
}

#[tokio::test]
async fn the_strategy_changes_between_deploys_without_a_failed_request() {
    let env = Env::new("change").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("rollback: {keepPrevious: 1s}")).await;
    let before = shop::serves(&env, "production", "web 1.0.0").await;
    let fresh = Visitors::start(&env, "production-web", Connections::Fresh).await;

    env.patch::<Stage>("production", json!({"spec": {"strategy": {"type": "Rolling"}}})).await;
    let only = async |what: &str, instance: &dyn Fn(&str) -> bool| {
        let found = env.until("production", what, |status| {
            let [one] = &status.instances[..] else { return false };
            one.active && instance(&one.name) && shop::is(status, "Ready", "True")
        });
        found.await.active.unwrap()
    };
    only("it is changed in place from now on", &|name| name == "main").await;
    env.push("web", "1.1.0", &[]).await;
    let rolled = shop::serves(&env, "production", "web 1.1.0").await;
    assert_eq!(rolled.active.as_deref(), Some("main"));

    env.patch::<Stage>("production", json!({"spec": {"strategy": {"type": "BlueGreen"}}})).await;
    let after = only("releases have instances of their own again", &|name| name != "main").await;
    assert_ne!(Some(after), before.active, "another release is another instance");
    fresh.stop().await.assert_answered_by(&["shop 1.0.0", "shop 1.1.0"]);

    let causes: Vec<String> =
        env.deploys("production").await.into_iter().map(|entry| entry.stored.deploy.cause).collect();
    let wanted = ["first deploy: web 1.0.0", "configuration changed", "web 1.0.0 → 1.1.0", "configuration changed"];
    assert_eq!(causes, wanted);
    operator.stop().await;
}
