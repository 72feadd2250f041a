//! Releases of a stage.

use k8s_openapi::api::batch::v1::Job;

use crate::scene::{DEADLINE, Scene};

/// A project that is told of each push, and asks by itself as good as never.
pub const PROJECT: &str = "
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

/// A stage with a hook at each moment.
const STAGE: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: production}
spec:
  project: shop
  rollback: {keepPrevious: 0s, watch: 0s}
  hooks:
    beforeStart: [{name: migrate}]
    beforeTraffic: [{name: seed}]
    verify: [{name: accept}]
    afterSuccess: [{name: tell}]
";

pub async fn before_the_first(scene: &Scene) {
    scene.push("1.0.0").await;
    scene.apply(PROJECT).await;
    scene.apply(STAGE).await;
}

pub async fn first(scene: &Scene) {
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
    // The last hook runs when all is told already.
    let run = "SELECT count(*) FROM hook_runs WHERE ok";
    scene.env.wait("every hook has run", DEADLINE, async || (scene.number(run).await == 4).then_some(())).await;
    let jobs = async || scene.env.list::<Job>().await.is_empty().then_some(());
    scene.env.wait("the hooks' Jobs are gone", DEADLINE, jobs).await;
}
