//! Pull requests: what a git provider says becomes an environment, and how that stands is told to the provider.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use stagekeeper::api::{Project, conditions};

use crate::{
    environments::{until, until_gone},
    provider::{closed, pull},
    scene::Scene,
};

/// What deliveries are signed with.
const SECRET: &str = "canary-of-a-webhook";

const PROJECT: &str = "
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData: {value: canary-of-a-webhook}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {value: canary-of-a-token}
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '>=1'}, interval: 24h, insecure: true}
    ports: [{name: http, port: 8080}]
  credentials:
  - {name: hook, type: webhook, secretRef: {name: hook, key: value}}
  - {name: git, type: git, secretRef: {name: token, key: value}}
  webhooks: [{name: github, source: github, credentials: [hook]}]
";

const PREVIEWS: &str = "  previews:
    provider: github
    repository: acme/shop
    api: 'http://PROVIDER'
    credential: git
    interval: 24h
    tag: 'pr-{number}'
";

const NAME: &str = "shop-pr-42";

/// A project whose repository is watched; the image of a pull request is there already.
pub async fn watched(scene: &Scene) {
    scene.push("pr-42").await;
    scene.apply(PROJECT).await;
    scene.start().await;
    let is = async |condition: &str, reason: &str| {
        let status = scene.env.api::<Project>().get("shop").await.ok()?.status?;
        (conditions::get(&status.conditions, condition)?.reason == reason).then_some(())
    };
    // Without its token it is not asked for a minute.
    scene.wait("the token is stored", async || is("CredentialsReady", "Stored").await).await;
    scene.apply(&[PROJECT, &PREVIEWS.replace("PROVIDER", scene.provider_address())].concat()).await;
    scene.wait("the repository is watched", async || is("PreviewsReady", "Watching").await).await;
}

/// It is opened, and all that is to be told is told.
pub async fn open(scene: &Scene) {
    let opened = pull(42, 1, 'a');
    scene.provider.put(opened.clone());
    tell(scene, "opened", &opened).await;
    until(scene, NAME, "Ready", |status| status.phase.as_deref() == Some("Ready")).await;
    until_told(scene, "is ready", "success").await;
}

/// A pull request with an environment that is told of.
pub async fn previewed(scene: &Scene) {
    watched(scene).await;
    open(scene).await;
}

/// It is closed.
pub async fn close(scene: &Scene) {
    let closed = closed(pull(42, 1, 'a'), 2);
    scene.provider.put(closed.clone());
    tell(scene, "closed", &closed).await;
    until_gone(scene, NAME).await;
    until_told(scene, "has ended", "").await;
}

/// Waits until the comment says this, the commit has this status, and nothing more is to be told.
async fn until_told(scene: &Scene, comment: &str, state: &str) {
    let told = async || {
        let due = scene.number("SELECT count(*) FROM outbox WHERE next_at IS NOT NULL").await;
        let provider = scene.provider.state();
        let says = provider.comments.values().any(|text| text.contains(comment));
        let stands = state.is_empty() || provider.statuses.last().is_some_and(|last| last["state"] == state);
        (due == 0 && says && stands).then_some(())
    };
    scene.wait(&format!("the provider is told that it {comment}"), told).await;
}

/// What GitHub sends, signed, as often as it takes.
async fn tell(scene: &Scene, action: &str, pull: &Value) {
    let body = json!({
        "action": action, "number": pull["number"], "pull_request": pull,
        "repository": {"full_name": "Acme/Shop"}, "sender": {"login": "jane"},
    })
    .to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let headers =
        [("x-github-event", "pull_request"), ("x-hub-signature-256", &*signature), ("x-github-delivery", action)];
    scene.deliver(&headers, &body).await;
}
