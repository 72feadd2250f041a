//! Releases of stages.

use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use serde_json::json;
use stagekeeper::{
    api::{Stage, labels},
    domain::request::Action,
};

use crate::{asking, scene::Scene};

/// A project that is told of each push, and asks by itself as good as never.
const PROJECT: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  webhooks: [{name: pushes, source: diun}]
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '*'}, interval: 24h, insecure: true}
    ports: [{name: http, port: 8080}]
";

/// A stage that keeps nothing of what ran before; `more` is added to its spec.
fn stage(name: &str, more: &str) -> String {
    format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Stage, metadata: {{name: {name}}}, \
         spec: {{project: shop, rollback: {{keepPrevious: 0s, watch: 0s}}, {more}}}}}"
    )
}

/// A project and a stage with hooks, and an image.
pub async fn before_the_first(scene: &Scene) {
    scene.push("1.0.0").await;
    scene.apply(PROJECT).await;
    scene.apply(&stage("production", "hooks: {beforeStart: [{name: migrate}], afterSuccess: [{name: tell}]}")).await;
}

/// It is deployed.
pub async fn first(scene: &Scene) {
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
    // The last hook runs when all is told already.
    let run = "SELECT count(*) FROM hook_runs WHERE ok";
    scene.wait("every hook has run", async || (scene.number(run).await == 2).then_some(())).await;
    let jobs = async || scene.env.list::<Job>().await.is_empty().then_some(());
    scene.wait("the hooks' Jobs are gone", jobs).await;
}

/// A stage that serves its first release.
pub async fn serving(scene: &Scene) {
    scene.push("1.0.0").await;
    scene.apply(PROJECT).await;
    scene.apply(&stage("production", "")).await;
    scene.start().await;
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
}

/// A new image is pushed.
pub async fn new_image(scene: &Scene) {
    scene.push("1.1.0").await;
    scene.announce("1.1.0").await;
    scene.comes_to("production", "web 1.1.0", "Success", "True").await;
}

/// One that crashes is pushed.
pub async fn failing_image(scene: &Scene) {
    let digest = scene.push("2.0.0").await;
    scene.ground.spoil(&digest);
    scene.announce("2.0.0").await;
    scene.comes_to("production", "web 2.0.0", "RolledBack", "False").await;
}

/// A stage that serves its second release.
pub async fn second_serving(scene: &Scene) {
    serving(scene).await;
    new_image(scene).await;
}

/// Somebody with kubectl only asks to go back.
pub async fn rollback(scene: &Scene) {
    let asks = json!({
        (labels::REQUEST): "rollback", (labels::REQUEST_NONCE): "once", (labels::REQUEST_REASON): "the test asks",
    });
    scene.env.patch::<Stage>("production", json!({"metadata": {"annotations": asks}})).await;
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
    scene
        .until("production", "the request is done", |status| {
            status.last_request.as_ref().is_some_and(|last| last.nonce == "once" && last.state == "Done")
        })
        .await;
}

/// A release that is proven in the first of two stages.
pub async fn proven(scene: &Scene) {
    scene.push("1.0.0").await;
    scene.apply(PROJECT).await;
    scene.apply(&stage("dev", "")).await;
    scene.apply(&stage("production", "promotion: {from: [dev], approvals: {required: 1}}")).await;
    scene.start().await;
    scene.comes_to("dev", "web 1.0.0", "Success", "True").await;
}

/// Jane asks for it in the second one, and Ada agrees.
pub async fn promotion(scene: &Scene) {
    let promote = Action::Promote { release: None, from: None, emergency: false };
    asking::make(&scene.env, "jane", &[], "production", promote).await;
    scene
        .until("production", "a deploy waits for approval", |status| {
            status.deploy.as_ref().is_some_and(|deploy| deploy.state == "Pending")
        })
        .await;
    asking::make(&scene.env, "ada", &[], "production", Action::Approve { release: None }).await;
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
}

/// The stage is deleted.
pub async fn delete(scene: &Scene) {
    let stages = scene.env.api::<Stage>();
    stages.delete("production", &DeleteParams::default()).await.expect("it is deleted");
    let gone = async || stages.get_opt("production").await.expect("an answer").is_none().then_some(());
    scene.wait("the stage is gone", gone).await;
}
