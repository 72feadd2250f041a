//! What plans stand on: a cluster whose only node is played by this program, so that pods cost nothing, and a registry with
//! images that hold nothing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use http::{StatusCode, header};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::{cluster, cluster::Env, images, throwaway::Throwaway};

/// Name of the node.
const NODE: &str = "played";

/// How often the node says that it is there: sooner than the cluster gives it up.
const BEAT: Duration = Duration::from_secs(10);

/// A cluster of the matrix' own, with its node.
pub struct Ground {
    own: Throwaway,
    spoilt: Spoilt,
    _node: JoinSet<()>,
}

/// Digests of images whose containers crash.
type Spoilt = Arc<Mutex<BTreeSet<String>>>;

impl Ground {
    /// Starts a cluster whose name begins with `word`.
    pub async fn up(word: &str) -> Self {
        let own = Throwaway::up(word, "api").await;
        let client = cluster::client(own.kubeconfig()).await;
        let spoilt = Spoilt::default();
        let mut node = JoinSet::new();
        register(&client).await;
        node.spawn(beat(client.clone()));
        node.spawn(run_pods(client, spoilt.clone()));
        Self { own, spoilt, _node: node }
    }

    /// A namespace and a database on it.
    pub async fn env(&self, name: &str) -> Env {
        Env::on(name, self.own.kubeconfig(), self.own.postgres()).await
    }

    /// Containers of the image with this digest crash, again and again.
    pub fn spoil(&self, digest: &str) {
        self.spoilt.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.to_owned());
    }
}

/// Makes the node's object, unless an interrupted run has left it.
async fn register(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = Node { metadata: ObjectMeta { name: Some(NODE.into()), ..ObjectMeta::default() }, ..Node::default() };
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made.expect("the node is made")),
    }
}

/// Says again and again that the node is well and has room.
async fn beat(client: Client) {
    let nodes: Api<Node> = Api::all(client);
    loop {
        let now = jiff_now();
        let room = json!({"cpu": "10000", "memory": "100Ti", "pods": "100000"});
        let well = json!({
            "type": "Ready", "status": "True", "reason": "Played", "message": "played by a test",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        });
        let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [well]}});
        // The cluster may be going.
        let _ = nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await;
        tokio::time::sleep(BEAT).await;
    }
}

fn jiff_now() -> String {
    use stagekeeper::domain::clock::{Clock as _, SystemClock};
    SystemClock.now().to_string()
}

/// Does with each pod what a node would do, at once.
async fn run_pods(client: Client, spoilt: Spoilt) {
    let here = watcher::Config::default().fields(&format!("spec.nodeName={NODE}"));
    let pods = watcher(Api::<Pod>::all(client.clone()), here).default_backoff().applied_objects();
    pods.for_each_concurrent(8, |pod| {
        let (client, spoilt) = (client.clone(), spoilt.clone());
        async move {
            let Ok(pod) = pod else { return };
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
            let name = pod.name_any();
            // It may be gone meanwhile, which is as good.
            if pod.metadata.deletion_timestamp.is_some() {
                let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
            } else if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending") {
                let status = status(&pod, &spoilt.lock().unwrap_or_else(PoisonError::into_inner));
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
            }
        }
    })
    .await;
}

/// What becomes of a pod: that of a Job has ended well, one of a spoilt image crashes, any other one is ready.
fn status(pod: &Pod, spoilt: &BTreeSet<String>) -> Value {
    let now = jiff_now();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let is_of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    let crashes = containers.clone().any(|container| {
        let digest = container.image.as_deref().and_then(|image| image.split_once('@')).map(|(_, digest)| digest);
        digest.is_some_and(|digest| spoilt.contains(digest))
    });
    let ended = |code: i32| json!({"exitCode": code, "startedAt": now, "finishedAt": now, "reason": if code == 0 { "Completed" } else { "Error" }});
    let state = match (is_of_job, crashes) {
        (true, _) => json!({"terminated": ended(0)}),
        (_, true) => json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}}),
        _ => json!({"running": {"startedAt": now}}),
    };
    let restarts = if crashes { 5 } else { 0 };
    let ready = !is_of_job && !crashes;
    let statuses = containers.map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": container.image, "ready": ready, "state": state,
            "started": ready, "restartCount": restarts,
            "lastState": if crashes { json!({"terminated": ended(1)}) } else { json!({}) },
        })
    });
    let holds = |is: bool| if is { "True" } else { "False" };
    let condition = |kind: &str, is: bool| json!({"type": kind, "status": holds(is), "lastTransitionTime": now});
    json!({"status": {
        "phase": if is_of_job { "Succeeded" } else { "Running" },
        "podIP": "192.0.2.1", "startTime": now,
        "conditions": [
            condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", ready), condition("Ready", ready),
        ],
        "containerStatuses": statuses.collect::<Vec<_>>(),
    }})
}

/// Pushes an image that holds nothing but its own name. Gives the digest.
pub async fn push(repository: &str, tag: &str) -> String {
    let (host, name) = repository.split_once('/').expect("HOST/NAME");
    assert_eq!(host, images::registry());
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let config = json!({
        "created": "2026-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
        "config": {"Env": [format!("NAME={name}:{tag}")]}, "rootfs": {"type": "layers", "diff_ids": []},
    })
    .to_string();
    let config_digest = digest(&config);
    let begun = http.post(format!("http://{host}/v2/{name}/blobs/uploads/")).send().await.expect("an upload");
    let place = begun.headers()[header::LOCATION].to_str().expect("an address").to_owned();
    let place = if place.starts_with('/') { format!("http://{host}{place}") } else { place };
    let mark = if place.contains('?') { '&' } else { '?' };
    let put = http.put(format!("{place}{mark}digest={config_digest}")).body(config.clone());
    let put = put.header(header::CONTENT_TYPE, "application/octet-stream").send().await.expect("an answer");
    assert_eq!(put.status(), StatusCode::CREATED, "the configuration of {repository}:{tag}");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
    })
    .to_string();
    let put = http.put(format!("http://{host}/v2/{name}/manifests/{tag}")).header(header::CONTENT_TYPE, kind);
    let put = put.body(manifest.clone()).send().await.expect("an answer");
    let status = put.status();
    assert_eq!(status, StatusCode::CREATED, "{repository}:{tag}: {}", put.text().await.unwrap_or_default());
    digest(&manifest)
}

fn digest(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}
