//! While the operator stands still, things are deleted and made again under the same names, and the versions that it knows are
//! compacted away.

use std::{path::Path, time::Instant};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use stagekeeper::{
    api::{Stage, labels},
    domain::deploy::State,
};

use crate::{
    cluster::DEADLINE,
    ground::{operator, own, ready, unprobed},
    story::{PLAIN, STAGE, Scene},
    throwaway::Throwaway,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_and_made_again_meanwhile_is_not_taken_for_what_it_was() {
    let (own, scene) = own("vwcompact").await;
    scene.env.push("web", "1.0.0", &[]).await;
    scene.env.apply(&unprobed()).await;
    scene.env.apply(PLAIN).await;
    // Listed anew because the server says so, not because it is time.
    let operator = operator(&scene.env, &scene.seat, "operator", &[("STAGEKEEPER_RELIST", "300")]).await;
    scene.settled(1, State::Success).await;
    scene.env.until(STAGE, "it is ready", ready).await;

    // A workload that somebody has replaced, as `kubectl replace --force` does, and a Service that is gone.
    operator.signal("STOP");
    let api = scene.env.api::<Deployment>();
    let [web] = &scene.env.list::<Deployment>().await[..] else { panic!("one workload") };
    let (name, uid) = (web.name_any(), web.uid());
    replaced(&scene, web).await;
    let services = scene.env.api::<Service>();
    let all = scene.env.list::<Service>().await;
    let service = all.iter().find(|one| one.labels().contains_key(labels::INSTANCE)).expect("one of the instance");
    services.delete(&service.name_any(), &DeleteParams::background()).await.unwrap();
    own.part("kill", "apiserver").await;
    compact(&own).await;
    own.part("start", "apiserver").await;
    let since = Instant::now();
    operator.signal("CONT");
    let whole = scene.env.wait("workload and Service are as they should be", DEADLINE, async || {
        let found = api.get_opt(&name).await.ok()??;
        let replicas = found.status.as_ref().and_then(|status| status.ready_replicas);
        let led_to = services.get_opt(&service.name_any()).await.ok()??;
        (found.uid() != uid && led_to.uid() != service.uid() && replicas == Some(1)).then_some(())
    });
    whole.await;
    scene.env.until(STAGE, "it is ready again", ready).await;
    let (workload, expired) = (since.elapsed(), scene.seat.api.expired());
    assert!(expired > 0, "no watch was told that its version is gone");
    assert_eq!(scene.env.deploys(STAGE).await.len(), 1, "neither is a reason for a deploy");
    let written = scene.seat.api.writes().into_iter().filter(|call| call.resource == "deployments").count();
    assert_eq!(written, 1, "what was put in its place is as it should be");

    // The Stage itself, under the same name: another one, whose predecessor's objects go with it.
    let first = scene.env.stage(STAGE).await.uid();
    operator.signal("STOP");
    let stages = scene.env.api::<Stage>();
    stages.delete(STAGE, &DeleteParams::default()).await.unwrap();
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    stages.patch(STAGE, &PatchParams::default(), &free).await.unwrap();
    let gone = async || stages.get_opt(STAGE).await.unwrap().is_none().then_some(());
    scene.env.wait("the first stage is gone", DEADLINE, gone).await;
    scene.env.apply(PLAIN).await;
    own.part("kill", "apiserver").await;
    compact(&own).await;
    own.part("start", "apiserver").await;
    let since = Instant::now();
    operator.signal("CONT");
    scene.env.until(STAGE, "the second one serves", |status| ready(status) && status.instances.len() == 1).await;
    let second = scene.env.stage(STAGE).await.uid();
    assert_ne!(first, second);
    let one = scene.env.wait("one workload, of the second stage", DEADLINE, async || {
        let all = scene.env.list::<Deployment>().await;
        let [only] = &all[..] else { return None };
        let owner = only.owner_references().iter().map(|owner| owner.uid.clone()).next();
        (owner == second).then_some(())
    });
    one.await;
    println!(
        "replaced while the operator stood still, with all versions compacted ({} watches were told 410): the workload was whole {:.1} s \
         later, a Stage of the same name served {:.1} s later",
        scene.seat.api.expired(),
        workload.as_secs_f64(),
        since.elapsed().as_secs_f64(),
    );
    operator.stop().await;
}

/// Deletes a workload, and makes another one like it.
async fn replaced(scene: &Scene, web: &Deployment) {
    let api = scene.env.api::<Deployment>();
    let name = web.name_any();
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    let gone = async || api.get_opt(&name).await.unwrap().is_none().then_some(());
    scene.env.wait("the workload is gone", DEADLINE, gone).await;
    let mut other: Deployment = web.clone();
    let meta = &mut other.metadata;
    (meta.uid, meta.resource_version, meta.managed_fields, other.status) = (None, None, None, None);
    api.create(&PostParams::default(), &other).await.unwrap();
}

/// Has etcd forget every version but the newest.
async fn compact(own: &Throwaway) {
    let settings = Path::new(own.kubeconfig()).with_file_name("settings");
    let settings = std::fs::read_to_string(settings).unwrap();
    let port = settings.lines().find_map(|line| line.strip_prefix("etcd_port=")).expect("the port of etcd");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |path: &str, body: Value| -> Value {
        let answer =
            http.post(format!("http://127.0.0.1:{port}/v3/{path}")).body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    };
    // Any answer tells the revision; this key does not exist.
    let newest = ask("kv/range", json!({"key": "AA=="})).await["header"]["revision"].clone();
    let _ = ask("kv/compaction", json!({"revision": newest, "physical": true})).await;
}
