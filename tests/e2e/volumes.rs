//! Claims: what is written to a shared one is there for the next release, what is written to an instance's own goes
//! with it.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde_json::json;
use stagekeeper::{
    api::{Stage, labels},
    render::names,
};

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    shop,
};

/// A service of the stage with a fixed image, whose `/data` one pod at a time may mount.
const DATABASE: &str = "{name: db, image: {repository: REGISTRY/web, tag: 1.0.0, insecure: true}, \
     ports: [{name: http, port: 8080}], env: [{name: APP_DATA, value: /data}], health: {http: {path: /healthz}, interval: 200ms, failureThreshold: 25}, \
     podTemplate: {spec: {securityContext: {runAsUser: 0, runAsNonRoot: false}}}, \
     volumes: [{name: data, mountPath: /data, sharedClaim: {size: 1Mi}}]}";

/// A service whose `/data` is a claim of this kind. Folders of the cluster's provisioner belong to root.
fn service(name: &str, claim: &str) -> String {
    format!(
        "{{name: {name}, scope: Instance, ports: [{{name: http, port: 8080}}], \
          image: {{repository: REGISTRY/web, policy: {{semver: '*'}}, interval: 1s, insecure: true}}, \
          podTemplate: {{spec: {{securityContext: {{runAsUser: 0, runAsNonRoot: false}}}}}}, \
          env: [{{name: APP_DATA, value: /data}}], health: {{http: {{path: /healthz}}, interval: 200ms, failureThreshold: 25}}, \
          volumes: [{{name: data, mountPath: /data, {claim}: {{size: 1Mi, accessModes: [ReadWriteMany]}}}}]}}"
    )
}

async fn put(env: &Env, service: &str, text: &'static str) {
    let address = env.address(service).await.unwrap();
    let answer = env.http.put(format!("http://{address}/data/note")).body(text).send().await.unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status} {}", answer.text().await.unwrap());
}

#[tokio::test]
async fn a_shared_claim_survives_instances_and_an_instances_own_goes_with_it() {
    let env = Env::new("volumes").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    let services =
        [service("archive", "sharedClaim"), service("cache", "perInstanceClaim"), DATABASE.into()].join(", ");
    env.apply(&format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, spec: {{services: [{services}]}}}}"
    ))
    .await;
    env.apply(&shop::stage("rollback: {keepPrevious: 3s}")).await;
    let first = shop::serves(&env, "production", "archive 1.0.0, cache 1.0.0, db 1.0.0").await;
    put(&env, "production-archive", "written by 1.0.0").await;
    put(&env, "production-cache", "written by 1.0.0").await;
    put(&env, "production-db", "written by db 1.0.0").await;
    let claims = env.list::<PersistentVolumeClaim>().await;
    assert_eq!(claims.len(), 3);
    let shared_name = names::shared_claim("production", "archive", "data");
    let shared = claims.iter().find(|claim| claim.name_any() == shared_name).unwrap();
    assert_eq!(shared.labels().get(labels::INSTANCE), None, "it belongs to no instance");

    env.push("web", "1.1.0", &[]).await;
    let second = shop::serves(&env, "production", "archive 1.1.0, cache 1.1.0, db 1.0.0").await;
    let (new, old) = (second.active.unwrap(), first.active.unwrap());
    let read = async |service: &str, instance: &str| {
        let service = names::instance_service("production", service, instance);
        env.http_get(&service, "/data/note").await.unwrap()
    };
    let (code, text) = read("archive", &new).await;
    assert_eq!((code, &*text), (200, "written by 1.0.0"));
    let (code, _) = read("cache", &new).await;
    assert_eq!(code, 404, "a new instance starts with an empty claim");
    let (code, text) = read("cache", &old).await;
    assert_eq!((code, &*text), (200, "written by 1.0.0"), "the old instance keeps its own as long as it is kept");

    let own = |instance: &str| names::instance_claim("production", "cache", "data", instance);
    env.wait("the old instance's claim is gone", DEADLINE, async || {
        let mut found: Vec<_> = env.list::<PersistentVolumeClaim>().await.iter().map(|it| it.name_any()).collect();
        let mut wanted = [shared_name.clone(), names::shared_claim("production", "db", "data"), own(&new)];
        found.sort();
        wanted.sort();
        (found == wanted).then_some(())
    })
    .await;
    let same = env.api::<PersistentVolumeClaim>().get(&shared_name).await.unwrap();
    assert_eq!(same.uid(), shared.uid());
    put(&env, "production-archive", "written by 1.1.0").await;

    env.patch::<Stage>("production", json!({"spec": {"services": {"db": {"tag": "1.1.0"}}}})).await;
    shop::serves(&env, "production", "archive 1.1.0, cache 1.1.0, db 1.1.0").await;
    shop::answers(&env, "production-db", "shop 1.1.0").await;
    let (code, text) = env.http_get("production-db", "/data/note").await.unwrap();
    assert_eq!((code, &*text), (200, "written by db 1.0.0"), "the service that was updated in place kept its claim");
    operator.stop().await;
}
