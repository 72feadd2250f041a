//! A real API server with our definitions on it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

/// How long the API server may take to serve a definition, or to follow one that changed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A client for the cluster that `make test` started.
pub async fn client() -> Client {
    let path = std::env::var("STAGEKEEPER_TEST_KUBECONFIG").expect(
        "STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs a real API server, `make test` starts one and sets it",
    );
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a cluster");
    Client::try_from(config).expect("a client")
}

/// Applies our definitions and waits until they are served. They belong to the whole cluster and stay.
pub async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in stagekeeper::api::crds() {
        let name = crd.name_any();
        let params = PatchParams::apply("stagekeeper-tests").force();
        api.patch(&name, &params, &Patch::Apply(&crd)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await.expect("served in time").expect("watched");
    }
}

/// An empty namespace of this test's own.
pub async fn namespace(client: &Client, name: &str) -> String {
    let name = format!("crds-{name}-{}", std::process::id());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
    name
}

/// Removes a namespace with what is in it.
pub async fn remove(client: &Client, namespace: &str) {
    Api::<Namespace>::all(client.clone()).delete(namespace, &DeleteParams::default()).await.expect("deleted");
}

/// Objects of one of our kinds, in any shape.
pub fn untyped(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(stagekeeper::api::GROUP, stagekeeper::api::VERSION, kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&gvk))
}

/// An object of one of our kinds.
pub fn object(kind: &str, name: &str, spec: &Value) -> DynamicObject {
    let mut object = json!({
        "apiVersion": format!("{}/{}", stagekeeper::api::GROUP, stagekeeper::api::VERSION),
        "kind": kind,
        "metadata": {"name": name},
    });
    object["spec"] = spec.clone();
    serde_json::from_value(object).unwrap()
}

/// Asks the API server what it would store, without storing it. Unknown and repeated fields are refused.
pub async fn dry_run(client: &Client, namespace: &str, object: &DynamicObject) -> kube::Result<DynamicObject> {
    let kind = object.types.as_ref().expect("a kind").kind.as_str();
    let url = untyped(client, namespace, kind).resource_url().to_owned();
    let request = http::Request::post(format!("{url}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    client.request(request).await
}

/// What the API server found wrong: `field: message` of each cause.
pub fn causes(error: &kube::Error) -> Vec<String> {
    let kube::Error::Api(status) = error else { panic!("not an answer of the API server: {error}") };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut found: Vec<_> = causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    if found.is_empty() {
        found.push(format!(": {}", status.message));
    }
    found
}

/// Tries until nothing is wrong any more: after a definition has changed, the API server takes a moment to follow.
pub async fn eventually<T: Debug, F: Future<Output = Vec<T>>>(check: impl Fn() -> F) {
    let started = Instant::now();
    loop {
        let wrong = check().await;
        if wrong.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{} of the cases are wrong:\n{wrong:#?}", wrong.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
