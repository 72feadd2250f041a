//! How services find each other: those of an instance among themselves, and what all instances share.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::ResourceExt as _;
use serde_json::json;
use stagekeeper::{
    api::{Stage, labels},
    render::names,
};
use tokio::sync::oneshot;

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    shop,
};

/// `web` and `api` follow tags of their own repositories; `db` is fixed and shared.
fn project() -> String {
    let service = |name: &str, image: &str, more: &str| {
        format!(
            "{{name: {name}, ports: [{{name: http, port: 8080}}], {more} image: {{repository: REGISTRY/{image}, insecure: true}}, \
              health: {{http: {{path: /healthz}}, interval: 200ms, failureThreshold: 25}}}}"
        )
    };
    let followed = |name: &str| {
        let text = service(name, name, "dependsOn: [db],");
        text.replace("insecure: true", "insecure: true, interval: 1s, policy: {semver: '*'}")
    };
    let fixed = service("db", "db", "").replace("insecure: true", "insecure: true, tag: '16'");
    let services = [followed("web"), followed("api"), fixed].join(", ");
    format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, spec: {{services: [{services}]}}}}"
    )
}

/// What `via` says through a Service: the version of whoever answered in the end.
async fn through(env: &Env, service: &str, via: &str) -> String {
    let (code, body) = env.http_get(service, &format!("/via/{via}")).await.unwrap();
    assert_eq!(code, 200, "{service} → {via}: {body}");
    body.split(" on ").next().unwrap().to_owned()
}

/// Workload and pod of the shared service.
async fn shared(env: &Env) -> (Deployment, Vec<String>) {
    let workload = env.api::<Deployment>().get("production-db").await.unwrap();
    let pods = env.list::<Pod>().await.into_iter();
    let pods = pods.filter(|pod| pod.labels()[labels::SERVICE] == "db" && pod.metadata.deletion_timestamp.is_none());
    (workload, pods.filter_map(|pod| pod.uid()).collect())
}

#[tokio::test]
async fn blue_never_talks_to_green_and_both_share_what_the_stage_has_once() {
    let env = Env::new("discovery").await;
    for image in ["web", "api"] {
        env.push(image, "1.0.0", &[("APP_VERSION", &format!("{image}-1.0.0"))]).await;
    }
    env.push("db", "16", &[]).await;
    env.push("db", "17", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&project()).await;
    // Both images of the second release come at once, when they are asked for.
    env.apply(&shop::stage("rollback: {keepPrevious: 1h}")).await;
    let first = shop::serves(&env, "production", "api 1.0.0, db 16, web 1.0.0").await;
    let blue = first.active.unwrap();
    let own = |service: &str, instance: &str| names::instance_service("production", service, instance);
    // A node hears a moment after the status says so where Services lead.
    for web in ["production-web".to_owned(), own("web", &blue)] {
        env.until_answer_at(&web, "/via/api", "shop api-1.0.0 ").await;
        env.until_answer_at(&web, "/via/db", "shop 16 ").await;
    }
    let db = shared(&env).await;
    assert_eq!(db.1.len(), 1);
    assert_eq!(db.0.labels()[labels::SCOPE], labels::SCOPE_STAGE);

    // Blue asks its neighbour all the time while green comes and gets the traffic.
    let (end, mut ended) = oneshot::channel::<()>();
    let asking = async {
        let mut answers = 0;
        while ended.try_recv().is_err() {
            assert_eq!(through(&env, &own("web", &blue), "api").await, "shop api-1.0.0", "blue talks to green");
            answers += 1;
        }
        answers
    };
    let switching = async {
        env.push("api", "1.1.0", &[("APP_VERSION", "api-1.1.0")]).await;
        let second = shop::serves(&env, "production", "api 1.1.0, db 16, web 1.0.0").await;
        end.send(()).unwrap();
        second.active.unwrap()
    };
    let (answers, green) = tokio::join!(asking, switching);
    assert!(answers > 5, "{answers}");
    assert_ne!(green, blue);
    for (via, version) in [("api", "shop api-1.1.0 "), ("db", "shop 16 ")] {
        env.until_answer_at(&own("web", &green), &format!("/via/{via}"), version).await;
    }
    let what = "the stage's own web, and through it its api, are green";
    env.wait(what, DEADLINE, async || (through(&env, "production-web", "api").await == "shop api-1.1.0").then_some(()))
        .await;
    assert_eq!(through(&env, &own("web", &blue), "api").await, "shop api-1.0.0");
    for instance in [&blue, &green] {
        assert_eq!(through(&env, &own("web", instance), "db").await, "shop 16");
    }
    let after = shared(&env).await;
    assert_eq!((after.0.metadata.generation, &after.1), (db.0.metadata.generation, &db.1), "nothing changed for it");

    // The shared service is updated in place: the same workload, another pod; and both instances see the new one.
    env.patch::<Stage>("production", json!({"spec": {"services": {"db": {"tag": "17"}}}})).await;
    shop::serves(&env, "production", "api 1.1.0, db 17, web 1.0.0").await;
    let updated = shared(&env).await;
    assert_eq!(updated.0.uid(), db.0.uid());
    assert_ne!(updated.1, db.1);
    for instance in [&blue, &green] {
        // A connection that is kept open stays with the old pod until that goes.
        env.wait("both instances see the new pod", DEADLINE, async || {
            (through(&env, &own("web", instance), "db").await == "shop 17").then_some(())
        })
        .await;
    }
    let services = env.list::<Service>().await;
    let of_db = services.iter().filter(|service| service.labels()[labels::SERVICE] == "db");
    assert_eq!(of_db.count(), 1, "the shared service exists once");
    operator.stop().await;
}
