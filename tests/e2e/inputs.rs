//! Wrong and missing inputs: each is told with a reason and a way out, keeps nobody busy, and goes on by itself when it
//! is mended.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    config::Kubeconfig,
};
use serde_json::json;
use stagekeeper::api::{Project, Stage, StageStatus, conditions};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{
    cluster::{DEADLINE, Env, kubeconfig},
    images,
    lab::{ends, holds, project, reconciling, stage, waiting},
    operator::Operator,
    quiet,
};

/// A stage that cannot go on, and what mends it.
struct Case {
    /// Name of the Stage.
    stage: &'static str,
    /// Its project.
    project: &'static str,
    /// What its spec says besides.
    spec: &'static str,
    /// `Stalled`, or `Reconciling` for what may come by itself.
    condition: &'static str,
    /// The reason of the condition.
    reason: &'static str,
    /// What the message says.
    said: &'static [&'static str],
    /// What is applied to mend it.
    mended: &'static str,
}

const CASES: &[Case] = &[
    Case {
        stage: "wrong-project",
        project: "shpo",
        spec: "",
        condition: conditions::STALLED,
        reason: "ProjectNotFound",
        said: &["there is no Project `shpo` in namespace e2e-", "create it there, or delete this Stage and make one"],
        mended: "PROJECT shpo",
    },
    Case {
        stage: "wrong-service",
        project: "shop",
        spec: "  services: {wbe: {replicas: 2}}",
        condition: conditions::STALLED,
        reason: "InvalidSpec",
        said: &["services", "wbe"],
        mended: "",
    },
    Case {
        stage: "wrong-pin",
        project: "shop",
        spec: "  pin: {wbe: 1.0.0}",
        condition: conditions::STALLED,
        reason: "InvalidSpec",
        said: &["pin", "wbe"],
        mended: "",
    },
    Case {
        stage: "wrong-hook",
        project: "shop",
        spec: "  hooks: {verify: [{name: smoke, service: wbe}]}",
        condition: conditions::STALLED,
        reason: "InvalidSpec",
        said: &["hooks.verify", "wbe"],
        mended: "",
    },
    Case {
        stage: "wrong-range",
        project: "shop",
        spec: "  services: {web: {policy: {semver: 'newest please'}}}",
        condition: conditions::STALLED,
        reason: "InvalidSpec",
        said: &["spec.services.web.policy: semver: `newest` in the range is not a version"],
        mended: "",
    },
    Case {
        stage: "no-such-tag",
        project: "shop",
        spec: "  pin: {web: 9.9.9}",
        condition: conditions::STALLED,
        reason: "TagNotFound",
        said: &["service web: ", "has no image `9.9.9`; check its tags, or push it"],
        mended: "  pin: {web: 1.0.0}",
    },
    Case {
        stage: "nothing-matches",
        project: "shop",
        spec: "  services: {web: {policy: {semver: '>=7'}}}",
        condition: conditions::RECONCILING,
        reason: "NoMatchingTag",
        said: &["service web: ", "outside the range"],
        mended: "",
    },
];

/// Each case is told within seconds, keeps the operator at rest, and goes on when it is mended.
#[tokio::test]
async fn wrong_inputs_are_told_and_mended_ones_go_on() {
    let env = Env::new("inputs").await;
    let operator = Operator::start(&env).await;
    env.push("web", "1.0.0", &[]).await;
    let mut all = project("shop", "web");
    for case in CASES {
        all.push_str(&stage(case.stage, case.project, case.spec));
    }
    env.apply(&all).await;
    for case in CASES {
        let status = env.until(case.stage, case.reason, |status| {
            holds(status, case.condition).is_some_and(|found| found.reason == case.reason)
        });
        let status = status.await;
        let message = &holds(&status, case.condition).unwrap().message;
        for said in case.said {
            assert!(message.contains(said), "{}: `{said}` is not in: {message}", case.stage);
        }
    }
    quiet::is_kept(&env, &operator, 5).await;
    for case in CASES {
        match case.mended.strip_prefix("PROJECT ") {
            Some(name) => env.apply(&project(name, "web")).await,
            None => env.apply(&stage(case.stage, case.project, case.mended)).await,
        }
    }
    for case in CASES {
        env.until_serving(case.stage, "web 1.0.0").await;
        assert_eq!(env.deploys(case.stage).await.len(), 1, "{}", case.stage);
    }
    operator.stop().await;
}

/// What the API server can tell by itself it refuses, with the field and the way out.
#[tokio::test]
async fn what_can_be_told_at_once_is_refused() {
    let env = Env::new("refused").await;
    let two = project("shop", "web").replace("{semver: '>=1.0.0'}", "{semver: '>=1', glob: 'v*'}");
    let both = stage("live", "shop", "  pin: {web: 1.0.0}\n  services: {web: {tag: 1.0.0}}");
    let cases = [
        (
            two,
            "spec.services[0].image.policy",
            "policy needs exactly one of semver, glob, regex, numeric, newest and digest",
        ),
        (both, "spec", "remove its pin, or tag and digest from services"),
    ];
    for (yaml, field, way) in cases {
        let object: DynamicObject = serde_yaml::from_str(&yaml.replace("REGISTRY/", &env.repository(""))).unwrap();
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let api = kube::Api::<DynamicObject>::namespaced_with(
            env.client.clone(),
            &env.namespace,
            &ApiResource::from_gvk(&kind),
        );
        let name = object.metadata.name.clone().unwrap();
        let refused = api.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object)).await;
        let said = refused.expect_err("refused").to_string();
        assert!(said.contains(&format!("{field}: Invalid value")) && said.contains(way), "{said}");
    }
}

/// A registry that does not answer: the project and its stages say which and what to check, what serves stays, and all
/// goes on when it is back. A container whose Secret is missing waits for it by name.
#[tokio::test]
async fn what_is_missing_for_a_while_is_waited_for() {
    let env = Env::new("missing").await;
    let operator = Operator::start(&env).await;
    let line = Line::to(&images::registry()).await;
    env.push("web", "1.0.0", &[]).await;
    let over = |yaml: String| yaml.replace("REGISTRY/", &format!("{}/{}/", line.address, env.namespace));
    // Suspended, because only the operator is at the other end of the line: the node could not pull.
    env.apply(&(over(project("far", "web")) + &stage("far", "far", "  suspend: true"))).await;
    let status = env.until("far", "the registry is away", |status| {
        reconciling(status).is_some_and(|(reason, _)| reason == "RegistryUnreachable")
    });
    let status = status.await;
    let said = reconciling(&status).unwrap().1.to_owned();
    assert!(said.contains(&line.address) && said.contains("check the host, its certificate and the network"), "{said}");
    let told = env.wait("the project says so too", DEADLINE, async || {
        let status = env.api::<Project>().get("far").await.unwrap().status?;
        conditions::get(&status.conditions, conditions::RECONCILING).map(|found| found.reason.clone())
    });
    assert_eq!(told.await, "RegistryUnreachable");

    let secret = "{name: APP_DRAIN, value: 0s}, {name: KEY, valueFrom: {secretKeyRef: {name: keys, key: key}}}";
    let near = project("near", "web").replace("{name: APP_DRAIN, value: 0s}", secret);
    env.apply(&(near + &stage("near", "near", ""))).await;
    // Before it knows, the kubelet may say that its cache of Secrets is not in sync.
    let missing = |status: &StageStatus| {
        let said = status.deploy.as_ref().and_then(|deploy| deploy.message.as_deref()).unwrap_or_default();
        waiting(status) == "CreateContainerConfigError" && said.contains("secret \"keys\" not found")
    };
    env.until("near", "the Secret is missing", missing).await;
    quiet::is_kept(&env, &operator, 3).await;
    env.apply("{apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {key: k}}").await;
    env.until_serving("near", "web 1.0.0").await;

    line.open();
    let asked = async |images: &str| {
        let asked = env.until("far", "it is asked for", |status| {
            reconciling(status).is_some_and(|(_, said)| said.starts_with(&format!("{images}: pending: ")))
        });
        assert_eq!(waiting(&asked.await), "Suspended");
    };
    asked("web 1.0.0").await;
    line.cut();
    let current = |status: &StageStatus, wanted: &str| {
        conditions::get(&status.conditions, "ImagesCurrent").is_some_and(|found| found.status == wanted)
    };
    env.until("far", "its images may be out of date", |status| current(status, "False")).await;
    assert_eq!(env.deploys("far").await.len(), 1, "an outage is no reason to deploy");
    env.push("web", "1.1.0", &[]).await;
    line.open();
    asked("web 1.1.0").await;
    env.until("far", "its images are known again", |status| current(status, "True")).await;
    assert_eq!(ends(&env.deploys("far").await), ["web 1.0.0 superseded", "web 1.1.0 pending"]);
    env.apply(&(project("far", "web") + &stage("far", "far", "  suspend: false"))).await;
    env.until_serving("far", "web 1.1.0").await;
    operator.stop().await;
}

/// What the operator may do in the test's namespace, without the right to make what `LEFT_OUT` names.
const ROLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: operator}
rules:
- {apiGroups: [stagekeeper.dev], resources: ['*'], verbs: ['*']}
- {apiGroups: ['', events.k8s.io], resources: [services, pods, pods/log, events, persistentvolumeclaims, configmaps], verbs: ['*']}
- {apiGroups: [coordination.k8s.io, batch, networking.k8s.io, gateway.networking.k8s.io], resources: ['*'], verbs: ['*']}
- {apiGroups: [apps], resources: [deployments, replicasets], verbs: [VERBS]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: NAMESPACE}]
";

/// A namespace in which the operator may not do what a stage needs: the Stage says which right is missing, and goes on
/// when it is granted.
#[tokio::test]
async fn a_missing_permission_is_named() {
    let env = Env::new("forbidden").await;
    let role = |verbs| ROLE.replace("VERBS", verbs).replace("NAMESPACE", &env.namespace);
    env.apply(&role("get, list, watch")).await;
    let kubeconfig = as_service_account(&env, "operator").await;
    let operator = Operator::start_with(&env, &[("KUBECONFIG", &kubeconfig)]).await;
    env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", ""))).await;
    let said = env.until_stalled("live", "Forbidden").await;
    let wanted = format!("the operator may not create and patch deployments in namespace {}", env.namespace);
    assert!(said.contains(&wanted) && said.contains("its Role must allow the verbs"), "{said}");
    let before = operator.api_writes().await;
    quiet::through_scans(&operator, 5).await;
    let more = operator.api_writes().await - before;
    assert!(more <= 6, "{more} writes while nothing changed: it has to be tried again, but seldom");
    env.apply(&role("'*'")).await;
    env.until_serving("live", "web 1.0.0").await;
    assert_eq!(env.deploys("live").await.len(), 1);
    env.patch::<Stage>("live", json!({"metadata": {"labels": {"seen": "yes"}}})).await;
    operator.stop().await;
}

/// A kubeconfig of a service account, as a file that ends with the test binary's folder.
async fn as_service_account(env: &Env, name: &str) -> String {
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences: Vec::new(), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let api = env.api::<ServiceAccount>();
    let token = api.create_token_request(name, &PostParams::default(), &request).await.expect("a token");
    let mut config = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
    for user in &mut config.auth_infos {
        let token = token.status.as_ref().map(|status| status.token.clone().into());
        user.auth_info = Some(kube::config::AuthInfo { token, ..Default::default() });
    }
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.kubeconfig", env.namespace));
    fs::write(&path, serde_yaml::to_string(&config).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A way to the registry that can be cut: connections are dropped until it is opened.
struct Line {
    address: String,
    open: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    async fn to(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = Arc::new(AtomicBool::new(false));
        let (registry, passes) = (registry.to_owned(), open.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                if passes.load(Ordering::Relaxed) {
                    let (registry, passes) = (registry.clone(), passes.clone());
                    tokio::spawn(async move {
                        if let Ok(mut there) = TcpStream::connect(registry).await {
                            let cut = async {
                                while passes.load(Ordering::Relaxed) {
                                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                                }
                            };
                            tokio::select! {
                                _ = copy_bidirectional(&mut here, &mut there) => {}
                                () = cut => {}
                            }
                        }
                    });
                }
            }
        });
        Self { address, open, task }
    }

    fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    fn cut(&self) {
        self.open.store(false, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}
