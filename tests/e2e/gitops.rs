//! What `GitOps` tools do all day: applying the same manifests again, comparing, pruning, and applying what was exported.

use std::{io::Write as _, process::Stdio};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use stagekeeper::api::{Stage, conditions};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{IMPATIENT, ends, holds, project, stage},
    operator::Operator,
    quiet,
};

impl Env {
    /// Runs kubectl in the namespace, with these manifests as its input. Gives its exit code and what it printed.
    fn kubectl(&self, arguments: &[&str], manifests: &str) -> (Option<i32>, String) {
        let tools = std::env::var("STAGEKEEPER_TEST_TOOLS").expect("`make test` sets STAGEKEEPER_TEST_TOOLS");
        let mut kubectl = std::process::Command::new(format!("{tools}/kubectl"))
            .args(["--kubeconfig", &self.kubeconfig, "--namespace", &self.namespace])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        kubectl.stdin.take().expect("its input").write_all(manifests.as_bytes()).expect("it reads");
        let done = kubectl.wait_with_output().expect("kubectl ends");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The same, of a command that has to succeed.
    fn kubectl_does(&self, arguments: &[&str], manifests: &str) -> String {
        let (code, said) = self.kubectl(arguments, manifests);
        assert_eq!(code, Some(0), "kubectl {arguments:?}: {said}");
        said
    }

    /// What `stagekeeper export` prints.
    fn exported(&self, arguments: &[&str]) -> String {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
            .arg("export")
            .args(arguments)
            .args(["--namespace", &self.namespace])
            .env("KUBECONFIG", &self.kubeconfig)
            .env("DATABASE_URL", &self.database.url)
            .output()
            .expect("it runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    }
}

/// By either way of applying: after everything has settled nothing differs, and the same again writes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_manifests_differ_in_nothing_from_what_runs() {
    let env = Env::new("gitops").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let manifests = |way: &str| {
        let namespaced =
            |text: String| text.replace("REGISTRY", &format!("{}/{}", crate::images::registry(), env.namespace));
        namespaced(project(way, "web") + &stage(&format!("{way}-live"), way, IMPATIENT))
    };
    for (way, flags) in [("client", vec![]), ("server", vec!["--server-side"])] {
        let manifests = manifests(way);
        let apply = [vec!["apply", "-f", "-"], flags.clone()].concat();
        let diff = [vec!["diff", "-f", "-"], flags].concat();
        env.kubectl_does(&apply, &manifests);
        env.until_serving(&format!("{way}-live"), "web 1.0.0").await;
        let waits = ["wait", "--for=condition=Ready", "--timeout=60s", &format!("stage/{way}-live")];
        env.kubectl_does(&waits, "");
        env.kubectl_does(&diff, &manifests);
        env.kubectl_does(&apply, &manifests);
        quiet::is_kept(&env, &operator, 3).await;
        env.kubectl_does(&diff, &manifests);
        assert_eq!(env.deploys(&format!("{way}-live")).await.len(), 1, "the same again is no deploy");
    }
    operator.stop().await;
}

/// What is exported runs the same images, where nothing else is known and where policies would choose others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_runs_the_same_images_again() {
    let env = Env::new("export").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", IMPATIENT))).await;
    env.until_serving("live", "web 1.0.0").await;
    let exported = env.exported(&[]);
    assert!(exported.contains("# live serves web 1.0.0"), "{exported}");
    for cluster in ["managedFields", "resourceVersion", "uid", "finalizers", "status", "last-applied"] {
        assert!(!exported.contains(cluster), "{cluster} is not a declaration: {exported}");
    }
    let alone = env.exported(&["live", "--unpinned"]);
    assert!(!alone.contains("kind: Project") && !alone.contains("pin:"), "{alone}");

    // Pruned, and meanwhile something newer was pushed.
    env.kubectl_does(&["delete", "-f", "-", "--wait"], &exported);
    env.push("web", "1.1.0", &[]).await;
    env.kubectl_does(&["apply", "--server-side", "-f", "-"], &exported);
    env.until("live", "it serves again", |status| holds(status, conditions::READY).is_some()).await;
    env.kubectl_does(&["diff", "--server-side", "-f", "-"], &exported);
    quiet::is_kept(&env, &operator, 3).await;
    let deploys = env.deploys("live").await;
    let releases: Vec<_> = deploys.iter().map(|one| one.stored.deploy.release.clone()).collect();
    assert_eq!(ends(&deploys).len(), 2, "the history goes on: {:?}", ends(&deploys));
    assert_eq!(releases[0], releases[1], "the same release");

    // The declarations may be pinned to what served at any instant.
    let then = deploys[0].stored.deploy.finished_at.expect("it ended").to_string();
    let before = env.exported(&["live", "--at", &then]);
    assert!(before.contains("pin:"), "{before}");
    operator.stop().await;
}

/// Nothing of ours keeps a namespace that somebody deletes, and its history stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_deleted_under_a_stage_goes() {
    let env = Env::new("under-us").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", IMPATIENT))).await;
    env.until_serving("live", "web 1.0.0").await;
    env.api::<Stage>().get("live").await.expect("it is there");
    let all: Api<Namespace> = Api::all(env.client.clone());
    all.delete(&env.namespace, &DeleteParams::default()).await.expect("it is deleted");
    let gone = async || all.get_opt(&env.namespace).await.expect("an answer").is_none().then_some(());
    env.wait("the namespace is gone", DEADLINE, gone).await;
    assert_eq!(ends(&env.deploys("live").await), ["web 1.0.0 success"], "what was done is remembered");
    drop(operator);
}
