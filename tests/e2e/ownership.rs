//! What the operator records and writes is its own; what others made is left alone.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use stagekeeper::api::labels;

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    shop,
};

#[tokio::test]
async fn a_name_without_a_project_leaves_no_row() {
    let env = Env::new("nameless").await;
    env.apply(&shop::stage("")).await;
    let operator = Operator::start(&env).await;
    let rows = async || {
        let mut sql = PgConnection::connect(&env.database.url).await.unwrap();
        let count = "SELECT (SELECT count(*) FROM projects) + (SELECT count(*) FROM stages)";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut sql).await.unwrap()
    };
    env.until("production", "it says that there is no project", |status| {
        status.conditions.iter().any(|one| one.type_ == "Stalled" && one.reason == "ProjectNotFound")
    })
    .await;
    assert_eq!(rows().await, 0);
    env.push("web", "1.0.0", &[]).await;
    env.apply(&shop::project("")).await;
    shop::serves(&env, "production", "web 1.0.0").await;
    assert_eq!(rows().await, 2);
    operator.stop().await;
}

#[tokio::test]
async fn a_service_of_somebody_else_is_never_taken_over() {
    let env = Env::new("taken").await;
    env.push("web", "1.0.0", &[]).await;
    let theirs: Service = serde_json::from_value(json!({
        "metadata": {"name": "production-web", "labels": {"app": "legacy"}},
        "spec": {"ports": [{"name": "legacy", "port": 9000}]},
    }))
    .unwrap();
    let services = env.api::<Service>();
    let made = services.create(&PostParams::default(), &theirs).await.unwrap();
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("")).await;
    let operator = Operator::start(&env).await;
    let status = env.until("production", "it names the Service", |status| {
        status.conditions.iter().any(|one| one.type_ == "Stalled" && one.reason == "NameTaken")
    });
    let status = status.await;
    let said = &status.conditions.iter().find(|one| one.type_ == "Stalled").unwrap().message;
    assert!(said.contains("services production-web") && said.contains("Delete or rename it"), "{said}");
    let now = services.get("production-web").await.unwrap();
    assert_eq!((now.resource_version(), now.labels()), (made.resource_version(), made.labels()), "it was not written");
    // Out of the way, it goes on by itself.
    services.delete("production-web", &DeleteParams::default()).await.unwrap();
    shop::serves(&env, "production", "web 1.0.0").await;
    // A label of ours on something of theirs makes it no child: it survives the stage.
    let mut marked = theirs.clone();
    marked.metadata.name = Some("theirs".into());
    marked.metadata.labels = Some([(labels::STAGE.to_owned(), "production".to_owned())].into());
    services.create(&PostParams::default(), &marked).await.unwrap();
    env.api::<stagekeeper::api::Stage>().delete("production", &DeleteParams::default()).await.unwrap();
    env.wait("the stage is gone", DEADLINE, async || {
        let left = env.api::<stagekeeper::api::Stage>().get_opt("production").await.unwrap();
        left.is_none().then_some(())
    })
    .await;
    let left: Vec<String> =
        services.list(&ListParams::default()).await.unwrap().iter().map(|one| one.name_any()).collect();
    assert_eq!(left, ["theirs"]);
    operator.stop().await;
}

#[tokio::test]
async fn files_that_a_release_in_place_leaves_behind_go() {
    let env = Env::new("files").await;
    env.push("web", "1.0.0", &[]).await;
    let project = |text: &str| {
        shop::project(&format!("volumes: [{{name: conf, mountPath: /etc/shop, files: {{shop.conf: '{text}'}}}}]"))
    };
    let files = async || {
        let ours = ListParams::default().labels(labels::STAGE);
        let found = env.api::<ConfigMap>().list(&ours).await.unwrap().items;
        found.into_iter().filter_map(|one| one.data?.into_values().next()).collect::<Vec<_>>()
    };
    env.apply(&project("one")).await;
    env.apply(&shop::stage("strategy: {type: Rolling}")).await;
    let operator = Operator::start(&env).await;
    shop::serves(&env, "production", "web 1.0.0").await;
    assert_eq!(files().await, ["one"]);
    env.apply(&project("two")).await;
    env.wait("only the new files are left", DEADLINE, async || (files().await == ["two"]).then_some(())).await;
    operator.stop().await;
}
