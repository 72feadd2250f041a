//! Hooks: when they run, with what, how often, and what becomes of a deploy whose hook fails.

use k8s_openapi::api::{batch::v1::Job, core::v1::Service};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use stagekeeper::{
    api::{Stage, labels},
    domain::deploy::State,
    store::HistoryEntry,
};

use crate::{
    cluster::{DEADLINE, Env},
    gate::Gate,
    lab::{IMPATIENT, ends, project, stage, waiting},
    operator::Operator,
    quiet,
    recorder::{Recorder, Sight},
};

/// The project's own database is there once for all instances, and each hook may ask it.
const HOOKS: &str = "
  hooks:
    beforeStart:
    - {name: migrate, args: [-print, '$(GREETING) from $(STAGEKEEPER_HOOK) of $(STAGEKEEPER_STAGE)', -get, 'http://$(STAGEKEEPER_SERVICE_GATE_HOST):8080/', -retry, 30s, -contains, 'shop 1 on']}
    beforeTraffic:
    - {name: seed, args: [-print, '$(EXTRA)', -get, 'http://$(STAGEKEEPER_SERVICE_WEB_HOST):8080/', -retry, 30s, -contains, 'shop 1.1.0'], env: [{name: EXTRA, value: 'with $(GREETING)'}]}
    verify:
    - {name: accept, args: GATED}
    afterSuccess:
    - {name: announce, args: [-print, done]}";

/// Each hook runs at its moment, with the release's image and environment, once, and its output is kept; also when the
/// operator is killed while one runs.
#[tokio::test]
async fn hooks_run_at_their_moments_and_once() {
    let env = Env::new("hooks").await;
    let recorder = Recorder::start(&env);
    let identity = [("STAGEKEEPER_LEASE_IDENTITY", "one")];
    let operator = Operator::start_with(&env, &identity).await;
    env.push("web", "1.0.0", &[]).await;
    let digest = env.push("web", "1.1.0", &[]).await;
    let gate = Gate::new(&env, "live").await;
    let shop = project("shop", "web").replace("env: [", "env: [{name: GREETING, value: hello}, ");
    let older = "  services: {web: {policy: {semver: '1.0.x'}}}";
    env.apply(&(shop + &Gate::service() + &stage("live", "shop", older))).await;
    let before = env.until_serving("live", "gate 1, web 1.0.0").await;
    gate.shut().await;

    env.apply(&stage("live", "shop", &HOOKS.replace("GATED", &Gate::args()))).await;
    let status = env.until("live", "the verify hook runs", |status| {
        status.deploy.as_ref().is_some_and(|deploy| deploy.state == "HealthChecking")
            && waiting(status) == "RunningHooks"
    });
    let deploy = status.await.deploy.unwrap();
    assert!(deploy.message.unwrap().contains("verify hooks: accept runs"));
    env.wait("its pod runs", DEADLINE, async || {
        recorder.seen().iter().any(|pod| is(pod, "verify/accept") && pod.phase == "Running").then_some(())
    })
    .await;
    operator.kill9();
    let operator = Operator::start_with(&env, &identity).await;
    operator.ready().await;
    // The traffic is switched when verification has succeeded, and not before.
    let stable: Service = env.api().get("live-web").await.unwrap();
    let selected = stable.spec.unwrap().selector.unwrap().remove(labels::INSTANCE);
    assert_eq!(selected, before.active);
    env.until_answer("live-web", "shop 1.0.0 ").await;
    gate.open().await;
    env.until_serving("live", "gate 1, web 1.1.0").await;
    env.until_answer("live-web", "shop 1.1.0 ").await;

    let runs = env.wait("all hooks have ended", DEADLINE, async || {
        let runs = hook_runs(&env, &deploy.id).await;
        (runs.len() == 4 && runs.iter().all(|run| run.1.is_some())).then_some(runs)
    });
    let expected = ["afterSuccess/announce", "beforeStart/migrate", "beforeTraffic/seed", "verify/accept"];
    assert_eq!(runs.await, expected.map(|name| (name.to_owned(), Some(true), String::new())));
    let moments = ["before-start/migrate", "before-traffic/seed", "verify/accept", "after-success/announce"];
    for hook in moments {
        assert_eq!(recorder.pods_of(hook, &deploy.id).len(), 1, "{hook} ran once");
    }
    let entry = env.deploys("live").await.pop().unwrap();
    assert_eq!(entry.stored.deploy.id.to_string(), deploy.id);
    let instance = entry.stored.deploy.instance.clone();
    let new = |pod: &Sight| pod.service.is_some() && pod.instance.as_ref() == Some(&instance);
    let ended = |hook: &str| recorder.first("the end of a hook", |pod| is(pod, hook) && pod.phase == "Succeeded");
    let begun = |hook: &str| recorder.first("the beginning of a hook", |pod| is(pod, hook));
    assert!(ended(moments[0]) < recorder.first("a new pod", new), "migrate before any new pod");
    assert!(recorder.first("a ready pod", |pod| new(pod) && pod.ready) < begun(moments[1]), "seed after readiness");
    assert!(ended(moments[1]) < begun(moments[2]), "verification after the seed");
    assert!(ended(moments[2]) < begun(moments[3]), "announced after verification");
    let image = format!("{}@{digest}", env.repository("web"));
    for pod in recorder.seen().iter().filter(|pod| pod.hook.is_some()) {
        assert_eq!(pod.image, image, "the release's image, by digest");
    }

    let log = env.log(entry.stored.deploy.id).await;
    let said = |source: &str, text: &str| {
        log.iter().filter(|line| line.line.source == source && line.line.text.contains(text)).count()
    };
    assert_eq!(said("hook/beforeStart/migrate", "hello from migrate of live"), 1, "{log:#?}");
    assert_eq!(said("hook/beforeTraffic/seed", "with hello"), 1, "{log:#?}");
    assert_eq!(said("hook/verify/accept", "failed=0"), 1, "{log:#?}");
    assert_eq!(said("hook/afterSuccess/announce", "done"), 1, "{log:#?}");
    env.wait("their Jobs are gone", DEADLINE, async || env.list::<Job>().await.is_empty().then_some(())).await;
    operator.stop().await;
}

/// A hook before the start may need what the stage's instances share, also when there is nothing at all yet.
#[tokio::test]
async fn the_first_deploys_hooks_find_what_the_stage_shares() {
    let env = Env::new("first-hooks").await;
    let recorder = Recorder::start(&env);
    let operator = Operator::start(&env).await;
    env.push("web", "1.1.0", &[]).await;
    Gate::new(&env, "live").await;
    let migrate = HOOKS.split("    beforeTraffic:").next().unwrap().replace("$(GREETING)", "hello");
    env.apply(&(project("shop", "web") + &Gate::service() + &stage("live", "shop", &migrate))).await;
    env.until_serving("live", "gate 1, web 1.1.0").await;
    let deploy = env.deploys("live").await.pop().unwrap();
    assert_eq!(ends(&env.deploys("live").await), ["gate 1, web 1.1.0 success"]);
    let migrated = recorder.first("migrated", |pod| is(pod, "before-start/migrate") && pod.phase == "Succeeded");
    let first = recorder.first("a pod of web", |pod| pod.service.as_deref() == Some("web"));
    assert!(migrated < first, "before any pod of the new release: {:#?}", recorder.seen());
    assert_eq!(recorder.pods_of("before-start/migrate", &deploy.stored.deploy.id.to_string()).len(), 1);
    operator.stop().await;
}

/// A hook that fails, or takes longer than it may.
struct Case {
    stage: &'static str,
    hooks: &'static str,
    said: &'static str,
    at: State,
}

const CASES: &[Case] = &[
    Case {
        stage: "migrating",
        hooks: "beforeStart: [{name: migrate, args: [-print, 'no such table', -exit, '7']}]",
        said: "hook migrate: exited with code 7 (Error)",
        at: State::Pulling,
    },
    Case {
        stage: "seeding",
        hooks: "beforeTraffic: [{name: fine, args: [-print, fine]}, {name: seed, args: [-print, 'no such table', -exit, '8']}]",
        said: "hook seed: exited with code 8 (Error)",
        at: State::Starting,
    },
    Case {
        stage: "verifying",
        hooks: "verify: [{name: accept, args: [-print, 'no such table', -exit, '9']}]",
        said: "hook accept: exited with code 9 (Error)",
        at: State::HealthChecking,
    },
    Case {
        stage: "dawdling",
        hooks: "beforeStart: [{name: migrate, timeout: 3s, args: [-print, 'no such table', -sleep, 10m]}]",
        said: "hook migrate: did not end within its timeout",
        at: State::Pulling,
    },
];

/// A failing hook fails the deploy with its name and exit code; the release before serves on, and a mended hook goes on
/// by itself. Only what comes after success cannot fail it any more.
#[tokio::test]
async fn a_failing_hook_fails_the_deploy() {
    let env = Env::new("failing-hooks").await;
    let recorder = Recorder::start(&env);
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let mut all = project("shop", "web");
    for name in CASES.iter().map(|case| case.stage).chain(["announcing"]) {
        all.push_str(&stage(name, "shop", IMPATIENT));
    }
    env.apply(&all).await;
    for case in CASES {
        env.until_serving(case.stage, "web 1.0.0").await;
        env.apply(&stage(case.stage, "shop", &format!("{IMPATIENT}\n  hooks: {{{}}}", case.hooks))).await;
    }
    env.until_serving("announcing", "web 1.0.0").await;
    let after = format!("{IMPATIENT}\n  hooks: {{afterSuccess: [{{name: announce, args: [-exit, '5']}}]}}");
    env.apply(&stage("announcing", "shop", &after)).await;

    for case in CASES {
        let said = env.until_stalled(case.stage, "RolledBack").await;
        assert!(said.starts_with(&format!("web 1.0.0 failed: {}", case.said)), "{}: {said}", case.stage);
        let deploys = env.deploys(case.stage).await;
        assert_eq!(ends(&deploys), ["web 1.0.0 success", "web 1.0.0 rolled_back"], "{}", case.stage);
        let failed = &deploys[1];
        assert_eq!(failed.stored.deploy.reason.as_deref(), Some("HookFailed"), "{}", case.stage);
        assert_eq!(left_for(failed, State::Failed), Some(case.at), "{}", case.stage);
        let log = env.log(failed.stored.deploy.id).await;
        let kept =
            log.iter().any(|line| line.line.source.starts_with("hook/") && line.line.text.contains("no such table"));
        assert!(kept, "{}: its last words are kept: {log:#?}", case.stage);
        let status = env.stage(case.stage).await.status.unwrap();
        assert_eq!(status.active.as_ref(), Some(&deploys[0].stored.deploy.instance), "{}", case.stage);
        env.until_answer(&format!("{}-web", case.stage), "shop 1.0.0 ").await;
    }
    let announced = env.until_serving("announcing", "web 1.0.0").await.deploy.unwrap();
    let runs = env.wait("it has ended", DEADLINE, async || {
        let runs = hook_runs(&env, &announced.id).await;
        runs.first().is_some_and(|run| run.1.is_some()).then_some(runs)
    });
    let told = ("afterSuccess/announce".to_owned(), Some(false), "exited with code 5 (Error)".to_owned());
    assert_eq!(runs.await, [told]);

    quiet::through_scans(&operator, 3).await;
    assert_eq!(ends(&env.deploys("announcing").await), ["web 1.0.0 success", "web 1.0.0 success"]);
    for case in CASES {
        let deploys = env.deploys(case.stage).await;
        assert_eq!(deploys.len(), 2, "{}: it is not tried again by itself", case.stage);
        let id = deploys[1].stored.deploy.id.to_string();
        let runs = hook_runs(&env, &id).await;
        for (name, ..) in &runs {
            let moment = name.replace("beforeStart", "before-start").replace("beforeTraffic", "before-traffic");
            assert_eq!(recorder.pods_of(&moment, &id).len(), 1, "{}: {name} ran once", case.stage);
        }
    }
    for case in CASES {
        env.patch::<Stage>(
            case.stage,
            json!({"spec": {"hooks": {"verify": [{"name": "mended", "args": ["-print", "fine"]}],
            "beforeStart": null, "beforeTraffic": null}}}),
        )
        .await;
    }
    for case in CASES {
        env.until_serving(case.stage, "web 1.0.0").await;
        assert_eq!(env.deploys(case.stage).await.len(), 3, "{}: mended, it goes on by itself", case.stage);
    }
    env.wait("all Jobs are gone", DEADLINE, async || env.list::<Job>().await.is_empty().then_some(())).await;
    operator.stop().await;
}

fn is(pod: &Sight, hook: &str) -> bool {
    pod.hook.as_deref() == Some(hook)
}

/// The state that a deploy left for another.
fn left_for(entry: &HistoryEntry, to: State) -> Option<State> {
    entry.transitions.iter().find(|step| step.to == to).and_then(|step| step.from)
}

/// The hooks of a deploy as stored: `phase/name`, whether it ended well, and what it said.
async fn hook_runs(env: &Env, deploy: &str) -> Vec<(String, Option<bool>, String)> {
    let mut connection = PgConnection::connect(&env.database.url).await.expect("the database");
    sqlx::query_as(
        "SELECT phase || '/' || name, ok, coalesce(message, '') FROM hook_runs WHERE deploy_id = $1::uuid ORDER BY 1",
    )
    .bind(deploy)
    .fetch_all(&mut connection)
    .await
    .expect("the hooks")
}
