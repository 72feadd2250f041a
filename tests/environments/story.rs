//! The whole story of a pull request, on a real node: a signed webhook, an image, a URL that answers through the edge, a new
//! commit without a failed request, sleep, a request that wakes, and the end with nothing left but the history.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use sha2::Sha256;
use stagekeeper::api::{Environment, Project, conditions};

use crate::{
    cluster::DEADLINE,
    proxy::Edge,
    stand::{PREVIEWS, Stand},
};

/// How often each is timed.
const ROUNDS: usize = 3;

const SECRET: &str = "what the provider signs with";

const SHOP: &str = "
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData: {value: what the provider signs with}
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '>=1.0.0'}, interval: 1s, insecure: true}
    ports: [{name: http, port: 8080}]
    health: {http: {path: /healthz}, interval: 250ms, timeout: 10s}
    resources: {requests: {cpu: 5m, memory: 8Mi}}
  credentials: [{name: hook, type: webhook, secretRef: {name: hook, key: value}}]
  webhooks: [{name: github, source: github, credentials: [hook]}]
  previews: {provider: github, repository: acme/shop, tag: 'pr-{number}-{short_sha}'}
";

impl Stand {
    /// Says what GitHub says of pull request 42 at a commit, signed.
    async fn github(&self, action: &str, sha: &str, state: &str, minute: u8) {
        let path = self
            .env
            .wait("the project has its webhook", DEADLINE, async || {
                let status = self.env.api::<Project>().get("shop").await.ok()?.status?;
                let ready = conditions::get(&status.conditions, "CredentialsReady")?.status == "True";
                status.webhooks.first().map(|webhook| webhook.path.clone()).filter(|_| ready)
            })
            .await;
        let at = format!("2026-11-22T10:{minute:02}:00Z");
        let repository = json!({"full_name": "acme/shop"});
        let body = json!({
            "action": action, "number": 42, "repository": repository, "sender": {"login": "jane"},
            "pull_request": {
                "number": 42, "state": state, "title": "Sell more", "draft": false, "merged": false,
                "created_at": "2026-11-22T10:00:00Z", "updated_at": at,
                "closed_at": (state == "closed").then_some(&at),
                "user": {"login": "jane"}, "labels": [],
                "head": {"ref": "feat/more", "sha": sha, "repo": repository},
                "base": {"ref": "main", "sha": "0".repeat(40), "repo": repository},
            },
        })
        .to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(body.as_bytes());
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let url = format!("{}{path}", self.operator.address);
        let request = self.env.http.post(url).header("x-github-event", "pull_request");
        let answer = request.header("x-hub-signature-256", signature).body(body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202);
    }
}

/// How long a request to what sleeps waits for its answer, and how long a pod takes that is made of the same template by
/// itself: the shortest of each, by turns, as only what the machine does meanwhile makes them longer.
async fn race(stand: &Stand, edge: &Edge, name: &str, place: &str, host: &str) -> (Duration, Duration) {
    let env = &stand.env;
    let deployments: Api<Deployment> = Api::namespaced(env.client.clone(), place);
    let pods: Api<Pod> = Api::namespaced(env.client.clone(), place);
    let template = deployments.list(&ListParams::default()).await.expect("workloads").items.remove(0);
    let template = template.spec.expect("a spec").template.spec.expect("a pod");
    let (mut woken, mut cold) = (Duration::MAX, Duration::MAX);
    for turn in 0..ROUNDS {
        let pod = Pod {
            metadata: ObjectMeta { name: Some(format!("cold-{turn}")), ..ObjectMeta::default() },
            spec: Some(template.clone()),
            status: None,
        };
        let begun = Instant::now();
        let pod = pods.create(&PostParams::default(), &pod).await.expect("a pod").name_any();
        let ready = |pod: Option<&Pod>| {
            let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        };
        let waited = tokio::time::timeout(DEADLINE, await_condition(pods.clone(), &pod, ready)).await;
        waited.expect("in time").expect("the pod is watched");
        cold = cold.min(begun.elapsed());
        pods.delete(&pod, &DeleteParams::default().grace_period(0)).await.expect("it is deleted");

        stand.cli(&["sleep", name]).await;
        stand.until_phase(name, "Asleep").await;
        env.wait("no pod is left", DEADLINE, async || (stand.all_pods(place).await == 0).then_some(())).await;
        let begun = Instant::now();
        assert_eq!(edge.get(host).await.map(|(code, _)| code), Ok(200));
        woken = woken.min(begun.elapsed());
        stand.until_phase(name, "Ready").await;
    }
    (woken, cold)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_pull_request_from_its_first_commit_to_its_end() {
    const NAME: &str = "shop-pr-42";
    let (first, second) = ("1".repeat(40), "2".repeat(40));
    let keys = format!("2026:{}", "1c".repeat(32));
    let stand = Stand::with("story", &[("STAGEKEEPER_ENCRYPTION_KEYS", &keys)]).await;
    let env = &stand.env;
    env.apply(SHOP).await;
    let edge = Edge::start(env).await;

    stand.github("opened", &first, "open", 1).await;
    stand
        .until(NAME, "it waits for the image of its first commit", |status| {
            conditions::get(&status.stage.conditions, "Ready").is_some_and(|ready| ready.reason == "ImageNotPushed")
        })
        .await;
    env.push("web", "pr-42-1111111", &[("APP_VERSION", "one")]).await;
    let ready = stand.until_phase(NAME, "Ready").await;
    let host = ready.hosts[0].host.clone();
    assert!(host.starts_with("pr-42-") && host.ends_with(".preview.test"), "{host}");
    assert_eq!(ready.stage.url.as_deref(), Some(PREVIEWS.replace("preview.test", &host).as_str()));
    let answer =
        env.wait("its URL answers", DEADLINE, async || edge.get(&host).await.ok().filter(|(code, _)| *code == 200));
    assert_eq!(answer.await.1, "shop one");

    // A new commit takes over under the eyes of its visitors.
    stand.github("synchronize", &second, "open", 2).await;
    let moved = async {
        env.push("web", "pr-42-2222222", &[("APP_VERSION", "two")]).await;
        let what = "the second commit runs";
        stand
            .until(NAME, what, |status| {
                status.phase.as_deref() == Some("Ready") && status.stage.images.as_deref() == Some("web:pr-42-2222222")
            })
            .await
    };
    let mut wrong = Vec::new();
    let mut answers = std::collections::BTreeMap::<String, u32>::new();
    let visits = async {
        loop {
            match edge.get(&host).await {
                Ok((200, line)) => *answers.entry(line).or_default() += 1,
                other => wrong.push(format!("{other:?}")),
            }
        }
    };
    tokio::select! {
        _ = moved => {}
        () = visits => {}
    }
    assert_eq!(wrong, [""; 0], "{answers:?}");
    assert!(answers.contains_key("shop one"), "{answers:?}");
    let only_two = async || (edge.get(&host).await.ok()?.1 == "shop two").then_some(());
    env.wait("the second commit alone answers", DEADLINE, only_two).await;

    // Asleep it has no pod; a request waits until it has one again.
    stand.cli(&["sleep", NAME]).await;
    let asleep = stand.until_phase(NAME, "Asleep").await;
    let place = asleep.namespace.unwrap();
    env.wait("no pod is left", DEADLINE, async || (stand.all_pods(&place).await == 0).then_some(())).await;
    let woken =
        env.wait("a request wakes it", DEADLINE, async || edge.get(&host).await.ok().filter(|(code, _)| *code == 200));
    assert_eq!(woken.await.1, "shop two");

    let (woken, cold) = race(&stand, &edge, NAME, &place, &host).await;
    println!("a request to what sleeps {woken:?}, a pod of its own {cold:?}");
    assert!(woken <= cold * 2, "a request waits {woken:?} for what sleeps, a pod takes {cold:?} to start");

    // Its end.
    stand.github("closed", &second, "closed", 3).await;
    stand.until_gone(NAME).await;
    stand.until_namespace_gone(&place).await;
    env.wait("its host is gone", DEADLINE, async || (edge.get(&host).await.ok()?.0 == 410).then_some(())).await;
    let history = env.deploys(NAME).await;
    assert_eq!(history.len(), 2, "the history stays: {history:?}");
    assert_eq!(env.list::<Environment>().await.len(), 0);
}
