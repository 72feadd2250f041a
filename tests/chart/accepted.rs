//! A real API server takes every object of every rendering, and pods pass the restricted Pod Security Standard, which a namespace
//! enforces. Nothing is stored.

use std::{collections::BTreeSet, env};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{Scope, oneshot::pinned_kind},
};
use serde_json::{Value, json};

use super::helm::{MATRIX, objects};

/// Kinds of others, whose definitions are not on the cluster: of these only the rendering is tested.
const FOREIGN: [&str; 3] = ["Cluster", "PrometheusRule", "ServiceMonitor"];

async fn client() -> Client {
    let path = env::var("STAGEKEEPER_TEST_KUBECONFIG").expect(
        "STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs an API server, `make test` starts one and sets it",
    );
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// What the API server would store.
async fn try_out(client: &Client, namespace: &str, object: &Value) -> Result<(), String> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let gvk = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let (resource, capabilities) = pinned_kind(client, &gvk).await.map_err(|error| error.to_string())?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let params = PatchParams {
        dry_run: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("chart-tests").force()
    };
    let tried = api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await;
    tried.map(|_| ()).map_err(|error| error.to_string())
}

/// The pod that a workload would make, as the namespace's own account: accounts of the release are not there.
fn pod_of(object: &Value) -> Option<Value> {
    let (metadata, spec) = match object["kind"].as_str()? {
        "Pod" => (json!({}), object["spec"].clone()),
        "Deployment" | "Job" | "StatefulSet" => {
            let template = &object["spec"]["template"];
            (template["metadata"].clone(), template["spec"].clone())
        }
        _ => return None,
    };
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    pod["metadata"]["name"] = object["metadata"]["name"].clone();
    pod["spec"]["serviceAccountName"] = json!("default");
    // What a claim's template makes is a volume of the pod.
    for claim in object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        pod["spec"]["volumes"]
            .as_array_mut()?
            .push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    }
    Some(pod)
}

#[tokio::test]
async fn every_object_of_every_rendering() {
    let client = client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = format!("chart-{}", std::process::id());
    let restricted =
        json!({"metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(restricted).unwrap()).await.unwrap();
    let mut foreign = BTreeSet::new();
    let mut wrong = Vec::new();
    let (mut taken, mut pods) = (0, 0);
    for (name, values) in MATRIX {
        for object in objects(&namespace, values) {
            let kind = object["kind"].as_str().unwrap();
            if let Some(kind) = FOREIGN.iter().find(|foreign| **foreign == kind) {
                foreign.insert(*kind);
                continue;
            }
            // The test's pod is a pod already, of an account that is not there.
            if kind != "Pod" {
                taken += 1;
                if let Err(why) = try_out(&client, &namespace, &object).await {
                    wrong.push(format!("{name}: {kind} {}: {why}", object["metadata"]["name"]));
                }
            }
            if let Some(pod) = pod_of(&object) {
                pods += 1;
                if let Err(why) = try_out(&client, &namespace, &pod).await {
                    wrong.push(format!("{name}: a pod of {kind} {}: {why}", object["metadata"]["name"]));
                }
            }
        }
    }
    // The namespace does refuse what is not restricted: else it would prove nothing.
    let loose = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose"},
        "spec": {"containers": [{"name": "loose", "image": "loose", "securityContext": {"privileged": true}}]},
    });
    let refused = try_out(&client, &namespace, &loose).await.unwrap_err();
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    assert!(refused.contains("violates PodSecurity"), "{refused}");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert_eq!(foreign.into_iter().collect::<Vec<_>>(), FOREIGN);
    assert!(taken > 300 && pods > 50, "{taken} objects, {pods} pods");
}
