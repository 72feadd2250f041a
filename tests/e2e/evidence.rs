//! What a failed deploy leaves behind: a sentence that names what decided, and in the log what Kubernetes, the containers
//! and the probes said. The old release serves on.

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::PostParams;
use serde_json::{Value, json};
use stagekeeper::{api::Stage, domain::deploy::State};

use crate::{cluster::Env, operator::Operator, shop};

/// A deploy that is made to fail.
struct Case {
    /// Name of its stage, and of its project.
    name: &'static str,
    /// What the new release's image has in its environment; its tag is the name of the case.
    switches: &'static [(&'static str, &'static str)],
    /// How the project probes.
    health: &'static str,
    /// What the stage changes with the new release.
    change: Value,
    /// The word that the deploy ends with.
    reason: &'static str,
    /// What the sentence says.
    sentence: &'static [&'static str],
    /// What the log says, as the beginning of the source and a part of the text.
    log: &'static [(&'static str, &'static str)],
}

const PROBE: &str = "{http: {path: /healthz}, interval: 200ms}";

/// Deploys 1.0.0, then what the case asks for, and looks at what is left.
async fn fails_as_told(env: &Env, case: &Case) {
    let Case { name, health, .. } = case;
    env.apply(&format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: {name}}}, spec: {{services: [{{
            name: web, scope: Instance, image: {{repository: REGISTRY/web, tag: 1.0.0, insecure: true}},
            ports: [{{name: http, port: 8080}}], health: {health}}}]}}}}"
    ))
    .await;
    env.apply(&format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Stage, metadata: {{name: {name}}}, spec: {{project: {name}}}}}"
    ))
    .await;
    shop::serves(env, name, "web 1.0.0").await;
    if !case.switches.is_empty() {
        env.push("web", name, case.switches).await;
    }
    env.patch::<Stage>(name, json!({"spec": case.change})).await;

    let (status, newest) = shop::fails(env, name).await;
    let deploy = &newest.stored.deploy;
    let sentence = deploy.message.as_deref().unwrap_or_default();
    assert_eq!((deploy.state, deploy.reason.as_deref()), (State::RolledBack, Some(case.reason)), "{name}: {sentence}");
    for part in case.sentence {
        assert!(sentence.contains(part), "{name}: {part:?} is not in {sentence:?}");
    }
    let lines = env.log(deploy.id).await;
    let said = |source: &str, text: &str| {
        lines.iter().any(|it| it.line.source.starts_with(source) && it.line.text.contains(text))
    };
    for (source, text) in case.log.iter().copied().chain([("deploy", sentence)]) {
        assert!(said(source, text), "{name}: no line of {source:?} with {text:?} in {lines:#?}");
    }
    let told = status.history[0].reason.as_deref();
    assert_eq!(told, Some(sentence), "{name}: the Stage tells it too");
    shop::answers(env, &format!("{name}-web"), "shop 1.0.0").await;
}

#[tokio::test]
async fn a_release_that_does_not_start_says_why() {
    let env = Env::new("start").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    let image = Case {
        name: "image",
        switches: &[],
        health: PROBE,
        change: json!({
            "services": {"web": {"digest": format!("sha256:{}", "0".repeat(64))}},
            "timeouts": {"pull": "8s"},
        }),
        reason: "PullDeadlineExceeded",
        sentence: &["not done within 8s: ", "ImagePull", "container web", "not found"],
        log: &[("event Pod/image-web-", "Failed to pull image")],
    };
    let crash = Case {
        name: "crash",
        switches: &[("APP_FAIL", "start:7")],
        health: PROBE,
        change: json!({"services": {"web": {"tag": "crash"}}}),
        reason: "WorkloadFailed",
        sentence: &["CrashLoopBackOff: pod crash-web-", "exited with code 7", "3 restarts"],
        log: &[
            ("event Pod/crash-web-", "Back-off restarting failed container"),
            ("log crash-web-", "fatal: shop crash: cannot read its configuration"),
        ],
    };
    let large = Case {
        name: "large",
        switches: &[],
        health: PROBE,
        change: json!({
            "services": {"web": {"resources": {"requests": {"cpu": "500"}}}},
            "timeouts": {"pull": "6s"},
        }),
        reason: "PullDeadlineExceeded",
        sentence: &["not done within 6s: Unschedulable: pod large-web-", "Insufficient cpu"],
        log: &[("event Pod/large-web-", "FailedScheduling")],
    };
    tokio::join!(fails_as_told(&env, &image), fails_as_told(&env, &crash), fails_as_told(&env, &large));
    operator.stop().await;
}

#[tokio::test]
async fn a_release_that_is_not_healthy_says_why() {
    let env = Env::new("healthy").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    // Where an expected code is an error to Kubernetes, readiness is only an open port, and the operator's probe decides.
    let unready = Case {
        name: "unready",
        switches: &[("APP_HEALTH", "fail")],
        health: PROBE,
        change: json!({"services": {"web": {"tag": "unready"}}, "timeouts": {"start": "10s"}}),
        reason: "StartDeadlineExceeded",
        sentence: &["not done within 10s: web 0/1 ready", "answered 503", "checkout is broken"],
        log: &[
            ("event Pod/unready-web-", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
            ("log unready-web-", "GET /healthz 503"),
            ("probe", "answered 503 Service Unavailable instead of 200-399"),
        ],
    };
    let answer = Case {
        name: "answer",
        switches: &[("APP_HEALTH", "fail")],
        health: "{http: {path: /healthz, expect: '200,404'}, interval: 200ms}",
        change: json!({"services": {"web": {"tag": "answer"}}}),
        reason: "HealthCheckFailed",
        sentence: &["bad probes in a row: service web", "answered 503", "checkout is broken"],
        log: &[
            ("event Pod/answer-web-", "Started"),
            ("log answer-web-", "GET /healthz 503"),
            ("probe", "answered 503 Service Unavailable instead of 200,404"),
        ],
    };
    let silent = Case {
        name: "silent",
        switches: &[("APP_HEALTH", "slow")],
        health: "{http: {path: /healthz, expect: '200,404'}, interval: 200ms, timeout: 300ms}",
        change: json!({"services": {"web": {"tag": "silent"}}}),
        reason: "HealthCheckFailed",
        sentence: &["bad probes in a row: service web", "no answer within 300ms"],
        log: &[
            ("event Pod/silent-web-", "Started"),
            ("log silent-web-", "listens on"),
            ("probe", "no answer within 300ms"),
        ],
    };
    let refused = Case {
        name: "refused",
        switches: &[("APP_HEALTH", "refuse")],
        health: PROBE,
        change: json!({"services": {"web": {"tag": "refused"}}, "timeouts": {"start": "10s"}}),
        reason: "StartDeadlineExceeded",
        sentence: &["not done within 10s: web 0/1 ready", "connection refused"],
        log: &[
            ("event Pod/refused-web-", "connection refused"),
            ("log refused-web-", "does not listen"),
            ("probe", "connection refused"),
        ],
    };
    tokio::join!(
        fails_as_told(&env, &unready),
        fails_as_told(&env, &answer),
        fails_as_told(&env, &silent),
        fails_as_told(&env, &refused)
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_release_that_the_quota_forbids_says_why() {
    let env = Env::new("quota").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start(&env).await;
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    env.api::<ResourceQuota>().create(&PostParams::default(), &quota).await.unwrap();
    let case = Case {
        name: "quota",
        switches: &[("APP_NOTE", "another release")],
        health: PROBE,
        change: json!({"services": {"web": {"tag": "quota"}}, "timeouts": {"pull": "6s"}}),
        reason: "PullDeadlineExceeded",
        sentence: &["not done within 6s: FailedCreate: workload quota-web-", "exceeded quota: few"],
        log: &[],
    };
    fails_as_told(&env, &case).await;
    operator.stop().await;
}
