//! Values that are copied from Kubernetes Secrets, and change.

use crate::scene::Scene;

/// A project whose registry is asked with a credential, and whose service gets a secret.
const PROJECT: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  credentials: [{name: robot, type: registry, hosts: [HOST], secretRef: {name: robot}}]
  secrets: [{name: STRIPE_KEY, secretRef: {name: payment, key: key}}]
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '*'}, interval: 24h, insecure: true, credential: robot}
    ports: [{name: http, port: 8080}]
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: production}
spec: {project: shop, rollback: {keepPrevious: 0s, watch: 0s}}
";

fn originals(value: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: payment}}
stringData: {{key: {value}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: robot}}
type: kubernetes.io/basic-auth
stringData: {{username: robot, password: {value}}}
"
    )
}

/// Both are in use.
pub async fn in_use(scene: &Scene) {
    scene.push("1.0.0").await;
    scene.apply(&originals("canary-of-the-first")).await;
    scene.apply(&PROJECT.replace("HOST", scene.registry())).await;
    scene.start().await;
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
}

/// Both change: the secret is another deploy, the password is not.
pub async fn rotation(scene: &Scene) {
    scene.apply(&originals("canary-of-the-second")).await;
    let versions = "SELECT count(*) FROM (SELECT version FROM credentials UNION ALL SELECT version FROM secrets) AS all_of_them \
                    WHERE version = 2";
    scene.wait("both are copied", async || (scene.number(versions).await == 2).then_some(())).await;
    let deployed = "SELECT count(*) FROM deploys WHERE state = 'success'";
    scene.wait("another deploy", async || (scene.number(deployed).await == 2).then_some(())).await;
    scene.until("production", "it tells of both", |status| status.history.len() == 2).await;
    scene.comes_to("production", "web 1.0.0", "Success", "True").await;
}
