//! Writing is repeatable, exact, and seen.

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;
use stagekeeper::cluster::apply::Doomed;
use stagekeeper::cluster::error::Class;

use super::server::{World, eventually};

fn service(world: &World, port: u16) -> Service {
    serde_json::from_value(json!({
        "metadata": world.metadata("dev", "web"),
        "spec": {"selector": {"app": "web"}, "ports": [{"port": port}]},
    }))
    .unwrap()
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let world = World::new("same").await;
    let first = world.writer.apply(&service(&world, 80)).await.unwrap();
    let again = world.writer.apply(&service(&world, 80)).await.unwrap();
    assert_eq!(again, first);
    let changed = world.writer.apply(&service(&world, 81)).await.unwrap();
    assert_eq!(changed.uid, first.uid);
    assert_ne!(changed.resource_version, first.resource_version);
    let children = world.index.stage(&world.key("dev"));
    assert_eq!(*children.service("web").unwrap().ports, [("".into(), 81)]);
    world.end().await;
}

#[tokio::test]
async fn fields_that_are_not_given_any_more_are_taken_back() {
    let world = World::new("back").await;
    let map =
        |data| ConfigMap { metadata: world.metadata("dev", "settings"), data: Some(data), ..ConfigMap::default() };
    world.writer.apply(&map([("a".into(), "1".into()), ("b".into(), "2".into())].into())).await.unwrap();
    world.writer.apply(&map([("a".into(), "1".into())].into())).await.unwrap();
    let stored = world.api::<ConfigMap>().get("settings").await.unwrap();
    assert_eq!(stored.data, Some([("a".to_owned(), "1".to_owned())].into()));
    world.end().await;
}

#[tokio::test]
async fn only_the_object_that_is_meant_is_deleted() {
    let world = World::new("meant").await;
    let applied = world.writer.apply(&service(&world, 80)).await.unwrap();
    let doomed = |uid| Doomed { namespace: &world.namespace, name: "web", uid };
    world.writer.delete::<Service>(doomed(Some("00000000-0000-0000-0000-000000000000"))).await.unwrap();
    assert!(world.api::<Service>().get_opt("web").await.unwrap().is_some(), "another of that name is left alone");
    assert!(world.index.stage(&world.key("dev")).service("web").is_some());

    world.writer.delete::<Service>(doomed(Some(&applied.uid))).await.unwrap();
    assert!(world.index.stage(&world.key("dev")).service("web").is_none(), "seen at once");
    assert!(world.api::<Service>().get_opt("web").await.unwrap().is_none());
    world.writer.delete::<Service>(doomed(Some(&applied.uid))).await.unwrap();
    world.writer.delete::<Service>(doomed(None)).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn what_a_finalizer_holds_is_seen_as_ending() {
    let world = World::new("held").await;
    let mut held = service(&world, 80);
    held.metadata.finalizers = Some(vec!["stagekeeper.dev/test".into()]);
    let applied = world.writer.apply(&held).await.unwrap();
    let doomed = Doomed { namespace: &world.namespace, name: "web", uid: Some(&applied.uid) };
    world.writer.delete::<Service>(doomed).await.unwrap();
    assert!(world.index.stage(&world.key("dev")).service("web").unwrap().meta.deleting);

    let stored = world.api::<Service>().get("web").await.unwrap();
    let stale = Service {
        metadata: kube::api::ObjectMeta { resource_version: Some("1".into()), ..stored.metadata.clone() },
        ..stored.clone()
    };
    let err = world.writer.set_finalizers(&stale, &[]).await.unwrap_err();
    assert_eq!(err.class(), Class::Conflict, "{err}");
    world.writer.set_finalizers(&stored, &[]).await.unwrap();
    eventually("its end", || world.index.stage(&world.key("dev")).is_empty().then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn a_status_goes_to_the_very_object() {
    let world = World::new("status").await;
    let ingress: Ingress = serde_json::from_value(json!({
        "metadata": world.metadata("dev", "web"),
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    }))
    .unwrap();
    world.writer.apply(&ingress).await.unwrap();
    assert!(!world.index.stage(&world.key("dev")).ingress("web").unwrap().accepted);
    let mut stored = world.api::<Ingress>().get("web").await.unwrap();
    let status = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
    let first = world.writer.apply_status(&stored, &status).await.unwrap();
    assert_eq!(world.writer.apply_status(&stored, &status).await.unwrap(), first, "the same again");
    eventually("it is accepted", || {
        world.index.stage(&world.key("dev")).ingress("web").filter(|route| route.accepted).map(|_| ())
    })
    .await;

    stored.metadata.uid = Some("00000000-0000-0000-0000-000000000000".into());
    let err = world.writer.apply_status(&stored, &status).await.unwrap_err();
    assert_eq!(err.class(), Class::Conflict, "{err}");
    let nobody = Ingress { metadata: world.metadata("dev", "nobody"), ..Ingress::default() };
    let err = world.writer.apply_status(&nobody, &status).await.unwrap_err();
    assert_eq!(err.class(), Class::NotFound, "{err}");
    world.end().await;
}

#[tokio::test]
async fn a_secret_is_written_and_its_content_stays_there() {
    let world = World::new("secret").await;
    let secret = |value: &str| Secret {
        metadata: world.metadata("dev", "keys"),
        string_data: Some([("token".to_owned(), value.to_owned())].into()),
        ..Secret::default()
    };
    world.writer.apply(&secret("canary-1")).await.unwrap();
    let stored = world.api::<Secret>().get("keys").await.unwrap();
    assert_eq!(stored.data.unwrap()["token"].0, b"canary-1");
    let children = world.index.stage(&world.key("dev"));
    assert!(!format!("{children:?}").contains("canary"), "only its marks are remembered");
    assert!(children.secret("keys").is_some());

    let mut bad = secret("canary-2");
    bad.type_ = Some("kubernetes.io/dockerconfigjson".into());
    let err = world.writer.apply(&bad).await.unwrap_err();
    assert_eq!(err.class(), Class::Invalid, "{err}");
    assert!(!format!("{err:?} {err}").contains("canary"), "{err}");
    world.end().await;
}
