//! Lives of environments.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use stagekeeper::{
    api::{Environment, EnvironmentStatus, Project, conditions, labels},
    domain::clock::{Clock as _, SystemClock},
};

use crate::scene::Scene;

/// A project whose images are of pull requests.
const PROJECT: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '>=1'}, interval: 24h, insecure: true}
    ports: [{name: http, port: 8080}]
";

/// An environment that says goodbye.
const DEMO: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Environment
metadata: {name: demo}
spec: {project: shop, services: {web: {tag: one}}, hooks: {beforeDelete: [{name: bye}]}}
";

/// Waits until the environment is as wanted.
pub async fn until(
    scene: &Scene,
    name: &str,
    what: &str,
    holds: impl Fn(&EnvironmentStatus) -> bool,
) -> EnvironmentStatus {
    let api = scene.env.api::<Environment>();
    let look = async || {
        let found = api.get_opt(name).await.expect("an answer")?;
        found.status.filter(|status| holds(status))
    };
    scene.wait(&format!("{name}: {what}"), look).await
}

async fn until_phase(scene: &Scene, phase: &str) -> EnvironmentStatus {
    until(scene, "demo", phase, |status| status.phase.as_deref() == Some(phase)).await
}

/// Waits until the environment is gone.
pub async fn until_gone(scene: &Scene, name: &str) {
    let api = scene.env.api::<Environment>();
    let gone = async || api.get_opt(name).await.expect("an answer").is_none().then_some(());
    scene.wait(&format!("{name} is gone"), gone).await;
}

/// A project, and the image of an environment that is to come.
pub async fn announced(scene: &Scene) {
    scene.push("one").await;
    scene.apply(PROJECT).await;
    scene.start().await;
    let known = async || {
        let status = scene.env.api::<Project>().get("shop").await.ok()?.status?;
        conditions::get(&status.conditions, conditions::READY).map(drop)
    };
    scene.wait("the project is seen", known).await;
}

/// It is made.
pub async fn create(scene: &Scene) {
    scene.apply(DEMO).await;
    until_phase(scene, "Ready").await;
}

/// An environment that runs.
pub async fn awake(scene: &Scene) {
    announced(scene).await;
    create(scene).await;
}

/// Somebody with kubectl only asks that it sleeps.
pub async fn sleep(scene: &Scene) {
    ask(scene, "sleep").await;
    until(scene, "demo", "asleep as it was asked", |status| {
        let last = status.stage.last_request.as_ref();
        status.phase.as_deref() == Some("Asleep") && last.is_some_and(|last| last.state == "Done")
    })
    .await;
}

async fn ask(scene: &Scene, word: &str) {
    let asks =
        json!({(labels::REQUEST): word, (labels::REQUEST_NONCE): word, (labels::REQUEST_REASON): "the test asks"});
    scene.env.patch::<Environment>("demo", json!({"metadata": {"annotations": asks}})).await;
}

/// One that sleeps.
pub async fn asleep(scene: &Scene) {
    awake(scene).await;
    sleep(scene).await;
}

/// The edge has a visitor for it.
pub async fn wake(scene: &Scene) {
    let subdomain = scene.env.api::<Environment>().get("demo").await.expect("it is there").status;
    let subdomain = subdomain.and_then(|status| status.subdomain).expect("a subdomain");
    scene.env.database.store.environment_wake(&subdomain, SystemClock.now()).await.expect("it is asked");
    until_phase(scene, "Ready").await;
}

/// Somebody asks that it ends.
pub async fn delete(scene: &Scene) {
    ask(scene, "delete").await;
    until_gone(scene, "demo").await;
}

/// Made, deleted by its owner, and nothing left of it.
pub async fn whole_life(scene: &Scene) {
    create(scene).await;
    let api = scene.env.api::<Environment>();
    api.delete("demo", &DeleteParams::default()).await.expect("it is deleted");
    until_gone(scene, "demo").await;
    let all: Api<Namespace> = Api::all(scene.env.client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", labels::HOME, scene.env.namespace));
    let gone = async || all.list(&ours).await.expect("namespaces").items.is_empty().then_some(());
    scene.wait("its namespace is gone", gone).await;
}
