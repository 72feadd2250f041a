//! Events that we write, and the traces that others leave.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::Resource;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use stagekeeper::cluster::events::{Events, Notice, Severity};
use stagekeeper::cluster::evidence::{self, Limits, Subject};

use super::server::{World, eventually, within};

#[tokio::test]
async fn an_event_is_found_at_its_object() {
    let world = World::new("event").await;
    let map = ConfigMap { metadata: world.metadata("dev", "about"), ..ConfigMap::default() };
    world.writer.apply(&map).await.unwrap();
    let map = world.api::<ConfigMap>().get("about").await.unwrap();
    let events = Events::new(world.client.clone(), "stagekeeper-0");
    let notice =
        Notice { severity: Severity::Normal, reason: "Deployed", action: "Deploy 1", note: "web 1.1.0 serves" };
    events.publish(&map.object_ref(&()), &notice).await;
    let params = ListParams::default().fields("involvedObject.name=about");
    let found = world.api::<Event>().list(&params).await.unwrap().items;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message.as_deref(), Some("web 1.1.0 serves"));
    assert_eq!(found[0].reason.as_deref(), Some("Deployed"));
    world.end().await;
}

#[tokio::test]
async fn a_pod_whose_image_is_missing_leaves_traces() {
    let world = World::new("traces").await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": world.metadata("dev", "broken"),
        "spec": {"containers": [{"name": "web", "image": "127.0.0.1:1/none:1"}], "terminationGracePeriodSeconds": 0},
    }))
    .unwrap();
    world.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    let view = eventually("the image cannot be pulled", || {
        let children = world.index.stage(&world.key("dev"));
        let pod = children.pods().next()?.clone();
        let waiting = pod.containers.first()?.waiting.clone()?;
        (waiting.reason.contains("ImagePull")).then_some(pod)
    })
    .await;
    assert!(!view.is_pulled());
    assert!(view.scheduled && !view.ready);

    let mut subject = Subject::failing_pod(&world.namespace, &view);
    assert!(subject.runs.is_empty(), "what never ran has no log");
    subject.runs = vec![evidence::Run { container: "web".into(), previous: false }];
    within("its events", async {
        loop {
            let lines = evidence::collect(&world.client, std::slice::from_ref(&subject), &Limits::default()).await;
            let said: Vec<_> = lines.iter().map(|line| format!("{}: {}", line.source, line.text)).collect();
            let failed = said.iter().any(|s| s.starts_with("event Pod/broken: Failed"));
            if failed
                && said.iter().any(|s| s.starts_with("evidence: log broken/web") && s.contains("waiting to start"))
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    world.end().await;
}
