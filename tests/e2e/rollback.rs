//! Failures and the ways back: before success, soon after it, with nothing to go back to, and asked for again.

use stagekeeper::{
    api::{Stage, labels},
    domain::deploy::State,
};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{self, IMPATIENT, ends, project, stage},
    operator::Operator,
    quiet,
};

/// A release that never gets healthy is rolled back and not tried again by itself; asked for again it is tried once; a
/// mended image under the same tag is another release, and is deployed.
#[tokio::test]
async fn a_bad_release_is_rolled_back_and_held_back() {
    let env = Env::new("bad").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", IMPATIENT))).await;
    let good = env.until_serving("live", "web 1.0.0").await;

    env.push("web", "1.1.0", &[("APP_HEALTH", "fail")]).await;
    let said = env.until_stalled("live", "RolledBack").await;
    assert!(said.starts_with("web 1.1.0 failed: not done within 15s: web 0/1 ready"), "{said}");
    assert!(said.contains("503"), "what the health check answered: {said}");
    assert!(said.contains("web 1.0.0 serves; push a newer image"), "{said}");
    let status = env.stage("live").await.status.unwrap();
    assert_eq!((status.release, status.active), (good.release, good.active), "the earlier instance serves on");
    env.until_answer("live-web", "shop 1.0.0 ").await;
    assert_eq!(ends(&env.deploys("live").await), ["web 1.0.0 success", "web 1.1.0 rolled_back"]);
    let bad = env.deploys("live").await.pop().unwrap();
    let steps: Vec<State> = bad.transitions.iter().map(|step| step.to).collect();
    let expected = [State::Pending, State::Pulling, State::Starting, State::Failed, State::RolledBack];
    assert_eq!(steps, expected);
    let vetoed: Vec<_> = status.vetoed.iter().map(|veto| (veto.release.clone(), veto.deploy.clone())).collect();
    assert_eq!(vetoed, [(bad.stored.deploy.release.to_string(), Some(bad.stored.deploy.id.to_string()))]);

    quiet::through_scans(&operator, 4).await;
    assert_eq!(env.deploys("live").await.len(), 2, "a vetoed release is not tried again by itself");

    ask_again(&env, "live", "please").await;
    let retried = env.wait("the retry ends", DEADLINE, async || {
        let deploys = env.deploys("live").await;
        (deploys.len() == 3 && lab::is_at_rest(&deploys)).then_some(deploys)
    });
    let retried = retried.await.pop().unwrap();
    assert_eq!(retried.stored.deploy.state, State::RolledBack);
    assert_eq!(retried.stored.deploy.cause, "retry please was asked for");
    env.until("live", "the request is echoed", |status| status.last_handled_retry.as_deref() == Some("please")).await;
    env.until_stalled("live", "RolledBack").await;
    quiet::through_scans(&operator, 3).await;
    assert_eq!(env.deploys("live").await.len(), 3, "one request is one try");

    env.push("web", "1.1.0", &[("APP_MENDED", "yes")]).await;
    let mended = env.until_serving("live", "web 1.1.0").await;
    assert_ne!(mended.release.as_deref(), Some(bad.stored.deploy.release.0.as_str()), "another digest");
    env.until_answer("live-web", "shop 1.1.0 ").await;
    operator.stop().await;
}

/// With nothing to go back to, a failed first deploy says so, stays to be looked at, and goes on with whatever mends it.
#[tokio::test]
async fn a_first_deploy_that_fails_waits_to_be_mended() {
    let env = Env::new("first").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[("APP_FAIL", "start:9")]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", IMPATIENT))).await;
    let said = env.until_stalled("live", "DeployFailed").await;
    assert!(said.contains("exited with code 9"), "{said}");
    assert!(said.contains("change the spec, push a newer image, or ask again with the annotation"), "{said}");
    let status = env.stage("live").await.status.unwrap();
    assert_eq!((status.release, status.active), (None, None), "nothing serves");
    assert!(status.vetoed.is_empty(), "with nothing better there is no veto: {:?}", status.vetoed);
    let deploys = env.deploys("live").await;
    assert_eq!(ends(&deploys), ["web 1.0.0 failed"]);
    let log = env.log(deploys[0].stored.deploy.id).await;
    assert!(log.iter().any(|line| line.line.text.contains("cannot read its configuration")), "the last words: {log:?}");

    quiet::through_scans(&operator, 3).await;
    assert_eq!(env.deploys("live").await.len(), 1, "it is not tried again by itself");
    ask_again(&env, "live", "once").await;
    let again = env.wait("the retry fails too", DEADLINE, async || {
        let deploys = env.deploys("live").await;
        (deploys.len() == 2 && lab::is_at_rest(&deploys)).then_some(deploys)
    });
    assert_eq!(ends(&again.await), ["web 1.0.0 failed", "web 1.0.0 failed"]);

    env.push("web", "1.0.1", &[]).await;
    env.until_serving("live", "web 1.0.1").await;
    env.until("live", "the failed instance is gone", |status| status.instances.len() == 1).await;
    operator.stop().await;
}

/// `rollback.watch`: what collapses soon after its success is rolled back as well, by a crash loop or by readiness that
/// is lost and stays lost; without `rollback.onFailure` it is told and left.
#[tokio::test]
async fn a_release_that_collapses_after_success_is_rolled_back() {
    let env = Env::new("watch").await;
    let operator = Operator::start(&env).await;
    let more = format!("{IMPATIENT}\n  rollback: {{keepPrevious: 5m, watch: 5m}}");
    let data = "    volumes: [{name: data, mountPath: /data, emptyDir: {}}]\n";
    for name in ["crashing", "fading"] {
        env.push(name, "1.0.0", &[]).await;
        env.apply(&(project(name, name) + data + &stage(name, name, &more))).await;
    }
    for name in ["crashing", "fading"] {
        env.until_serving(name, "web 1.0.0").await;
    }
    env.push("crashing", "1.1.0", &[("APP_FAIL", "told"), ("APP_DATA", "/data")]).await;
    env.push("fading", "1.1.0", &[("APP_HEALTH", "told"), ("APP_DATA", "/data")]).await;
    for (name, file) in [("crashing", "dead"), ("fading", "sick")] {
        env.until_serving(name, "web 1.1.0").await;
        env.tell(&format!("{name}-web"), file, "now").await;
    }
    for (name, why) in [("crashing", "CrashLoopBackOff"), ("fading", "readiness was lost after success: web 0/1 ready")]
    {
        let said = env.until_stalled(name, "RolledBack").await;
        assert!(said.contains("web 1.1.0 failed: ") && said.contains(why), "{said}");
        assert!(said.contains("web 1.0.0 serves"), "{said}");
        env.until_answer(&format!("{name}-web"), "shop 1.0.0 ").await;
        let deploys = env.deploys(name).await;
        assert_eq!(ends(&deploys), ["web 1.0.0 success", "web 1.1.0 success", "web 1.0.0 success"]);
        let (bad, back) = (&deploys[1].stored.deploy, &deploys[2].stored.deploy);
        assert_eq!(back.rollback_of, Some(bad.id));
        assert_eq!(back.snapshot, deploys[0].stored.deploy.snapshot, "what was stored, started again");
        assert_eq!(back.actor.to_string(), "policy");
        assert!(back.cause.contains(why), "{}", back.cause);
        let vetoed = env.stage(name).await.status.unwrap().vetoed;
        assert_eq!(vetoed.len(), 1);
        assert_eq!(vetoed[0].release, bad.release.to_string());
    }
    quiet::through_scans(&operator, 4).await;
    for name in ["crashing", "fading"] {
        assert_eq!(env.deploys(name).await.len(), 3, "{name} is not tried again by itself");
    }
    env.push("fading", "1.2.0", &[]).await;
    env.until_serving("fading", "web 1.2.0").await;
    operator.stop().await;
}

/// With `rollback.onFailure: false` a failure stays as it is, to be looked at, and the earlier release still serves. A
/// followed tag that gets a mended image is deployed.
#[tokio::test]
async fn without_rollback_a_failure_stays() {
    let env = Env::new("stay").await;
    let operator = Operator::start(&env).await;
    env.push("web", "latest", &[("APP_VERSION", "1")]).await;
    let followed = project("shop", "web").replace("{semver: '>=1.0.0'}", "{digest: latest}");
    let more = format!("{IMPATIENT}\n  rollback: {{onFailure: false}}");
    env.apply(&(followed + &stage("live", "shop", &more))).await;
    env.until_serving("live", "web latest").await;

    env.push("web", "latest", &[("APP_VERSION", "2"), ("APP_HEALTH", "fail")]).await;
    env.wait("it fails", DEADLINE, async || {
        let deploys = env.deploys("live").await;
        (ends(&deploys) == ["web latest success", "web latest failed"] && lab::is_at_rest(&deploys)).then_some(())
    })
    .await;
    let said = env.until_stalled("live", "DeployFailed").await;
    assert!(said.contains("503"), "{said}");
    env.until_answer("live-web", "shop 1 ").await;

    quiet::through_scans(&operator, 3).await;
    assert_eq!(env.deploys("live").await.len(), 2, "it is not tried again by itself");
    env.push("web", "latest", &[("APP_VERSION", "3")]).await;
    env.until_serving("live", "web latest").await;
    env.until_answer("live-web", "shop 3 ").await;
    assert_eq!(env.deploys("live").await.len(), 3);
    operator.stop().await;
}

async fn ask_again(env: &Env, stage: &str, value: &str) {
    let patch = serde_json::json!({"metadata": {"annotations": {labels::RETRY: value}}});
    env.patch::<Stage>(stage, patch).await;
}
