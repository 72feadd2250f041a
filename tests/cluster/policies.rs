//! The roles and admission policies of `examples/operator` on a real API server, and people to try them.

use std::{fs, path::Path};

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRole, RoleBinding},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::oneshot::pinned_kind,
    runtime::wait::{await_condition, conditions},
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::server::{config, within};

/// The documents of a file in `examples/operator`.
pub fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/operator").join(file);
    let text = fs::read_to_string(&path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// Applies something that belongs to the whole cluster.
pub async fn apply(client: &Client, document: &Value) {
    let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
    let gvk = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let (resource, _) = pinned_kind(client, &gvk).await.unwrap();
    let name = object.name_any();
    let params = PatchParams::apply("stagekeeper-tests").force();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Our definitions and the four roles.
pub async fn install(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in stagekeeper::api::crds() {
        let name = definition.name_any();
        let params = PatchParams::apply("stagekeeper-tests").force();
        definitions.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap();
        within(&name, await_condition(definitions.clone(), &name, conditions::is_crd_established())).await.unwrap();
    }
    for role in documents("roles.yaml") {
        apply(client, &role).await;
    }
}

/// The policies of a file, under names of a namespace's own and for that namespace only: other tests go on as they do.
pub async fn guard(client: &Client, namespace: &str, file: &str) {
    for mut document in documents(file) {
        let of = |name: &Value| json!(format!("{}-{namespace}", name.as_str().unwrap()));
        document["metadata"]["name"] = of(&document["metadata"]["name"]);
        if document["spec"]["policyName"].is_string() {
            document["spec"]["policyName"] = of(&document["spec"]["policyName"]);
            let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
            document["spec"]["matchResources"] = json!({"namespaceSelector": selector});
        }
        apply(client, &document).await;
    }
}

/// A client that acts as somebody else.
pub async fn client_of(user: &str, groups: &[&str]) -> Client {
    let mut config = config().await;
    config.auth_info.impersonate = Some(user.into());
    config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    Client::try_from(config).unwrap()
}

/// Lets a user do these things in a namespace: `(resource, verbs)` of our group.
pub async fn allow(client: &Client, namespace: &str, user: &str, rules: &[(&str, &[&str])]) {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(resource, verbs)| json!({"apiGroups": ["stagekeeper.dev"], "resources": [resource], "verbs": verbs}))
        .collect();
    let name = format!("{user}-{namespace}");
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
    let params = PatchParams::apply("stagekeeper-tests").force();
    Api::<ClusterRole>::all(client.clone()).patch(&name, &params, &Patch::Apply(&role)).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .unwrap();
    Api::<RoleBinding>::namespaced(client.clone(), namespace)
        .patch(&name, &params, &Patch::Apply(&binding))
        .await
        .unwrap();
}

/// Whether somebody may do something to an object of our group.
pub async fn may(client: &Client, user: (&str, &[&str]), verb: &str, resource: &str, namespace: &str) -> bool {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.0.into()),
            groups: Some(user.1.iter().map(|group| (*group).to_owned()).collect()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("stagekeeper.dev".into()),
                resource: Some(resource.into()),
                verb: Some(verb.into()),
                namespace: Some(namespace.into()),
                name: Some("prod".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}
