//! The project and the stage that most tests deploy, as YAML for [`Env::apply`](super::cluster::Env::apply).
//!
//! ```text
//! env.apply(&shop::project("")).await;
//! env.apply(&shop::stage("strategy: {type: Rolling}")).await;
//! ```

use stagekeeper::{api::StageStatus, store::HistoryEntry};

use super::cluster::{DEADLINE, Env};

/// The Project `shop`: its service `web` follows the versions of `REGISTRY/web` and answers on port 8080. `fields` are
/// further fields of the service, in flow style, such as `replicas: 2`.
pub fn project(fields: &str) -> String {
    let web = web(fields);
    format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, spec: {{services: [{web}]}}}}"
    )
}

/// The service `web` alone, for projects that have others too.
pub fn web(fields: &str) -> String {
    // Patient: a node may learn seconds late where the instance's Service leads, and refuses connections until then.
    let probe = if fields.contains("health:") {
        ""
    } else {
        "health: {http: {path: /healthz}, interval: 200ms, failureThreshold: 25},"
    };
    format!(
        "{{name: web, image: {{repository: REGISTRY/web, policy: {{semver: '*'}}, interval: 1s, insecure: true}}, \
         ports: [{{name: http, port: 8080}}], {probe} {fields}}}"
    )
}

/// The Stage `production` of `shop`. `fields` are fields of its spec, in flow style.
pub fn stage(fields: &str) -> String {
    named_stage("production", fields)
}

/// Another Stage of `shop`.
pub fn named_stage(name: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Stage, metadata: {{name: {name}}}, \
         spec: {{project: shop, {fields}}}}}"
    )
}

/// Waits until the newest deploy of the stage has succeeded with `images`, such as `web 1.1.0`, and all is settled.
pub async fn serves(env: &Env, stage: &str, images: &str) -> StageStatus {
    let what = format!("{images} serves");
    env.until(stage, &what, |status| {
        let newest = status.history.first();
        let done = newest.is_some_and(|it| it.state == "Success" && it.images.as_deref() == Some(images));
        done && is(status, "Ready", "True")
    })
    .await
}

/// Waits until the newest deploy of the stage has ended badly with everything that follows from it, and gives it.
pub async fn fails(env: &Env, stage: &str) -> (StageStatus, HistoryEntry) {
    let status = env
        .until(stage, "its newest deploy failed", |status| {
            let failed = status.deploy.as_ref().filter(|it| matches!(&*it.state, "Failed" | "RolledBack"));
            failed.is_some_and(|it| status.history.first().is_some_and(|ended| ended.id == it.id))
        })
        .await;
    let newest = env.deploys(stage).await.pop().expect("a deploy");
    (status, newest)
}

/// Waits until a Service answers as `answer`, such as `shop 1.1.0`: nodes hear of a switch a moment after it was made.
pub async fn answers(env: &Env, service: &str, answer: &str) {
    let what = format!("{service} answers {answer}");
    env.wait(&what, DEADLINE, async || {
        let (_, body) = env.http_get(service, "/").await.ok()?;
        (body.split(" on ").next() == Some(answer)).then_some(())
    })
    .await;
}

/// Whether a condition is as asked.
pub fn is(status: &StageStatus, condition: &str, wanted: &str) -> bool {
    status.conditions.iter().any(|it| it.type_ == condition && it.status == wanted)
}
