//! Nothing is left of an environment, whatever it ends of.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use stagekeeper::{
    api::{Environment, EnvironmentStatus, Project},
    domain::share::Share,
};

use crate::stand::{SHOP, Stand};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_project_it_ends() {
    let stand = Stand::new("orphan").await;
    let env = &stand.env;
    env.apply(SHOP).await;
    env.push("web", "one", &[]).await;
    stand.environment("demo", "services: {web: {tag: one}}").await;
    let place = stand.until_phase("demo", "Ready").await.namespace.unwrap();
    env.api::<Project>().delete("shop", &DeleteParams::default()).await.expect("it is deleted");
    stand.until_gone("demo").await;
    stand.until_namespace_gone(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_run_ends_when_its_time_is_over_and_what_cannot_end_says_so() {
    let stand = Stand::new("hopeless").await;
    stand.env.apply(SHOP).await;
    let place = lingers(&stand).await;
    let early = "{apiVersion: stagekeeper.dev/v1alpha1, kind: Environment, metadata: {name: early}, spec: {project: later, ttl: 1m}}";
    stand.env.apply(early).await;
    stand.environment("baseless", "base: nothing, ttl: 1m").await;
    let says = |reason: &'static str| {
        move |status: &EnvironmentStatus| status.stage.conditions.iter().any(|one| one.reason == reason)
    };
    stand.until("early", "it says what is missing", says("ProjectNotFound")).await;
    let told = stand.until("baseless", "it says what is wrong", says("InvalidSpec")).await;
    assert_eq!(told.phase.as_deref(), Some("Failed"));
    stand.until_gone("early").await;
    stand.until_gone("baseless").await;

    // That takes a minute: long enough to be told of a namespace that does not go.
    let waits = ends_after("NamespaceEnding", &format!("its namespace {place} is not gone since "));
    stand.until("lingers", "it says what its end waits for", waits).await;
    let kept: Api<ConfigMap> = Api::namespaced(stand.env.client.clone(), &place);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    kept.patch("kept", &PatchParams::default(), &free).await.expect("its finalizer is taken away");
    stand.until_namespace_gone(&place).await;
    stand.until_gone("lingers").await;
    let rows = async || {
        stand.env.database.store.environments_living(&Share::all()).await.expect("an answer").is_empty().then_some(())
    };
    stand.env.wait("its row is closed", crate::cluster::DEADLINE, rows).await;
}

/// Somebody takes the finalizer away while the operator is away: only the sweep knows of the namespace then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_owns_is_swept() {
    let stand = Stand::new("swept").await;
    let env = &stand.env;
    env.apply(SHOP).await;
    env.push("web", "one", &[]).await;
    stand.environment("demo", "services: {web: {tag: one}}").await;
    let place = stand.until_phase("demo", "Ready").await.namespace.unwrap();
    let uid = stand.namespace(&place).await.uid();
    let Stand { env, operator, _one: one } = stand;
    operator.kill9();
    let all = env.api::<Environment>();
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    all.patch("demo", &PatchParams::default(), &none).await.expect("its finalizer is taken away");
    all.delete("demo", &DeleteParams::default()).await.expect("it is deleted");
    let namespaces: Api<Namespace> = Api::all(env.client.clone());
    assert_eq!(namespaces.get(&place).await.expect("it is still there").uid(), uid);
    let operator = Stand::operator(&env).await;
    let stand = Stand::of(env, operator, one);
    stand.until_namespace_gone(&place).await;
    let rows = async || {
        stand.env.database.store.environments_living(&Share::all()).await.expect("an answer").is_empty().then_some(())
    };
    stand.env.wait("its row is closed", crate::cluster::DEADLINE, rows).await;
}

/// A namespace that merely looks like one of ours is not touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_without_our_marks_is_left_alone() {
    let stand = Stand::new("strange").await;
    let env = &stand.env;
    env.apply(SHOP).await;
    env.push("web", "one", &[]).await;
    stand.environment("demo", "services: {web: {tag: one}}").await;
    let ready = stand.until_phase("demo", "Ready").await;
    let place = ready.namespace.unwrap();
    let namespaces: Api<Namespace> = Api::all(env.client.clone());
    let theirs = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}}));
    namespaces.patch(&place, &PatchParams::default(), &theirs).await.expect("somebody takes it over");
    stand.cli(&["delete", "demo"]).await;
    stand.until_gone("demo").await;
    let left = namespaces.get(&place).await.expect("it is not ours to delete");
    assert_eq!(left.metadata.deletion_timestamp, None);
    namespaces.delete(&place, &DeleteParams::default()).await.expect("the test tidies up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_last_jobs_run_before_anything_goes_and_a_stuck_one_does_not_keep_it() {
    let stand = Stand::new("farewell").await;
    let env = &stand.env;
    env.apply(SHOP).await;
    env.push("web", "one", &[]).await;
    let bye = "{name: bye, args: [-print, 'gave everything back', -get, \
               'http://$(STAGEKEEPER_SERVICE_WEB_HOST):8080/', -retry, 30s]}";
    stand.environment("demo", &format!("services: {{web: {{tag: one}}}}, hooks: {{beforeDelete: [{bye}]}}")).await;
    let ready = stand.until_phase("demo", "Ready").await;
    let deploy = ready.stage.deploy.unwrap().id.parse().unwrap();
    stand.cli(&["delete", "demo"]).await;
    stand.until_gone("demo").await;
    let log = env.log(deploy).await;
    assert!(log.iter().any(|line| line.line.text.contains("gave everything back")), "{log:?}");

    let stuck = "{name: stuck, timeout: 5s, args: [-sleep, 10m]}";
    stand.environment("stuck", &format!("services: {{web: {{tag: one}}}}, hooks: {{beforeDelete: [{stuck}]}}")).await;
    let place = stand.until_phase("stuck", "Ready").await.namespace.unwrap();
    stand.cli(&["delete", "stuck"]).await;
    let waits = ends_after("RunningHooks", "the Job of hook stuck runs (1 of 1)");
    stand.until("stuck", "it says what its end waits for", waits).await;
    stand.until_namespace_gone(&place).await;
    stand.until_gone("stuck").await;

    // Its project has no such service, or has it no more: nobody waits for its time to be over.
    let hopeless = "{name: hopeless, timeout: 1h, service: nowhere}";
    stand
        .environment("hopeless", &format!("services: {{web: {{tag: one}}}}, hooks: {{beforeDelete: [{hopeless}]}}"))
        .await;
    stand.until_phase("hopeless", "Ready").await;
    stand.cli(&["delete", "hopeless"]).await;
    stand.until_gone("hopeless").await;
}

/// An environment that ends and cannot: somebody else's finalizer keeps its namespace, whose name it gives.
async fn lingers(stand: &Stand) -> String {
    stand.env.push("web", "one", &[]).await;
    stand.environment("lingers", "services: {web: {tag: one}}").await;
    let place = stand.until_phase("lingers", "Ready").await.namespace.expect("it has one");
    let object = json!({"metadata": {"name": "kept", "finalizers": ["example.com/kept"]}});
    let object: ConfigMap = serde_json::from_value(object).expect("a ConfigMap");
    let kept: Api<ConfigMap> = Api::namespaced(stand.env.client.clone(), &place);
    kept.create(&PostParams::default(), &object).await.expect("it is made");
    stand.cli(&["delete", "lingers"]).await;
    place
}

/// Whether an environment that ends says for what it waits.
fn ends_after(reason: &'static str, words: &str) -> impl Fn(&EnvironmentStatus) -> bool + use<> {
    let words = words.to_owned();
    move |status| {
        let told = |one: &Condition| one.reason == reason && one.message.contains(&words);
        status.phase.as_deref() == Some("Ending") && status.stage.conditions.iter().any(told)
    }
}
