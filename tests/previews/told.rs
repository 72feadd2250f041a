//! Webhooks alone: nobody is asked.

use kube::{ResourceExt as _, api::DeleteParams};
use serde_json::json;
use stagekeeper::api::{Environment, SecretAccess, labels};

use crate::{
    provider::{closed, pull},
    scene::{SECRET, Scene},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_appears_changes_and_goes_with_its_pull_request() {
    let scene = Scene::new("told", "label: preview, tag: 'pr-{number}', template: {ttl: 5h}").await;
    let first = pull(42, 1, 'a');
    scene.tell("opened", &first).await;
    let made = scene.until_commit("shop-pr-42", 'a').await;
    assert_eq!(made.spec.template.services["web"].tag.as_deref(), Some("pr-42"));
    assert_eq!(made.spec.template.ttl.to_string(), "5h");
    assert_eq!(made.spec.secrets, SecretAccess::Project);
    assert_eq!(made.labels()[labels::MANAGED_BY], "stagekeeper");
    assert_eq!(made.owner_references()[0].name, "shop");
    scene.until_said("Watching", "1 of 1 open pull requests").await;

    scene.tell("synchronize", &pull(42, 2, 'b')).await;
    let changed = scene.until_commit("shop-pr-42", 'b').await;
    assert_eq!(changed.uid(), made.uid());
    // What comes late changes nothing.
    scene.tell("opened", &pull(42, 1, 'c')).await;

    let mut bare = pull(42, 3, 'b');
    bare["labels"] = json!([]);
    scene.tell("unlabeled", &bare).await;
    scene.until_gone("shop-pr-42").await;
    scene.tell("labeled", &pull(42, 4, 'b')).await;
    scene.until_commit("shop-pr-42", 'b').await;

    scene.tell("closed", &closed(pull(42, 5, 'b'), 5)).await;
    scene.until_gone("shop-pr-42").await;
    scene.tell("opened", &pull(42, 5, 'd')).await;
    scene.until_read().await;
    scene.tell("reopened", &pull(42, 6, 'e')).await;
    scene.until_commit("shop-pr-42", 'e').await;
    // Settled, nothing is written.
    scene.until_reason("Watching").await;
    scene.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsigned_and_foreign_words_change_nothing_and_forks_get_nothing() {
    let scene = Scene::new("nothing", "forks: Label, forkLabel: safe").await;
    assert_eq!(scene.send("opened", &pull(1, 1, 'a'), "Acme/Shop", "another secret").await, 401);
    let mut other = pull(2, 1, 'a');
    other["base"]["repo"]["full_name"] = json!("acme/other");
    assert_eq!(scene.send("opened", &other, "acme/other", SECRET).await, 202);
    let mut fork = pull(3, 1, 'a');
    fork["head"]["repo"]["full_name"] = json!("mallory/shop");
    scene.tell("opened", &fork).await;
    scene.until_read().await;
    assert_eq!(scene.number("SELECT count(*) FROM pull_requests WHERE number <> 3").await, 0);
    scene.tell("opened", &pull(4, 1, 'a')).await;
    scene.until_commit("shop-pr-4", 'a').await;
    assert_eq!(scene.environments().await, ["shop-pr-4"]);

    fork["labels"] = json!([{"name": "safe"}]);
    fork["updated_at"] = json!("2026-03-01T12:02:00Z");
    scene.tell("labeled", &fork).await;
    let made = scene.until_commit("shop-pr-3", 'a').await;
    assert_eq!(made.spec.secrets, SecretAccess::None);
    assert!(made.spec.source.unwrap().fork);
    scene.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_made_is_left_alone() {
    let scene = Scene::new("taken", "label: preview").await;
    let text = "{apiVersion: stagekeeper.dev/v1alpha1, kind: Environment, metadata: {name: shop-pr-7}, \
                spec: {project: shop, ttl: 9h}}";
    scene.env.apply(text).await;
    scene.tell("opened", &pull(7, 1, 'a')).await;
    let said = scene.until_reason("NameTaken").await;
    assert!(said.contains("shop-pr-7"), "{said}");
    scene.tell("closed", &closed(pull(7, 2, 'a'), 2)).await;
    scene.until_reason("Watching").await;
    let found = scene.env.api::<Environment>().get("shop-pr-7").await.unwrap();
    assert_eq!((found.spec.template.ttl.to_string().as_str(), &found.spec.source), ("9h", &None));
    assert!(!found.labels().contains_key(labels::PULL_REQUEST) && found.metadata.deletion_timestamp.is_none());
    scene.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_no_environment_and_leaves_none() {
    let mut scene = Scene::new("crash", "label: preview").await;
    scene.hooks().await;
    for number in 1..=5 {
        scene.tell("opened", &pull(number, 1, 'a')).await;
    }
    let operator = std::mem::replace(&mut scene.operator, Scene::operator(&scene.env).await);
    operator.kill9();
    for number in 1..=5 {
        scene.until_commit(&format!("shop-pr-{number}"), 'a').await;
    }
    for number in 1..=5 {
        scene.tell("closed", &closed(pull(number, 2, 'a'), 2)).await;
    }
    let operator = std::mem::replace(&mut scene.operator, Scene::operator(&scene.env).await);
    operator.kill9();
    for number in 1..=5 {
        scene.until_gone(&format!("shop-pr-{number}")).await;
    }
    // One that ended before its pull request stays away until there is something new.
    scene.tell("reopened", &pull(5, 3, 'a')).await;
    scene.until_commit("shop-pr-5", 'a').await;
    scene.env.api::<Environment>().delete("shop-pr-5", &DeleteParams::default()).await.unwrap();
    scene.until_gone("shop-pr-5").await;
    scene.tell("edited", &pull(5, 4, 'a')).await;
    scene.tell("opened", &pull(6, 4, 'a')).await;
    scene.until_commit("shop-pr-6", 'a').await;
    assert_eq!(scene.environments().await, ["shop-pr-6"]);
    scene.tell("synchronize", &pull(5, 5, 'b')).await;
    scene.until_commit("shop-pr-5", 'b').await;

    // With the project goes what was made for it.
    let projects = scene.env.api::<stagekeeper::api::Project>();
    projects.delete("shop", &DeleteParams::default()).await.unwrap();
    scene.until_gone("shop-pr-5").await;
    scene.until_gone("shop-pr-6").await;
    scene.operator.stop().await;
}
