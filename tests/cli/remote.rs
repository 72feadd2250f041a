//! Commands through the HTTP API, with tokens and rights of a real API server: who asks, what they may, and what is said when
//! it does not work.

use std::{fs, path::PathBuf, process::Command};

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use stagekeeper::{
    domain::{
        actor::Actor,
        clock::{Ids as _, SystemIds},
        request::Action,
        share::Share,
    },
    store::{NewHold, Settlement, StoredRequest},
};

use crate::{
    binary::{Ended, Folder, PATIENCE, run, stagekeeper},
    cluster::kubeconfig,
    lab::Lab,
    shop::id,
};

/// A command through the API as the service account `name`, with the kubeconfig of an administrator.
fn through(lab: &Lab, name: &str, arguments: &[&str]) -> Command {
    let mut command = at(lab, arguments);
    command.args(["--as-service-account", &format!("{}/{name}", lab.namespace)]).env("KUBECONFIG", kubeconfig());
    command
}

/// A command through the API with nothing to show.
fn at(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = stagekeeper(arguments);
    command.args(["-n", &lab.namespace, "--server", &lab.url("")]);
    command
}

/// Runs it, and nothing of a token may be in what it says.
fn told(command: &mut Command) -> Ended {
    let ended = run(command);
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains("eyJ") && !text.contains("Bearer"), "{ended:?}");
    }
    ended
}

/// Does with the next request what the leader would do with it.
async fn settle(lab: &Lab) -> StoredRequest {
    let store = lab.shop.store();
    let waited = async {
        loop {
            if let Some(request) = store.requests_pending(&Share::all(), &[], 1).await.unwrap().pop() {
                return request;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let request = tokio::time::timeout(PATIENCE, waited).await.expect("a request");
    let said = |message: &str| Settlement { request: request.id, message: message.into() };
    let now = Lab::now();
    let settled = match &request.action {
        Action::Hold { until, .. } => {
            let hold = NewHold {
                id: SystemIds.next(),
                owner: request.actor.to_string(),
                actor: request.actor.clone(),
                reason: request.reason.clone(),
                expires_at: *until,
                from: None,
                settled_on: None,
                declared: None,
            };
            store.request_hold(&said("held until somebody resumes"), &hold, now).await
        }
        _ => store.request_refuse(&said("there is nothing to do"), now).await,
    };
    assert_eq!(settled, Ok(true));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_known_from_the_token() {
    let lab = Lab::new().await;
    let who = Actor::User(format!("system:serviceaccount:{}:owner", lab.namespace));
    let deploy = id(1).to_string();
    for (line, action) in [
        ("promote dev --from prod", json!({"action": "promote", "from": "prod"})),
        ("rollback dev", json!({"action": "rollback", "to": "previous"})),
        ("rollback dev --to 0193522a-8c11", json!({"action": "rollback", "to": {"deploy": deploy}})),
        ("approve dev --release 0123abcd", json!({"action": "approve", "release": "0123abcd"})),
        ("abort dev", json!({"action": "abort"})),
        ("retry dev --deploy 0193522a-8c11-7000-8000-000000000000", json!({"action": "retry", "deploy": deploy})),
        ("resume dev --owner x", json!({"action": "resume", "owner": "x"})),
        ("veto dev", json!({"action": "veto"})),
        ("unveto dev --release 0123abcd", json!({"action": "unveto", "release": "0123abcd"})),
    ] {
        let words: Vec<&str> = line.split(' ').chain(["--reason", "it is time", "-o", "json"]).collect();
        let mut command = through(&lab, "owner", &words);
        let asked = tokio::task::spawn_blocking(move || told(&mut command));
        let request = settle(&lab).await;
        let ended = asked.await.unwrap();
        assert_eq!(ended.code, 4, "{line}: {ended:?}");
        let view: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((&view["state"], &view["message"]), (&json!("refused"), &json!("there is nothing to do")), "{line}");
        assert_eq!(view["actor"], who.to_string());
        assert_eq!(serde_json::to_value(&request.action).unwrap(), action, "{line}");
        assert_eq!((&request.actor, request.reason.as_str()), (&who, "it is time"));
        assert!(request.origin.verified && request.origin.via.word() == "api", "{:?}", request.origin);
    }
    let mut command = through(&lab, "owner", &["hold", "dev", "--reason", "audit", "--wait"]);
    let asked = tokio::task::spawn_blocking(move || told(&mut command));
    settle(&lab).await;
    let said = asked.await.unwrap().well();
    assert_eq!(said, format!("hold of {}/dev: done: held until somebody resumes\n", lab.namespace));
    let audit = lab.shop.store().audit_list(&format!("stage/{}/dev", lab.namespace), None, 1).await.unwrap();
    assert_eq!(audit[0].entry.actor, who);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_are_named() {
    let lab = Lab::new().await;
    let said = told(&mut through(&lab, "viewer", &["rollback", "dev"])).badly(4);
    assert!(said.contains(&format!("stage dev in namespace {}: you may see it", lab.namespace)), "{said}");
    assert!(said.contains("the verb `rollback`") && said.contains("spec.access"), "{said}");
    for (name, stage) in [("nobody", "dev"), ("owner", "none")] {
        let said = told(&mut through(&lab, name, &["rollback", stage])).badly(1);
        let want = format!("stage {stage} in namespace {}: there is none, or you may not see it", lab.namespace);
        assert!(said.contains(&want), "{said}");
    }
    let said = told(&mut through(&lab, "owner", &["promote", "dev", "--release", "xyz"])).badly(2);
    assert!(said.contains("release: expected a release's hash"), "{said}");
    let said = told(&mut through(&lab, "owner", &["hold", "dev"])).badly(2);
    assert!(said.contains("hold needs a reason"), "{said}");
    let said = told(&mut through(&lab, "owner", &["rollback", "dev", "--to", "0193522a-9999"])).badly(1);
    assert!(said.contains("no deploy whose id begins with `0193522a-9999`"), "{said}");
    assert_eq!(lab.shop.store().requests_pending(&Share::all(), &[], 1).await.unwrap().len(), 0);
}

fn kept(folder: &Folder, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_from_a_file_or_the_environment_and_say_what_is_wrong_with_them() {
    let lab = Lab::new().await;
    let folder = Folder::new();
    let good = kept(&folder, "good", &format!("{}\n", lab.viewer));
    let said = told(at(&lab, &["rollback", "dev", "--token-file", &good]).env("KUBECONFIG", "/nowhere")).badly(4);
    assert!(said.contains("the verb `rollback`"), "{said}");
    let said = told(at(&lab, &["rollback", "dev"]).env("STAGEKEEPER_TOKEN", &lab.viewer)).badly(4);
    assert!(said.contains("the verb `rollback`"), "{said}");

    let elsewhere = lab.token_for("owner", "https://kubernetes.default.svc").await;
    let said = told(at(&lab, &["abort", "dev"]).env("STAGEKEEPER_TOKEN", elsewhere)).badly(1);
    assert!(
        said.contains("the token of STAGEKEEPER_TOKEN: it is for https://kubernetes.default.svc, not for"),
        "{said}"
    );
    let ended = kept(&folder, "ended", &lab.ended("owner").await);
    let said = told(&mut at(&lab, &["abort", "dev", "--token-file", &ended])).badly(1);
    assert!(said.contains("ended: it ended at "), "{said}");
    let words = kept(&folder, "words", "error: eyJ is not it");
    let said = told(&mut at(&lab, &["abort", "dev", "--token-file", &words])).badly(2);
    assert!(said.contains("is no bearer token"), "{said}");
    let said = told(&mut at(&lab, &["abort", "dev", "--token-file", "/nowhere"])).badly(2);
    assert!(said.contains("--token-file: /nowhere cannot be read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kubeconfig_has_leads_to_a_token_or_to_a_way_to_one() {
    let lab = Lab::new().await;
    // Credentials for the API server only.
    let said = told(at(&lab, &["abort", "dev"]).env("KUBECONFIG", kubeconfig())).badly(1);
    for part in ["is not sent to it", "--as-service-account", "kubectl create token", "--token-file", "--audience"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let none = format!("{}/none", lab.namespace);
    let said =
        told(at(&lab, &["abort", "dev", "--as-service-account", &none]).env("KUBECONFIG", kubeconfig())).badly(1);
    assert!(said.contains(&format!("there is no service account {none}")), "{said}");

    // The token of a service account for the API server: it asks for one for the API, if it may.
    let folder = Folder::new();
    let token = lab.token_for("viewer", "https://kubernetes.default.svc").await;
    let text = fs::read_to_string(kubeconfig()).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    for user in config["users"].as_array_mut().unwrap() {
        user["user"] = json!({"token": token});
    }
    let own = kept(&folder, "own", &config.to_string());
    let said = told(at(&lab, &["abort", "dev"]).env("KUBECONFIG", &own)).badly(1);
    assert!(said.contains(&format!("gives you no token for service account {}/viewer", lab.namespace)), "{said}");
    assert!(said.contains("create on serviceaccounts/token"), "{said}");
    may_ask_for_tokens(&lab, "viewer").await;
    let waited = async {
        loop {
            let ended = told(at(&lab, &["abort", "dev"]).env("KUBECONFIG", &own));
            if ended.code == 4 {
                return ended;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, waited).await.expect("rights that are followed").badly(4);
    assert!(said.contains("the verb `abort`"), "{said}");

    // A token of the kubeconfig that is for the API is shown to it as it is, a plugin's too.
    let given = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                       "status": {"token": lab.viewer}});
    let given = kept(&folder, "credential", &given.to_string());
    for user in config["users"].as_array_mut().unwrap() {
        user["user"] = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "cat",
                                       "args": [given], "interactiveMode": "Never"}});
    }
    let plugin = kept(&folder, "plugin", &config.to_string());
    let said =
        told(at(&lab, &["hold", "dev", "--reason", "x"]).env("KUBECONFIG", &plugin).env("PATH", "/usr/bin:/bin"));
    assert!(said.badly(4).contains("the verb `hold`"));
}

async fn may_ask_for_tokens(lab: &Lab, name: &str) {
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [name], "verbs": ["create"]}]);
    let role: Role = serde_json::from_value(json!({"metadata": {"name": "tokens"}, "rules": rules})).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "tokens"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tokens"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": lab.namespace}]}))
    .unwrap();
    let params = PostParams::default();
    Api::namespaced(lab.client.clone(), &lab.namespace).create(&params, &role).await.unwrap();
    Api::namespaced(lab.client.clone(), &lab.namespace).create(&params, &binding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_through_tls_or_nowhere() {
    let lab = Lab::new().await;
    let config: Value = serde_yaml::from_str(&fs::read_to_string(kubeconfig()).unwrap()).unwrap();
    // The API server is a server with TLS, of an authority that the machine does not know, and no API of ours.
    let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    let ask = |extra: &[&str]| {
        let mut command = stagekeeper(&["abort", "dev", "-n", &lab.namespace]);
        told(command.args(extra).env("STAGEKEEPER_TOKEN", &lab.owner))
    };
    let said = ask(&["--server", &server]).badly(3);
    assert!(said.contains("certificate") && said.contains("--server-ca"), "{said}");
    let folder =
        std::env::var("STAGEKEEPER_TEST_CLUSTER_DIR").expect("STAGEKEEPER_TEST_CLUSTER_DIR: `make test` sets it");
    let ca = format!("{folder}/pki/ca.crt");
    let said = ask(&["--server", &server, "--server-ca", &ca]).badly(1);
    assert!(said.contains("does not take the token") || said.contains("and not as Stagekeeper does"), "{said}");
    let said = ask(&["--server", &server, "--server-ca", "/nowhere"]).badly(2);
    assert!(said.contains("--server-ca: /nowhere cannot be read"), "{said}");

    let said = ask(&["--server", "http://keeper.example.com"]).badly(2);
    assert!(said.contains("it was not sent"), "{said}");
    let said = ask(&["--server", "http://127.0.0.1:1"]).badly(3);
    assert!(said.contains("the API at http://127.0.0.1:1/ cannot be reached"), "{said}");
    let said = ask(&["--server", "http://127.0.0.1:1", "--database-url", "postgres://127.0.0.1:1/x"]).badly(2);
    assert!(said.contains("give those of one way only"), "{said}");
    let said =
        told(stagekeeper(&["abort", "dev"]).env("STAGEKEEPER_SERVER", lab.url("")).env("DATABASE_URL", lab.shop.url()));
    assert!(said.badly(2).contains("say which is meant"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_not_found_was_looked_for() {
    let lab = Lab::new().await;
    let namespace = lab.namespace.as_str();
    let mut command = stagekeeper(&["abort", "dev", "-n", namespace, "--operator-namespace", namespace]);
    let said = told(command.env("KUBECONFIG", kubeconfig())).badly(1);
    let want = format!("none in namespace {namespace} has the label app.kubernetes.io/name=stagekeeper");
    for part in [want.as_str(), "--operator-namespace", "--server", "--database-url"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = told(stagekeeper(&["abort", "dev"]).env("KUBECONFIG", "/nowhere")).badly(3);
    assert!(said.contains("the operator cannot be looked for") && said.contains("--server"), "{said}");
}
