//! The index sees what happens, also what happened while it could not look.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use stagekeeper::api::labels;
use stagekeeper::cluster::{apply::Doomed, index::Kind};

use super::line::Line;
use super::server::{World, clients, config, eventually, within};

fn service(world: &World, name: &str, instance: &str) -> Service {
    let mut metadata = world.metadata("dev", name);
    metadata.labels.get_or_insert_default().insert(labels::INSTANCE.into(), instance.into());
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {labels::INSTANCE: instance}, "ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap()
}

fn selects(world: &World, name: &str) -> Option<String> {
    let children = world.index.stage(&world.key("dev"));
    children.service(name)?.selects.as_deref().map(str::to_owned)
}

#[tokio::test]
async fn what_others_do_arrives() {
    let world = World::new("arrives").await;
    let api = world.api::<Service>();
    let mut triggers = world.index.triggers();

    api.create(&PostParams::default(), &service(&world, "web", "blue")).await.unwrap();
    assert_eq!(within("a trigger", triggers.next()).await, Some(world.key("dev")));
    let children = world.index.stage(&world.key("dev"));
    let view = children.service("web").expect("it is there");
    assert!(view.cluster_ip.is_some(), "with the address that the API server gave it");
    assert_eq!(children.instances(), BTreeSet::from(["blue"]));
    assert_eq!(children.instance("blue").services().count(), 1);

    let green = json!({"spec": {"selector": {labels::INSTANCE: "green"}}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(&green)).await.unwrap();
    eventually("the change", || (selects(&world, "web")? == "green").then_some(())).await;

    api.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("the end", || world.index.stage(&world.key("dev")).is_empty().then_some(())).await;
    assert!(world.index.keys().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so() {
    let world = World::new("homeless").await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": world.metadata("dev", "homeless"),
        "spec": {
            "nodeSelector": {"no-such-node": "anywhere"},
            "containers": [{"name": "web", "image": "nowhere.invalid/none:1"}],
        },
    }))
    .unwrap();
    world.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    let said = eventually("the scheduler's verdict", || {
        let children = world.index.stage(&world.key("dev"));
        children.pods().find_map(|pod| pod.unschedulable.clone())
    })
    .await;
    assert!(said.contains("nodes are available"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn secrets_are_known_by_their_marks_alone() {
    let world = World::new("secrets").await;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": world.metadata("dev", "pull"),
        "stringData": {"password": "a-canary-that-nobody-reads"},
    }))
    .unwrap();
    let applied = world.writer.apply(&secret).await.unwrap();
    let seen = || world.index.stage(&world.key("dev")).secret("pull").map(|view| view.meta.uid.to_string());
    assert_eq!(seen().as_deref(), Some(applied.uid.as_str()), "at once, from the reply");
    world.api::<Secret>().delete("pull", &DeleteParams::default()).await.unwrap();
    eventually("gone", || seen().is_none().then_some(())).await;
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    let uid = eventually("made again", seen).await;
    let doomed = Doomed { namespace: &world.namespace, name: "pull", uid: Some(&uid) };
    world.writer.delete::<Secret>(doomed).await.unwrap();
    assert_eq!(seen(), None);
    world.end().await;
}

#[tokio::test]
async fn a_cut_line_loses_nothing() {
    let (line, through) = Line::to(config().await).await;
    let world = World::watching_through("cut", through).await;
    let api = world.api::<Service>();
    for name in ["kept", "deleted", "replaced"] {
        api.create(&PostParams::default(), &service(&world, name, "blue")).await.unwrap();
    }
    eventually("all three", || (world.index.stage(&world.key("dev")).len(Kind::Service) == 3).then_some(())).await;
    let uid = |name: &str| {
        let children = world.index.stage(&world.key("dev"));
        children.service(name).map(|view| view.meta.uid.clone())
    };
    let before = uid("replaced");

    line.cut();
    api.delete("deleted", &DeleteParams::default()).await.unwrap();
    api.delete("replaced", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &service(&world, "replaced", "blue")).await.unwrap();
    api.create(&PostParams::default(), &service(&world, "new", "blue")).await.unwrap();
    line.restore();

    eventually("the same as the server", || {
        let children = world.index.stage(&world.key("dev"));
        let names: Vec<_> = children.services().map(|view| view.meta.name.to_string()).collect();
        (names == ["kept", "new", "replaced"] && uid("replaced") != before).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_new_list_shows_what_was_deleted_meanwhile() {
    let mut world = World::new("relist").await;
    let api = world.api::<Service>();
    for name in ["kept", "deleted"] {
        api.create(&PostParams::default(), &service(&world, name, "blue")).await.unwrap();
    }
    eventually("both", || (world.index.stage(&world.key("dev")).len(Kind::Service) == 2).then_some(())).await;

    // Without its watch, the index learns of the deletion only by listing.
    world.watching = None;
    api.delete("deleted", &DeleteParams::default()).await.unwrap();
    assert_eq!(world.index.stage(&world.key("dev")).len(Kind::Service), 2);
    let mut triggers = world.index.triggers();
    while triggers.next().now_or_never().is_some() {}
    let (clients, counts) = clients(config().await);
    world.watch(clients.general);
    assert_eq!(within("a trigger", triggers.next()).await, Some(world.key("dev")));
    let children = world.index.stage(&world.key("dev"));
    assert_eq!(children.services().map(|view| &*view.meta.name).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(counts.writes(), 0);
    world.end().await;
}

#[tokio::test]
async fn an_older_event_never_overwrites_a_newer_reply() {
    let (line, through) = Line::to(config().await).await;
    let world = World::watching_through("replies", through).await;
    world.writer.apply(&service(&world, "web", "blue")).await.unwrap();
    assert_eq!(selects(&world, "web").as_deref(), Some("blue"), "a reply is read at once");
    eventually("everything delivered", || world.index.is_healthy().then_some(())).await;

    line.freeze();
    for instance in ["green", "red", "black"] {
        world.writer.apply(&service(&world, "web", instance)).await.unwrap();
        assert_eq!(selects(&world, "web").as_deref(), Some(instance));
    }
    world.writer.apply(&service(&world, "last", "blue")).await.unwrap();
    let api = world.api::<Service>();
    api.create(&PostParams::default(), &service(&world, "sentinel", "blue")).await.unwrap();
    line.restore();
    // The sentinel comes after everything that was held back.
    eventually("what was held back", || {
        assert_eq!(selects(&world, "web").as_deref(), Some("black"), "time never goes backwards");
        selects(&world, "sentinel")
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn our_own_echo_asks_for_nothing() {
    let world = World::new("echo").await;
    let mut triggers = world.index.triggers();
    world.writer.apply(&service(&world, "web", "blue")).await.unwrap();
    assert_eq!(triggers.next().now_or_never(), Some(Some(world.key("dev"))), "the reply itself is news");
    let other = json!({"metadata": {"labels": {labels::STAGE: "test", labels::MANAGED_BY: labels::FIELD_MANAGER}}});
    let mut sentinel = service(&world, "sentinel", "blue");
    sentinel.metadata.labels = serde_json::from_value(other["metadata"]["labels"].clone()).unwrap();
    world.api::<Service>().create(&PostParams::default(), &sentinel).await.unwrap();
    let next = within("the sentinel", triggers.next()).await;
    assert_eq!(next, Some(world.key("test")), "the echo of our own write came before it and said nothing");
    world.end().await;
}

#[tokio::test]
async fn idle_costs_no_write_and_hardly_a_read() {
    let world = World::new("idle").await;
    world.writer.apply(&service(&world, "web", "blue")).await.unwrap();
    let watches = || world.watch_counts.snapshot().keys().filter(|(verb, _, _)| *verb == "watch").count();
    let served = Kind::ALL.into_iter().filter(|kind| !kind.is_optional()).count();
    eventually("all watches", || (watches() >= served).then_some(())).await;
    let asked = || (world.counts.snapshot(), world.watch_counts.snapshot());
    let before = asked();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(asked(), before, "nothing is asked while nothing happens");
    assert_eq!(world.watch_counts.writes(), 0);
    world.end().await;
}
