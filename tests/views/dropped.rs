//! Watches that lose events of one kind, every one of them: what was lost is found out by comparing, nothing newer is undone,
//! and nothing is made twice.

use std::time::Instant;

use futures::future::join_all;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use stagekeeper::{
    api::{Environment, Project, Stage, labels},
    domain::deploy::State,
};

use crate::{
    cluster::DEADLINE,
    ground::{made_once, operator, ready},
    operator::Operator,
    story::{PROJECT, STAGE, Scene},
    witness::Lives,
};

/// A stage with something of every kind that is watched.
const ALL_KINDS: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: production}
spec:
  project: shop
  route: {host: shop.test, className: tests}
  rollback: {keepPrevious: 0s, watch: 0s}
  hooks: {beforeTraffic: [{name: seed, args: ['-print', 'seeded']}]}
";

/// Begins to lose every event of a kind, then starts an operator, the project and the stage.
async fn begin(resource: &'static str) -> (Scene, Operator) {
    let scene = Scene::new(&format!("lost-{resource}")).await;
    scene.seat.api.lose(move |event| event.resource == resource && event.sort != "BOOKMARK" && event.sort != "ERROR");
    scene.env.push("web", "1.0.0", &[]).await;
    let operator = operator(&scene.env, &scene.seat, "operator", &[]).await;
    operator.ready().await;
    scene.env.apply(PROJECT).await;
    scene.env.apply(ALL_KINDS).await;
    (scene, operator)
}

/// Two deploys, the second one as a new image.
async fn two_deploys(scene: &Scene) {
    scene.settled(1, State::Success).await;
    scene.env.push("web", "1.1.0", &[]).await;
    scene.settled(2, State::Success).await;
    scene.env.until(STAGE, "it is ready", ready).await;
    scene.undivided().await;
}

/// What was lost, and that it was not nothing.
fn told(scene: &Scene, resource: &str, since: Instant) {
    let lost = scene.seat.api.lose_nothing();
    assert!(!lost.is_empty(), "no event of {resource} was lost");
    println!("lost events of {resource}: {} lost, all done after {:.1} s", lost.len(), since.elapsed().as_secs_f64());
}

/// Deletes something that an instance needs: it is made again, once.
async fn deleted_by_hand<K>(scene: &Scene, kind: &str)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    // The only instance's: the stage's own Service has none.
    let all = scene.env.list::<K>().await;
    let victim = all.iter().find(|one| one.labels().contains_key(labels::INSTANCE)).expect("one of an instance");
    let (name, uid) = (victim.name_any(), victim.uid());
    scene.env.api::<K>().delete(&name, &DeleteParams::background()).await.unwrap();
    let what = format!("{kind} {name} is back");
    let back = scene.env.wait(&what, DEADLINE, async || {
        let found = scene.env.api::<K>().get_opt(&name).await.unwrap()?;
        (found.uid() != uid).then_some(())
    });
    back.await;
    scene.env.until(STAGE, "it is ready again", ready).await;
    let lives = scene.witness.lives();
    assert_eq!(lives[&(kind.to_owned(), name.clone())], Lives { made: 2, removed: 1 }, "{name}");
    assert_eq!(lives.values().filter(|one| one.made > 1).count(), 1, "{lives:?}");
    assert_eq!(scene.env.deploys(STAGE).await.len(), 2, "what is missing is no reason for a deploy");
}

async fn child_events(resource: &'static str) {
    let since = Instant::now();
    let (scene, operator) = begin(resource).await;
    two_deploys(&scene).await;
    match resource {
        "deployments" => deleted_by_hand::<Deployment>(&scene, "Deployment").await,
        "services" => deleted_by_hand::<Service>(&scene, "Service").await,
        _ => {}
    }
    told(&scene, resource, since);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_of_a_kind_of_child_arrives() {
    join_all(["deployments", "services", "pods", "jobs", "ingresses"].map(child_events)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_of_stages_arrives() {
    let since = Instant::now();
    let (scene, operator) = begin("stages").await;
    two_deploys(&scene).await;
    let change = json!({"spec": {"services": {"web": {"env": [{"name": "COLOUR", "value": "blue"}]}}}});
    scene.env.patch::<Stage>(STAGE, change).await;
    scene.settled(3, State::Success).await;
    made_once(&scene);
    scene.env.api::<Stage>().delete(STAGE, &DeleteParams::default()).await.unwrap();
    let gone = async || scene.env.api::<Stage>().get_opt(STAGE).await.unwrap().is_none().then_some(());
    scene.env.wait("the stage is gone", DEADLINE, gone).await;
    // Another one of that name, with a life of its own.
    scene.env.apply(ALL_KINDS).await;
    scene.env.until(STAGE, "the new one is ready", ready).await;
    told(&scene, "stages", since);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_of_projects_arrives() {
    let since = Instant::now();
    let (scene, operator) = begin("projects").await;
    two_deploys(&scene).await;
    let blue = PROJECT.replace("    ports:", "    env: [{name: COLOUR, value: blue}]\n    ports:");
    scene.env.apply(&blue).await;
    scene.settled(3, State::Success).await;
    made_once(&scene);
    scene.env.api::<Project>().delete("shop", &DeleteParams::default()).await.unwrap();
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    // It may be gone already.
    let _ = scene.env.api::<Project>().patch("shop", &PatchParams::default(), &free).await;
    let missing = |status: &stagekeeper::api::StageStatus| !ready(status);
    scene.env.until(STAGE, "it says that its project is gone", missing).await;
    scene.env.apply(&blue).await;
    scene.env.until(STAGE, "it is ready again", ready).await;
    assert_eq!(scene.env.deploys(STAGE).await.len(), 3, "what ran went on running");
    told(&scene, "projects", since);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_of_environments_arrives() {
    let since = Instant::now();
    let (scene, operator) = begin("environments").await;
    scene.settled(1, State::Success).await;
    let demo =
        "{apiVersion: stagekeeper.dev/v1alpha1, kind: Environment, metadata: {name: demo}, spec: {project: shop}}";
    scene.env.apply(demo).await;
    let phase = async |wanted: &str| {
        scene
            .env
            .wait(&format!("the environment is {wanted}"), DEADLINE, async || {
                let found = scene.env.api::<Environment>().get("demo").await.unwrap().status?;
                (found.phase.as_deref() == Some(wanted)).then_some(())
            })
            .await;
    };
    phase("Ready").await;
    let asks = json!({"metadata": {"annotations": {
        "stagekeeper.dev/request": "sleep", "stagekeeper.dev/request-nonce": "1", "stagekeeper.dev/request-reason": "a test",
    }}});
    scene.env.patch::<Environment>("demo", asks).await;
    phase("Asleep").await;
    scene.env.api::<Environment>().delete("demo", &DeleteParams::default()).await.unwrap();
    let gone = async || scene.env.api::<Environment>().get_opt("demo").await.unwrap().is_none().then_some(());
    scene.env.wait("the environment is gone", DEADLINE, gone).await;
    made_once(&scene);
    told(&scene, "environments", since);
    operator.stop().await;
}
