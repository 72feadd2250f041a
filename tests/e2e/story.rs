//! The main story: a first deploy, then a new version that is found and switched to without a failed request.

use crate::{cluster::Env, operator::Operator, shop};

#[tokio::test]
async fn first_deploy() {
    let env = Env::new("first").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    env.apply(&shop::project("")).await;
    env.apply(&shop::stage("")).await;
    env.until("production", "1.0.0 has the traffic", |stage| stage.release.is_some()).await;
    let (code, body) = env.http_get("production-web", "/").await.unwrap();
    assert_eq!(code, 200);
    assert!(body.contains("shop 1.0.0"), "{body}");
    operator.stop().await;
}
