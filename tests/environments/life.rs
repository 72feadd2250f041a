//! An environment from its first image to its end.

use k8s_openapi::api::{
    core::v1::{LimitRange, Service},
    networking::v1::NetworkPolicy,
};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use stagekeeper::{
    api::{Environment, EnvironmentStatus, labels},
    domain::clock::{Clock as _, SystemClock},
};

use crate::stand::{SHOP, Stand};

fn condition<'a>(status: &'a EnvironmentStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = status.stage.conditions.iter().find(|one| one.type_ == kind)?;
    Some((found.reason.as_str(), found.message.as_str()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_its_image_runs_sleeps_wakes_moves_on_and_goes() {
    let stand = Stand::new("preview").await;
    let env = &stand.env;
    env.apply(SHOP).await;
    stand.environment("demo", "services: {web: {tag: pr-1}}, source: {pullRequest: 42}").await;
    let waiting = stand
        .until("demo", "it says what it waits for", |status| {
            condition(status, "Ready").is_some_and(|(reason, _)| reason == "ImageNotPushed")
        })
        .await;
    let (_, message) = condition(&waiting, "Ready").unwrap();
    assert_eq!(message, "service web: its image with tag pr-1 is not pushed yet");
    assert_eq!(waiting.phase.as_deref(), Some("Pending"));

    env.push("web", "pr-1", &[]).await;
    let ready = stand.until_phase("demo", "Ready").await;
    let subdomain = ready.subdomain.clone().unwrap();
    assert!(subdomain.starts_with("pr-42-") && subdomain.len() == "pr-42-".len() + 12, "{subdomain}");
    assert_eq!(ready.stage.url.as_deref(), Some(format!("http://{subdomain}.preview.test:8088").as_str()));
    assert_eq!(ready.hosts[0].host, format!("{subdomain}.preview.test"));
    assert!(ready.awake);
    let cost = ready.cost.clone().expect("prices are declared");
    assert_eq!((cost.per_hour.as_str(), cost.currency.as_str()), ("0.0578", "EUR"), "5m of 10 and 8Mi of 1");
    let place = ready.namespace.clone().unwrap();
    assert_eq!(place, format!("shop-{subdomain}"));

    // The place is its own, and nothing of it is in the project's namespace.
    let namespace = stand.namespace(&place).await;
    assert_eq!(namespace.labels().get(labels::HOME), Some(&env.namespace));
    assert_eq!(namespace.labels().get("pod-security.kubernetes.io/enforce").map(String::as_str), Some("restricted"));
    Api::<NetworkPolicy>::namespaced(env.client.clone(), &place)
        .get("environment")
        .await
        .expect("who may talk to whom");
    Api::<LimitRange>::namespaced(env.client.clone(), &place).get("environment").await.expect("defaults");
    let service: Service = Api::namespaced(env.client.clone(), &place).get("demo-web").await.expect("its Service");
    assert_eq!(service.annotations().get(labels::EDGE_HOSTS), Some(&ready.hosts[0].host));
    assert_eq!(service.annotations().get(labels::EDGE_PORT).map(String::as_str), Some("http"));
    assert_eq!(env.list::<Service>().await.len(), 0);
    assert_eq!(stand.pods(&place).await.len(), 1);

    // It sleeps with no pod, and wakes without another deploy.
    stand.cli(&["sleep", "demo", "--reason", "nobody looks"]).await;
    stand.until_phase("demo", "Asleep").await;
    env.wait("no pod is left", crate::cluster::DEADLINE, async || stand.pods(&place).await.is_empty().then_some(()))
        .await;
    env.database.store.environment_wake(&subdomain, SystemClock.now()).await.expect("it is asked");
    let awake = stand.until_phase("demo", "Ready").await;
    assert_eq!(
        awake.stage.deploy.as_ref().map(|deploy| &deploy.id),
        ready.stage.deploy.as_ref().map(|deploy| &deploy.id)
    );
    assert_eq!(stand.pods(&place).await.len(), 1);

    // Who has only kubectl asks by annotation, and is told what came of it.
    let asks = |word: &str| json!({"metadata": {"annotations": {"stagekeeper.dev/request": word, "stagekeeper.dev/request-nonce": word}}});
    for (word, state) in [("pin", "Done"), ("promote", "Refused")] {
        env.patch::<Environment>("demo", asks(word)).await;
        let came = stand.until("demo", word, |status| {
            status.stage.last_request.as_ref().is_some_and(|last| last.nonce == word && last.state != "Pending")
        });
        let last = came.await.stage.last_request.expect("a request");
        assert_eq!(last.state, state, "{word}: {last:?}");
    }

    // A new commit is a new deploy at the same place.
    env.push("web", "pr-1-next", &[("APP_NAME", "next")]).await;
    env.patch::<Environment>("demo", json!({"spec": {"services": {"web": {"tag": "pr-1-next"}}}})).await;
    let next = stand.until("demo", "the next commit runs", |status| {
        status.phase.as_deref() == Some("Ready") && status.stage.images.as_deref() == Some("web:pr-1-next")
    });
    let next = next.await;
    assert_eq!(next.subdomain.as_deref(), Some(subdomain.as_str()));
    assert_eq!(next.stage.history.len(), 2);

    let listed = stand.cli(&["list", "-o", "json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["environments"][0]["subdomain"], subdomain);

    // Its end: everything goes, its history stays, its subdomain is nobody's any more.
    stand.cli(&["delete", "demo", "--reason", "the demo is over"]).await;
    stand.until_gone("demo").await;
    stand.until_namespace_gone(&place).await;
    let ended = env.database.store.subdomains_ended(10).await.expect("an answer");
    assert!(ended.contains(&subdomain), "{ended:?}");
    assert_eq!(env.deploys("demo").await.len(), 2, "the history stays");

    stand.environment("demo", "services: {web: {tag: pr-1}}").await;
    let anew = stand.until_phase("demo", "Ready").await;
    assert_ne!(anew.subdomain.as_deref(), Some(subdomain.as_str()));
    assert!(anew.subdomain.unwrap().starts_with("demo-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sleeps_by_itself_when_nobody_looks() {
    let stand = Stand::new("idle").await;
    let env = &stand.env;
    env.apply(SHOP).await;
    env.push("web", "pr-7", &[]).await;
    stand.environment("pr-7", "services: {web: {tag: pr-7}}, idleAfter: 3s").await;
    let asleep = stand.until_phase("pr-7", "Asleep").await;
    let place = asleep.namespace.clone().unwrap();
    env.wait("no pod is left", crate::cluster::DEADLINE, async || stand.pods(&place).await.is_empty().then_some(()))
        .await;
    assert_eq!(asleep.stage.history.len(), 1, "it ran before it slept");
    assert!(!asleep.awake);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_too_many_waits_for_its_turn() {
    let stand = Stand::new("room").await;
    let env = &stand.env;
    env.apply(&SHOP.replace("environments: {", "environments: {max: 1, ")).await;
    env.push("web", "one", &[]).await;
    stand.environment("first", "services: {web: {tag: one}}").await;
    stand.until_phase("first", "Ready").await;
    stand.environment("second", "services: {web: {tag: one}}").await;
    let queued = stand.until_phase("second", "Queued").await;
    assert_eq!(queued.queue_position, Some(1));
    assert_eq!(stand.pods(&queued.namespace.unwrap()).await.len(), 0);
    stand.cli(&["sleep", "first"]).await;
    stand.until_phase("second", "Ready").await;
    assert_eq!(stand.until_phase("first", "Asleep").await.queue_position, None);
}
