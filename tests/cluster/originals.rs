//! Secrets that projects name: found, followed, and told of, without keeping what is in them.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use stagekeeper::cluster::originals::{Look, Originals, Version};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::server::{World, clients, config, within};

fn secret(name: &str, value: &str) -> Secret {
    serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {"key": value}})).unwrap()
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_secret_that_a_project_names_is_read_when_asked_for_and_followed() {
    let world = World::new("originals").await;
    let (watching, counts) = clients(config().await);
    let (tell, mut told) = mpsc::unbounded_channel();
    let originals = Arc::new(Originals::new(
        watching.general,
        Box::new(move |namespace, project| {
            // Nobody listens any more at the end.
            let _ = tell.send((namespace.to_owned(), project.to_owned()));
        }),
    ));
    let (follower, namespaces, stop) = (originals.clone(), vec![world.namespace.clone()], CancellationToken::new());
    let until = stop.clone();
    let following =
        AbortOnDropHandle::new(tokio::spawn(async move { follower.follow(Some(&namespaces), until).await }));
    let (place, api) = (world.namespace.clone(), world.api::<Secret>());
    let shop = (place.clone(), "shop".to_owned());
    api.create(&PostParams::default(), &secret("payment", "first")).await.unwrap();
    api.create(&PostParams::default(), &secret("nobody-names-it", "x")).await.unwrap();
    assert_eq!(originals.look(&place, "payment"), Look::Unknown);
    assert_eq!(counts.snapshot().len(), 0, "nothing is asked before somebody names one");

    originals.want(&place, "shop", &names(&["payment", "absent"]));
    let content = originals.read(&place, "payment").await.unwrap().expect("it is there");
    assert_eq!(&**content.data["key"], b"first");
    assert!(originals.read(&place, "absent").await.unwrap().is_none());
    let version = |look: Look| match look {
        Look::Present(Version { uid, resource_version }) => (uid, resource_version),
        other => panic!("{other:?}"),
    };
    let first = version(originals.look(&place, "payment"));
    assert_eq!((first.0.as_str(), first.1.as_str()), (&*content.version.uid, &*content.version.resource_version));
    assert_eq!(originals.look(&place, "absent"), Look::Absent);
    assert_eq!(originals.look(&place, "nobody-names-it"), Look::Unknown);

    // Only after the watch is open does a change arrive by it; before, the list brings it.
    let change = Patch::Merge(json!({"stringData": {"key": "second"}}));
    let changed = api.patch("payment", &PatchParams::default(), &change).await.unwrap();
    while version(originals.look(&place, "payment")).1 != changed.metadata.resource_version.clone().unwrap() {
        assert_eq!(within("news of a change", told.recv()).await, Some(shop.clone()));
    }
    api.create(&PostParams::default(), &secret("absent", "now")).await.unwrap();
    while originals.look(&place, "absent") == Look::Absent {
        assert_eq!(within("news of a new one", told.recv()).await, Some(shop.clone()));
    }
    api.delete("payment", &DeleteParams::default()).await.unwrap();
    while originals.look(&place, "payment") != Look::Absent {
        assert_eq!(within("news of an end", told.recv()).await, Some(shop.clone()));
    }

    // Two projects may name one; whoever names it no more hears of it no more.
    originals.want(&place, "bank", &names(&["absent"]));
    originals.want(&place, "shop", &names(&[]));
    while told.try_recv().is_ok() {}
    api.patch("absent", &PatchParams::default(), &change).await.unwrap();
    assert_eq!(within("news for the bank", told.recv()).await, Some((place.clone(), "bank".to_owned())));
    originals.want(&place, "bank", &names(&[]));
    assert_eq!(originals.look(&place, "absent"), Look::Unknown, "what nobody names is forgotten");
    assert_eq!(counts.writes(), 0);
    stop.cancel();
    within("the end", following).await.unwrap();
    world.end().await;
}
