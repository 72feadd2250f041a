//! The command line without an address and without a database: it finds the operator's pod, forwards its port through the API
//! server and the kubelet, gets a token of a service account, and asks. Here the operator is a process beside the cluster, so
//! the pod that is found passes connections on to it.

use std::process::Output;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::PostParams,
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use serde_json::{Value, json};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{project, stage},
    operator::Operator,
};

/// A command with the kubeconfig, as the service account `lead`.
async fn command(env: &Env, line: &str) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_stagekeeper"));
    command
        .args(line.split(' '))
        .args(["-n", &env.namespace, "--operator-namespace", &env.namespace, "--as-service-account", "lead"])
        .env_clear()
        .env("KUBECONFIG", &env.kubeconfig);
    command.output().await.expect("the binary runs")
}

/// What a command printed that worked.
async fn said(env: &Env, line: &str) -> String {
    let output = command(env, line).await;
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}, {err}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A pod that is found as the operator's and leads to it.
async fn door(env: &Env, operator: &Operator) {
    let nodes: Api<Node> = Api::all(env.client.clone());
    let nodes = nodes.list(&kube::api::ListParams::default()).await.expect("nodes").items;
    let addresses = nodes[0].status.as_ref().and_then(|status| status.addresses.clone()).expect("addresses");
    let node = &addresses.iter().find(|address| address.type_ == "InternalIP").expect("an address").address;
    // The machine is the first address of the node's network.
    let (network, _) = node.rsplit_once('.').expect("an IPv4 address");
    let port = operator.address.rsplit(':').next().expect("a port");
    let image = env.repository("door");
    env.push("door", "1.0.0", &[]).await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "door", "labels": {"app.kubernetes.io/name": "stagekeeper"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "relay",
                "image": format!("{image}:1.0.0"),
                "env": [{"name": "APP_RELAY", "value": format!("{network}.1:{port}")}, {"name": "PORT", "value": "9000"}],
                "ports": [{"name": "http", "containerPort": 9000}],
            }],
        },
    }))
    .expect("a pod");
    let pods: Api<Pod> = Api::namespaced(env.client.clone(), &env.namespace);
    pods.create(&PostParams::default(), &pod).await.expect("made");
    let running = await_condition(pods, "door", is_pod_running());
    tokio::time::timeout(DEADLINE, running).await.expect("in time").expect("watched");
}

/// A service account that may read, hold and roll back.
fn lead(namespace: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: lead}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: lead}}
rules:
- {{apiGroups: [stagekeeper.dev], resources: [stages], verbs: [get, list, hold, rollback]}}
- {{apiGroups: [stagekeeper.dev], resources: [projects], verbs: [get, list, readlogs]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: lead}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: lead}}
subjects: [{{kind: ServiceAccount, name: lead, namespace: {namespace}}}]
"
    )
}

#[tokio::test]
async fn a_command_finds_the_operator_and_asks_it() {
    let env = Env::new("forward").await;
    env.push("shop", "1.0.0", &[]).await;
    env.apply(&(lead(&env.namespace) + &project("shop", "shop") + &stage("live", "shop", ""))).await;
    let operator = Operator::start(&env).await;
    operator.ready().await;
    env.until_serving("live", "web 1.0.0").await;
    env.push("shop", "1.1.0", &[]).await;
    env.until_serving("live", "web 1.1.0").await;

    let nobody = command(&env, "history").await;
    let err = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(nobody.status.code() == Some(1) && err.contains("no pod of the operator was found"), "{err}");
    door(&env, &operator).await;

    // The roles are followed a moment after they were made.
    let history = env
        .wait("history through the operator's pod", DEADLINE, async || {
            let output = command(&env, "history shop/live").await;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .await;
    assert!(history.contains("web 1.1.0") && history.contains("web 1.0.0"), "{history}");

    let told = said(&env, "rollback live --reason checkout-is-slow --wait --timeout 2m").await;
    assert!(told.contains("rollback of") && told.contains(" success: "), "{told}");
    env.until("live", "web 1.0.0 serves", |status| {
        status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.message.contains("web 1.0.0"))
    })
    .await;
    let audit: Value =
        serde_json::from_str(&said(&env, "audit list --action stage.rollback -o json").await).expect("JSON");
    let entry = &audit["items"][0];
    let who = format!("user:system:serviceaccount:{}:lead", env.namespace);
    assert_eq!(
        (&entry["actor"], &entry["verified"], &entry["via"]),
        (&json!(who), &json!(true), &json!("api")),
        "{audit}"
    );
    assert_eq!(entry["reason"], "checkout-is-slow");

    let why = said(&env, "why live").await;
    assert!(why.contains("Held:") && why.contains("stagekeeper resume live"), "{why}");
    let refused = command(&env, "promote live").await;
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(4) && err.contains("the verb `promote`"), "{err}");
    said(&env, "resume live").await;
    env.until_serving("live", "web 1.1.0").await;
    operator.stop().await;
}
