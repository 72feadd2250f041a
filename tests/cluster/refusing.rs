//! The API server's real refusals are told apart.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde_json::{Value, json};
use stagekeeper::api::labels;
use stagekeeper::cluster::apply::Writer;
use stagekeeper::cluster::error::{ApiError, Class};
use stagekeeper::cluster::index::{Index, Scope};
use tokio_util::task::AbortOnDropHandle;

use super::server::{World, clients, config, eventually, within};

/// A Deployment of any shape.
#[derive(Debug, Clone, Serialize)]
struct Shape {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    spec: Value,
}

impl Resource for Shape {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Deployment::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        Deployment::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        Deployment::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        Deployment::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn shape(world: &World, change: impl FnOnce(&mut Value)) -> Shape {
    let mut spec = json!({
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nowhere.invalid/none:1"}]},
        },
    });
    change(&mut spec);
    Shape { api_version: "apps/v1", kind: "Deployment", metadata: world.metadata("dev", "web"), spec }
}

fn service(world: &World) -> Service {
    serde_json::from_value(json!({
        "metadata": world.metadata("dev", "web"),
        "spec": {"ports": [{"port": 80}]},
    }))
    .unwrap()
}

fn assert_says(err: &ApiError, class: Class, parts: &[&str]) {
    assert_eq!(err.class(), class, "{err}");
    for part in parts {
        assert!(err.to_string().contains(part), "`{part}` in: {err}");
    }
}

#[tokio::test]
async fn what_does_not_fit_names_its_field() {
    let world = World::new("unfit").await;
    world.writer.apply(&shape(&world, |_| {})).await.expect("as it is, it fits");
    let misspelt = shape(&world, |spec| spec["template"]["spec"]["contaners"] = json!([]));
    let err = world.writer.apply(&misspelt).await.unwrap_err();
    assert_says(&err, Class::Invalid, &["spec.template.spec.contaners", "deployments web in namespace"]);
    let mistyped = shape(&world, |spec| spec["replicas"] = json!("many"));
    let err = world.writer.apply(&mistyped).await.unwrap_err();
    assert_says(&err, Class::Invalid, &["replicas"]);
    let forbidden = shape(&world, |spec| spec["replicas"] = json!(-1));
    let err = world.writer.apply(&forbidden).await.unwrap_err();
    assert_says(&err, Class::Invalid, &["spec.replicas", "greater than or equal to 0"]);
    world.end().await;
}

#[tokio::test]
async fn without_permission_the_missing_verb_is_named() {
    let world = World::new("rbac").await;
    let mut powerless = config().await;
    powerless.auth_info.impersonate = Some(format!("system:serviceaccount:{}:nobody", world.namespace));
    let (clients, _) = clients(powerless);
    let index = Index::new(&Scope::Namespaces(vec![world.namespace.clone()]));
    let writer = Writer::new(clients.general.clone(), index.clone());
    let place = format!("in namespace {}", world.namespace);
    let mut object = service(&world);
    let err = writer.apply(&object).await.unwrap_err();
    assert_says(&err, Class::Forbidden, &["may not get services", &place, "API group core"]);
    object.metadata.labels.get_or_insert_default().insert(labels::INSTANCE.into(), "blue".into());
    let err = writer.apply(&object).await.unwrap_err();
    assert_says(&err, Class::Forbidden, &["may not create and patch services", &place, "API group core"]);

    let watching = index.clone();
    let _watching = AbortOnDropHandle::new(tokio::spawn(async move { watching.run(clients.general).await }));
    // Trouble is reported after a while of silence; here only that nothing counts as seen.
    let synced = tokio::time::timeout(std::time::Duration::from_secs(2), index.synced()).await;
    assert!(synced.is_err(), "what may not be listed is not known");
    world.end().await;
}

#[tokio::test]
async fn a_used_up_quota_is_one() {
    let world = World::new("quota").await;
    let quota = serde_json::from_value(json!({
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/services": "0"}},
    }))
    .unwrap();
    let api: Api<k8s_openapi::api::core::v1::ResourceQuota> = world.api();
    api.create(&PostParams::default(), &quota).await.unwrap();
    within("the quota counts", async {
        loop {
            let status = api.get("none").await.unwrap().status;
            if status.is_some_and(|status| status.hard.is_some_and(|hard| !hard.is_empty())) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let err = world.writer.apply(&service(&world)).await.unwrap_err();
    assert_says(&err, Class::Quota, &["does not fit the namespace's quota", "exceeded quota: none"]);
    world.end().await;
}

#[tokio::test]
async fn a_namespace_that_ends_or_never_was_is_told() {
    let world = World::new("ending").await;
    let elsewhere = Service {
        metadata: ObjectMeta { namespace: Some("no-such-namespace".into()), ..world.metadata("dev", "web") },
        ..service(&world)
    };
    let err = world.writer.apply(&elsewhere).await.unwrap_err();
    assert_says(&err, Class::NamespaceMissing, &["no-such-namespace", "does not exist"]);

    // Something that holds the namespace in its end.
    let mut anchor = ConfigMap { metadata: world.metadata("dev", "anchor"), ..ConfigMap::default() };
    anchor.metadata.finalizers = Some(vec!["stagekeeper.dev/test".into()]);
    world.writer.apply(&anchor).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let err = world.writer.apply(&service(&world)).await.unwrap_err();
    assert_says(&err, Class::Terminating, &["is being deleted"]);
    let free = json!({"metadata": {"finalizers": []}});
    world.api::<ConfigMap>().patch("anchor", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
}

#[tokio::test]
async fn a_kind_without_definition_is_not_served() {
    #[derive(kube::CustomResource, Serialize, serde::Deserialize, Clone, Debug, schemars::JsonSchema)]
    #[kube(group = "nowhere.stagekeeper.dev", version = "v1", kind = "Nothing", namespaced)]
    struct NothingSpec {}

    let world = World::new("unserved").await;
    let mut nothing = Nothing::new("web", NothingSpec {});
    nothing.metadata = world.metadata("dev", "web");
    let err = world.writer.apply(&nothing).await.unwrap_err();
    assert_says(&err, Class::NotServed, &["nothings", "CustomResourceDefinition"]);
    eventually("the cluster has no gateway API, and the index is synced all the same", || {
        world.index.is_synced().then_some(())
    })
    .await;
    world.end().await;
}
