//! What the operator may do: the table of `docs/security.md`, and `examples/operator/rbac.yaml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    process::Command,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Scope, oneshot::pinned_kind},
};
use serde_json::Value;
use stagekeeper::cli::permissions::{GRANTS, Where};

use super::markdown::root;

const RULES: &str = "examples/operator/rbac.yaml";
const NAMESPACE: &str = "stagekeeper";

/// The table of grants.
pub fn table() -> String {
    let mut text = String::from("| where | API group | resource | verbs |\n|---|---|---|---|\n");
    for grant in GRANTS {
        let place = match grant.place {
            Where::Watched => "every watched namespace",
            Where::Lease => "the namespace of the Lease",
            Where::Cluster => "the cluster",
            Where::Environments => "the cluster, where environments have namespaces of their own",
        };
        let group = if grant.group.is_empty() { "core" } else { grant.group };
        text.extend([
            format!("| {place} | {group} | `{}`{} | {} |", grant.resource, only(grant.names), grant.verbs.join(", ")),
            "\n".to_owned(),
        ]);
    }
    text
}

/// The only objects that a grant is for.
fn only(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { String::new() } else { format!(" {}", quoted.join(", ")) }
}

fn documents() -> Vec<Value> {
    let text = fs::read_to_string(root().join(RULES)).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde::Deserialize::deserialize(document).unwrap_or_else(|error| panic!("{RULES}: {error}")))
        .collect()
}

/// Rules by group, resource and names.
type Rules = BTreeMap<(String, String, BTreeSet<String>), BTreeSet<String>>;

fn rules(listed: Option<Vec<PolicyRule>>) -> Rules {
    let mut found = Rules::new();
    for rule in listed.unwrap_or_default() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let names = rule.resource_names.iter().flatten().cloned().collect();
                let verbs = found.entry((group.clone(), resource.clone(), names)).or_default();
                verbs.extend(rule.verbs.iter().cloned());
            }
        }
    }
    found
}

/// The example has exactly the rules that the program asks for: none less, none more.
pub fn rules_are_grants() {
    let all = documents();
    let count = all.iter().filter(|document| matches!(document["kind"].as_str(), Some("Role" | "ClusterRole"))).count();
    assert_eq!(count, 4, "{RULES}");
    let named = |kind: &str, name: &str| {
        let found = all.iter().find(|document| document["kind"] == kind && document["metadata"]["name"] == name);
        found.cloned().unwrap_or_else(|| panic!("{RULES} has no {kind} {name}"))
    };
    let watched: ClusterRole = serde_json::from_value(named("ClusterRole", "stagekeeper")).unwrap();
    let reviews: ClusterRole = serde_json::from_value(named("ClusterRole", "stagekeeper-reviews")).unwrap();
    let environments: ClusterRole = serde_json::from_value(named("ClusterRole", "stagekeeper-environments")).unwrap();
    let lease: Role = serde_json::from_value(named("Role", "stagekeeper")).unwrap();
    let written = [
        (Where::Watched, watched.rules),
        (Where::Cluster, reviews.rules),
        (Where::Environments, environments.rules),
        (Where::Lease, lease.rules),
    ];
    for (place, written) in written.map(|(place, listed)| (place, rules(listed))) {
        let needed: Rules = GRANTS
            .iter()
            .filter(|grant| grant.place == place)
            .map(|grant| {
                let verbs = grant.verbs.iter().map(|verb| (*verb).to_owned()).collect();
                let names = grant.names.iter().map(|name| (*name).to_owned()).collect();
                ((grant.group.to_owned(), grant.resource.to_owned(), names), verbs)
            })
            .collect();
        assert_eq!(written, needed, "{RULES}, {place:?}");
    }
}

/// Applies the example and runs `doctor` as its service account.
pub async fn suffice(client: &Client) {
    for document in documents() {
        let object: DynamicObject = serde_json::from_value(document).unwrap();
        let gvk = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let (resource, capabilities) = pinned_kind(client, &gvk).await.unwrap();
        let api: Api<DynamicObject> = match (&capabilities.scope, &object.metadata.namespace) {
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
            (Scope::Namespaced, None) => panic!("{RULES}: {} has no namespace", gvk.kind),
            (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.clone().unwrap();
        let params = PatchParams::apply("stagekeeper-tests").force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let token = accounts.create_token_request("stagekeeper", &PostParams::default(), &asked).await.unwrap();

    let admin = env::var("STAGEKEEPER_TEST_KUBECONFIG").unwrap();
    let mut config: Value = serde_yaml::from_str(&fs::read_to_string(admin).unwrap()).unwrap();
    let user = serde_json::json!({"token": token.status.unwrap().token});
    for entry in config["users"].as_array_mut().unwrap() {
        entry["user"] = user.clone();
    }
    let path = format!("{}/kubeconfig-of-the-service-account", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&path, serde_yaml::to_string(&config).unwrap()).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
        .args(["doctor", "-o", "json"])
        .env_clear()
        .envs([
            ("KUBECONFIG", path.as_str()),
            ("STAGEKEEPER_LEASE_NAMESPACE", NAMESPACE),
            // Only to be complete: which Lease is meant is not known of a configuration that is not.
            ("DATABASE_URL", "postgres://127.0.0.1:1/none"),
        ])
        .output()
        .unwrap();
    let found: Vec<Value> = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let answers: Vec<&Value> = found.iter().filter(|finding| finding["check"] == "permission").collect();
    assert_eq!(answers.len(), GRANTS.len(), "{found:?}");
    let refused: Vec<_> = answers.iter().filter(|finding| finding["result"] != "pass").collect();
    assert!(refused.is_empty(), "{refused:?}");
    let known = found.iter().find(|finding| finding["check"] == "cluster").unwrap();
    assert!(known["detail"].as_str().unwrap().ends_with("as system:serviceaccount:stagekeeper:stagekeeper"), "{known}");
}
