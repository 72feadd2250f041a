//! Secrets: values reach pods and nobody else, another value is another deploy, and what a Kubernetes Secret had is kept.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod, Secret, Service},
    events::v1::Event,
};
use kube::{ResourceExt as _, api::DeleteParams};
use sha2::{Digest as _, Sha256};
use stagekeeper::{
    api::{Project, Stage, conditions, labels},
    domain::{actor::Actor, deploy::State},
};

use crate::{
    cluster::{DEADLINE, Env},
    hostile_registry::HostileRegistry,
    lab::{IMPATIENT, WEB, ends, stage},
    operator::Operator,
    shop,
};

/// What the operator and whoever has the key are given.
pub fn key() -> String {
    format!("2026:{}", "5b".repeat(32))
}

/// A Project of [`WEB`], and of whatever else its spec says.
fn project(more: &str) -> String {
    let web = WEB.replace("IMAGE", "web");
    format!(
        "---\napiVersion: stagekeeper.dev/v1alpha1\nkind: Project\nmetadata: {{name: shop}}\nspec:\n  services:{web}\n{more}\n"
    )
}

const DECLARED: &str = "  secrets:
  - {name: STRIPE_KEY}
  - {name: tls.key, service: web, as: file, path: /etc/shop/tls.key, mode: '0444'}";

impl Env {
    /// The command line of a person who has the key: everything that it says.
    pub fn person(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stagekeeper"));
        command.args(["--namespace", &self.namespace]).args(arguments);
        command.env("DATABASE_URL", &self.database.url).env("STAGEKEEPER_ENCRYPTION_KEYS", key()).env("USER", "jane");
        command.env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Waits until a condition of the Project has this status and reason, and gives its message.
    pub async fn until_credentials(&self, status: &str, reason: &str) -> String {
        self.wait(&format!("CredentialsReady is {status} for {reason}"), DEADLINE, async || {
            let told = self.api::<Project>().get("shop").await.unwrap().status?;
            let condition = conditions::get(&told.conditions, "CredentialsReady")?;
            (condition.status == status && condition.reason == reason).then(|| condition.message.clone())
        })
        .await
    }

    /// Waits until so many deploys of the stage have succeeded and none is open, and gives the last one's cause and actor.
    async fn until_deployed(&self, stage: &str, many: usize) -> (String, Actor) {
        self.wait(&format!("{many} deploys of {stage} have succeeded"), DEADLINE, async || {
            let deploys = self.deploys(stage).await;
            let done = deploys.iter().filter(|it| it.stored.deploy.state == State::Success).count();
            assert!(done <= many, "{:?}", ends(&deploys));
            let last = deploys.last().filter(|_| done == many)?;
            Some((last.stored.deploy.cause.clone(), last.stored.deploy.actor.clone()))
        })
        .await
    }

    /// Waits until the service has got this value, as a variable or as a file.
    async fn until_has(&self, service: &str, place: &str, value: &str) {
        let path = format!("/sha256/{place}");
        self.until_answer_at(service, &path, &hex::encode(Sha256::digest(value))).await;
    }

    /// The instance that has the stage's traffic.
    async fn serving(&self, stage: &str) -> Option<String> {
        let stable: Service = self.api().get(&format!("{stage}-web")).await.ok()?;
        stable.spec?.selector?.remove(labels::INSTANCE)
    }

    /// The Secrets that Stagekeeper made for a stage.
    async fn made(&self, stage: &str) -> Vec<Secret> {
        let mut secrets = self.list::<Secret>().await;
        secrets.retain(|secret| secret.labels().get(labels::STAGE).is_some_and(|it| it == stage));
        secrets
    }
}

#[tokio::test]
async fn secrets_are_variables_and_files_and_another_value_is_another_deploy() {
    let env = Env::new("secrets").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key())]).await;
    env.apply(&(project(DECLARED) + &stage("live", "shop", "  rollback: {keepPrevious: 0s}"))).await;

    let message = env.until_stalled("live", "SecretMissing").await;
    assert!(message.contains("stagekeeper secret set shop STRIPE_KEY"), "{message}");
    env.until_credentials("False", "SecretMissing").await;
    assert!(env.deploys("live").await.is_empty(), "nothing starts without what it needs");

    let file = "-----BEGIN KEY-----\nfirst line of it\nsecond line of it\n-----END KEY-----";
    env.person(&["secret", "set", "shop", "STRIPE_KEY"], "for-everybody");
    env.person(&["secret", "set", "shop", "tls.key", "--service", "web"], file);
    env.until_deployed("live", 1).await;
    env.until_credentials("True", "Stored").await;
    env.until_has("live-web", "env/STRIPE_KEY", "for-everybody").await;
    env.until_has("live-web", "file/etc/shop/tls.key", file).await;

    let made = env.made("live").await;
    let instance = env.serving("live").await.expect("an instance");
    let owner = env.stage("live").await.uid().unwrap();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(made[0].labels().get(labels::INSTANCE), Some(&instance));
    assert_eq!(made[0].owner_references()[0].uid, owner);
    assert_eq!(made[0].immutable, Some(true));
    assert!(!made[0].name_any().contains(&hex::encode(Sha256::digest("for-everybody"))[..8]));

    // The same value once more is nothing new; one of the service's own goes before the one for all.
    let said = env.person(&["secret", "set", "shop", "STRIPE_KEY"], "for-everybody");
    assert!(said.contains("is what it was"), "{said}");
    env.person(&["secret", "set", "shop", "STRIPE_KEY", "--service", "web"], "for-web-alone");
    let (cause, actor) = env.until_deployed("live", 2).await;
    assert!(cause.contains("secret STRIPE_KEY of service web added"), "{cause}");
    assert!(!cause.contains("for-"), "{cause}");
    env.until_has("live-web", "env/STRIPE_KEY", "for-web-alone").await;
    assert!(matches!(actor, Actor::User(_)), "{actor}");

    env.person(&["secret", "set", "shop", "STRIPE_KEY", "--service", "web"], "for-web-again");
    let (cause, actor) = env.until_deployed("live", 3).await;
    assert_eq!(cause, "secret STRIPE_KEY of service web changed");
    assert_eq!(actor, Actor::User("jane".into()));
    env.until_has("live-web", "env/STRIPE_KEY", "for-web-again").await;
    env.wait("the Secrets of earlier instances are gone", DEADLINE, async || {
        let serving = env.serving("live").await?;
        let made = env.made("live").await;
        let of: BTreeSet<_> = made.iter().filter_map(|secret| secret.labels().get(labels::INSTANCE)).collect();
        (made.len() == 1 && of == BTreeSet::from([&serving])).then_some(())
    })
    .await;

    // What somebody deletes is made again, and nothing starts anew for it.
    let name = env.made("live").await[0].name_any();
    env.api::<Secret>().delete(&name, &DeleteParams::default()).await.unwrap();
    env.wait("it is made again", DEADLINE, async || env.api::<Secret>().get_opt(&name).await.unwrap().map(drop)).await;
    assert_eq!(env.deploys("live").await.len(), 3);

    env.api::<Stage>().delete("live", &DeleteParams::default()).await.unwrap();
    env.wait("nothing is left", DEADLINE, async || env.made("live").await.is_empty().then_some(())).await;
    operator.stop().await;
}

fn original(value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: payment}}\nstringData: {{key: {value}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: robot}}\ntype: kubernetes.io/basic-auth\nstringData: {{username: robot, password: {value}}}\n"
    )
}

#[tokio::test]
async fn what_a_kubernetes_secret_has_is_copied_when_it_changes_and_kept_when_it_goes() {
    let env = Env::new("copied").await;
    env.push("web", "1.0.0", &[]).await;
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key())]).await;
    let declared = "  secrets: [{name: STRIPE_KEY, secretRef: {name: payment, key: key}}]
  credentials: [{name: robot, type: registry, hosts: [registry.example.com], expires: '2126-01-01T00:00:00Z', secretRef: {name: robot}}]";
    env.apply(&(project(declared) + &stage("live", "shop", ""))).await;
    let message = env.until_credentials("False", "SecretNotFound").await;
    assert!(message.contains("no Secret robot") && message.contains("no Secret payment"), "{message}");
    env.until_stalled("live", "SecretMissing").await;

    env.apply(&original("first-value")).await;
    env.until_credentials("True", "Stored").await;
    env.until_deployed("live", 1).await;
    env.until_has("live-web", "env/STRIPE_KEY", "first-value").await;
    let listed = env.person(&["credential", "list", "shop"], "");
    assert!(listed.contains("robot") && listed.contains("registry.example.com"), "{listed}");
    let expiry = format!("credential_expiry_timestamp_seconds{{namespace=\"{}\"", env.namespace);
    assert!(operator.metrics().await.contains(&expiry), "{}", operator.metrics().await);

    // Touched without another value: nothing new. With one: a deploy.
    env.patch::<Secret>("payment", serde_json::json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    env.apply(&original("second-value")).await;
    let (cause, actor) = env.until_deployed("live", 2).await;
    assert_eq!((cause.as_str(), actor), ("secret STRIPE_KEY changed", Actor::Controller));
    env.until_has("live-web", "env/STRIPE_KEY", "second-value").await;

    for name in ["payment", "robot"] {
        env.api::<Secret>().delete(name, &DeleteParams::default()).await.unwrap();
    }
    env.push("web", "1.1.0", &[]).await;
    env.until_serving("live", "web 1.1.0").await;
    env.until_has("live-web", "env/STRIPE_KEY", "second-value").await;
    env.until_credentials("True", "Stored").await;

    env.patch::<Project>(
        "shop",
        serde_json::json!({"spec": {"secrets": [
        {"name": "STRIPE_KEY", "secretRef": {"name": "payment", "key": "other"}}]}}),
    )
    .await;
    env.until_credentials("False", "SecretNotFound").await;
    env.apply(&original("third-value")).await;
    let message = env.until_credentials("False", "SecretUnusable").await;
    assert!(message.contains("no key `other`; it has key") && !message.contains("third-value"), "{message}");
    operator.stop().await;
}

/// A registry that says aloud what it is sent, asked by the operator and pulled from by the node.
async fn hostile(env: &Env, password: &str, said: &mut String) -> HostileRegistry {
    let registry = HostileRegistry::start(env).await;
    let web = |name: &str, which: &str| {
        let web = WEB.replace("REGISTRY/IMAGE", &format!("{}/acme/web", registry.host)).replace(
            "policy: {semver: '>=1.0.0'}, interval: 1s, insecure: true",
            &format!("{which}, credential: robot, insecure: true"),
        );
        format!(
            "---\napiVersion: stagekeeper.dev/v1alpha1\nkind: Project\nmetadata: {{name: {name}}}\nspec:\n  services:{web}\n"
        )
    };
    let fixed = format!("digest: 'sha256:{}'", "ab".repeat(32));
    env.apply(&(web("mirror", "policy: {semver: '*'}, interval: 1s") + &stage("mirrored", "mirror", ""))).await;
    env.apply(&(web("fixed", &fixed) + &stage("pulled", "fixed", "  timeouts: {pull: 20s}"))).await;
    for project in ["mirror", "fixed"] {
        let set = ["credential", "set", project, "robot", "--user", "robot", "--host", &registry.host];
        env.wait("the project is recorded", DEADLINE, async || {
            let known = env.database.store.project_get(&env.namespace, project).await.unwrap();
            known.map(drop)
        })
        .await;
        *said += &env.person(&set, password);
    }
    env.until("mirrored", "the operator was refused", |status| {
        conditions::get(&status.conditions, conditions::READY).is_some_and(|ready| ready.reason == "RegistryDenied")
    })
    .await;
    env.wait("the node was refused", DEADLINE, async || {
        let deploys = env.deploys("pulled").await;
        deploys.first().filter(|it| it.stored.deploy.is_closed()).map(drop)
    })
    .await;
    let pods = serde_json::to_string(&env.list::<Event>().await).unwrap();
    assert!(pods.contains(password), "the node says it, so that there is something to hide");
    registry
}

// The hostile registry runs in this process, and must answer while a command is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_reaches_a_log_status_event_error_or_answer() {
    let env = Env::new("canary").await;
    for (tag, switches) in [
        ("1.0.0", &[("APP_TELLS", "STRIPE_KEY")][..]),
        ("1.1.0", &[("APP_TELLS", "STRIPE_KEY"), ("APP_FAIL", "start")]),
        ("1.2.0", &[("APP_TELLS", "STRIPE_KEY"), ("APP_HEALTH", "fail")]),
    ] {
        env.push("web", tag, switches).await;
    }
    let canaries =
        ["canary-of-stripe-7f3a91", "line-one-of-the-canary", "line-two-of-the-canary", "canary-of-robot-5520"];
    let operator =
        Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key()), ("STAGEKEEPER_LOG", "debug")]).await;
    let pinned = |tag: &str| {
        let hooks = "  hooks: {beforeTraffic: [{name: tell, timeout: 10s, command: [/app, -print, 'has $(STRIPE_KEY) and $(MORE)']}]}";
        stage("live", "shop", &format!("  services: {{web: {{tag: {tag}}}}}\n{hooks}\n{IMPATIENT}"))
    };
    let declared = "  secrets: [{name: STRIPE_KEY}, {name: MORE}]";
    env.apply(&(project(declared) + &pinned("1.0.0"))).await;
    env.until_credentials("False", "SecretMissing").await;
    let mut said = env.person(&["secret", "set", "shop", "STRIPE_KEY"], canaries[0]);
    said += &env.person(&["secret", "set", "shop", "MORE"], &format!("{}\n{}", canaries[1], canaries[2]));
    let watched = hostile(&env, canaries[3], &mut said).await;
    env.until_deployed("live", 1).await;
    for (many, tag) in [(2, "1.1.0"), (3, "1.2.0")] {
        env.apply(&pinned(tag)).await;
        env.wait(&format!("{tag} has failed"), DEADLINE, async || {
            let deploys = env.deploys("live").await;
            (deploys.len() == many && deploys.last()?.stored.deploy.state == State::RolledBack).then_some(())
        })
        .await;
    }
    // The first deploy's value is in the pod that serves, so that there was something to hide.
    env.until_has("live-web", "env/STRIPE_KEY", canaries[0]).await;

    let mut masked = 0;
    for deploy in env.deploys("live").await {
        for line in env.log(deploy.stored.deploy.id).await {
            masked += usize::from(line.line.text.contains("***"));
        }
        let id = deploy.stored.deploy.id.to_string();
        for command in [&["logs", &id][..], &["get", "deploy", &id], &["get", "deploy", &id, "--output", "json"]] {
            said += &env.person(command, "");
        }
    }
    for deploy in env.deploys("pulled").await {
        said += &env.person(&["logs", &deploy.stored.deploy.id.to_string()], "");
    }
    drop(watched);
    assert!(masked >= 4, "the hooks, the crash and the unhealthy answer were told, masked: {masked} lines");
    for command in [
        &["history", "shop/live"][..],
        &["history", "shop/live", "--output", "json"],
        &["why", "live"],
        &["secret", "list", "shop"],
        &["secret", "list", "shop", "--output", "json"],
        &["credential", "list", "shop", "--output", "json"],
        &["credential", "show", "mirror", "robot"],
        &["why", "mirrored"],
        &["why", "pulled"],
    ] {
        said += &env.person(command, "");
    }
    said += &operator.metrics().await;
    // What the node itself tells of its pods is Kubernetes' own.
    let mut events = env.list::<Event>().await;
    events.retain(|event| event.reporting_controller.as_deref() != Some("kubelet"));
    said += &serde_json::to_string(&events).unwrap();
    said += &serde_json::to_string(&env.list::<Project>().await).unwrap();
    said += &serde_json::to_string(&env.list::<Stage>().await).unwrap();
    let mut pods = env.list::<Pod>().await;
    for pod in &mut pods {
        pod.status = None;
    }
    said += &serde_json::to_string(&pods).unwrap();
    said += &serde_json::to_string(&env.list::<ConfigMap>().await).unwrap();
    let dump = Command::new("pg_dump").arg(&env.database.url).output().expect("pg_dump starts");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    said += &String::from_utf8_lossy(&dump.stdout);
    said += &fs::read_to_string(&operator.log).unwrap();
    for (proof, what) in [
        ("403", "the hostile answers"),
        ("secret_versions", "the dump"),
        ("checkout is broken", "the log"),
        ("stagekeeper_", "metrics"),
    ] {
        assert!(said.contains(proof), "{what} is among what is searched");
    }
    for canary in canaries {
        use base64::Engine as _;
        let encoded =
            [canary.to_owned(), hex::encode(canary), base64::engine::general_purpose::STANDARD.encode(canary)];
        for form in encoded {
            let at = said.find(&form);
            assert!(at.is_none(), "{form}: {}", at.map_or("", |at| said.get(at.saturating_sub(300)..at).unwrap_or("")));
        }
    }
    shop::answers(&env, "live-web", "shop 1.0.0").await;
    operator.stop().await;
}
