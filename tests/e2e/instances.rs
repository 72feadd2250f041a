//! Several releases side by side, each with a URL of its own.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use stagekeeper::api::StageStatus;

use crate::{cluster::Env, operator::Operator, shop};

/// The instances that have an answer, as `VERSION active` or `VERSION`; each is asked at its own URL.
async fn answers(env: &Env, status: &StageStatus) -> Vec<String> {
    let mut all = Vec::new();
    for instance in &status.instances {
        let url = instance.url.as_deref().expect("each has a URL");
        let (service, rest) = url.strip_prefix("http://").and_then(|host| host.split_once('.')).expect("a host");
        assert_eq!(rest, format!("{}.svc:8080", env.namespace));
        let (code, body) = env.http_get(service, "/").await.expect("it answers");
        assert_eq!(code, 200);
        let version = body.split(" on ").next().unwrap().strip_prefix("shop ").unwrap();
        all.push(if instance.active { format!("{version} active") } else { version.to_owned() });
    }
    all.sort();
    all
}

#[tokio::test]
async fn releases_stand_side_by_side_and_the_oldest_is_evicted() {
    let env = Env::new("side").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("maxInstances: 2, rollback: {keepPrevious: 0s}")).await;
    let first = shop::serves(&env, "production", "web 1.0.0").await;
    assert_eq!(answers(&env, &first).await, ["1.0.0 active"]);

    env.push("web", "1.1.0", &[]).await;
    let second = shop::serves(&env, "production", "web 1.1.0").await;
    assert_eq!(answers(&env, &second).await, ["1.0.0", "1.1.0 active"]);

    env.push("web", "1.2.0", &[]).await;
    shop::serves(&env, "production", "web 1.2.0").await;
    let third = env
        .until("production", "the oldest is evicted", |status| {
            let oldest = &first.instances[0].name;
            status.instances.len() == 2 && status.instances.iter().all(|it| it.name != *oldest)
        })
        .await;
    assert_eq!(answers(&env, &third).await, ["1.1.0", "1.2.0 active"]);
    assert_eq!(env.list::<Deployment>().await.len(), 2);
    assert_eq!(env.list::<Service>().await.len(), 3, "one for each instance, and the stage's own");
    shop::answers(&env, "production-web", "shop 1.2.0").await;
    operator.stop().await;
}
