//! The rights that the chart gives: those of `examples/operator`, which are held to what the program uses, and no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};

use super::helm::{MATRIX, NAMESPACE, documents, named, objects, root};

const KINDS: [&str; 4] = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// What a role or a binding says, by kind and name.
fn rights(objects: &[Value]) -> BTreeMap<(String, String), Value> {
    let of = |value: &Value| value.as_str().unwrap().to_owned();
    objects
        .iter()
        .filter(|object| KINDS.iter().any(|kind| object["kind"] == *kind))
        .map(|object| {
            let said = json!({"rules": object["rules"], "roleRef": object["roleRef"], "subjects": object["subjects"]});
            ((of(&object["kind"]), of(&object["metadata"]["name"])), said)
        })
        .collect()
}

fn examples(file: &str) -> Vec<Value> {
    documents(&fs::read_to_string(root().join("examples/operator").join(file)).unwrap())
}

/// What hooks may do, which examples have no need of.
fn of_a_hook(object: &Value) -> bool {
    object["metadata"]["annotations"]["helm.sh/hook"].is_string()
}

/// With everything switched on and one process, they are the examples to the letter.
#[test]
fn they_are_those_of_the_examples() {
    let mut all = objects(NAMESPACE, "{mode: all, rbac: {access: true}}");
    all.retain(|object| !of_a_hook(object));
    let wanted: Vec<Value> = [examples("rbac.yaml"), examples("roles.yaml")].concat();
    assert_eq!(rights(&all), rights(&wanted));

    // In processes of their own, the edge has its role and the API has the reviews; the rules are the same.
    let mut split = objects(NAMESPACE, "{rbac: {access: true}, edge: {enabled: true}}");
    split.retain(|object| !of_a_hook(object));
    let (found, edge) = (rights(&split), rights(&examples("edge.yaml")));
    for (key, said) in &edge {
        assert_eq!(found.get(key), Some(said), "{key:?}");
    }
    for (key, said) in rights(&wanted).iter().filter(|(key, _)| key.0 == "ClusterRole") {
        assert_eq!(found[key]["rules"], said["rules"], "{key:?}");
    }
    let binding = named(&split, "ClusterRoleBinding", "stagekeeper-reviews");
    assert_eq!(binding["subjects"][0]["name"], "stagekeeper-api");
    let api = named(&split, "ClusterRole", "stagekeeper-api");
    let looks = json!([{"apiGroups": ["stagekeeper.dev"], "resources": ["projects", "stages"], "verbs": ["list"]}]);
    assert_eq!(api["rules"], looks);
}

/// Before and after: what hooks may do.
#[test]
fn hooks_have_little() {
    let all = objects(NAMESPACE, "{}");
    assert_eq!(
        named(&all, "Role", "stagekeeper-setup")["rules"],
        json!([
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["stagekeeper-encryption-keys", "stagekeeper-database"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        ])
    );
    assert_eq!(
        named(&all, "Role", "stagekeeper-selftest")["rules"],
        json!([
            {"apiGroups": ["stagekeeper.dev"], "resources": ["projects"], "verbs": ["create", "delete"]},
            {"apiGroups": ["stagekeeper.dev"], "resources": ["stages"], "verbs": ["get", "create", "delete"]},
        ])
    );
}

/// Whatever is chosen: nothing for everything, nothing that makes more of itself.
#[test]
fn none_opens_a_door() {
    let words = |rule: &Value, key: &str| -> BTreeSet<String> {
        let listed = rule[key].as_array().into_iter().flatten();
        listed.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rules = 0;
    for (name, values) in MATRIX {
        let may_bind = values.contains("access: true");
        for object in objects(NAMESPACE, values) {
            for rule in object["rules"].as_array().into_iter().flatten() {
                if !KINDS.iter().any(|kind| object["kind"] == *kind) {
                    continue;
                }
                rules += 1;
                let all: BTreeSet<String> =
                    ["apiGroups", "resources", "verbs"].iter().flat_map(|key| words(rule, key)).collect();
                for never in ["*", "escalate", "impersonate", "serviceaccounts/token", "nodes/proxy"] {
                    assert!(!all.contains(never), "{name}: {rule}");
                }
                if all.contains("bind") {
                    let four = ["stagekeeper-admin", "stagekeeper-member", "stagekeeper-owner", "stagekeeper-viewer"];
                    let only: Vec<String> = words(rule, "resourceNames").into_iter().collect();
                    assert!(may_bind && only == four, "{name}: {rule}");
                }
            }
        }
    }
    assert!(rules > 100, "{rules}");
}

/// In single namespaces there is nothing for the cluster.
#[test]
fn single_namespaces_need_no_role_of_the_cluster() {
    for values in [
        "{rbac: {scope: namespaces, namespaces: [shop, blog], access: true}, edge: {enabled: true}}",
        "{mode: all, rbac: {scope: namespaces, namespaces: [shop, blog]}, edge: {enabled: true}}",
    ] {
        let all = objects(NAMESPACE, values);
        assert!(all.iter().all(|object| !object["kind"].as_str().unwrap().starts_with("ClusterRole")), "{values}");
        let of = |name: &str| -> Vec<&str> {
            let roles = all.iter().filter(|object| object["kind"] == "Role" && object["metadata"]["name"] == name);
            roles.map(|role| role["metadata"]["namespace"].as_str().unwrap()).collect()
        };
        assert_eq!(of("stagekeeper-watched"), ["shop", "blog"]);
        assert_eq!(of("stagekeeper-edge-watched"), ["shop", "blog"]);
        assert_eq!(of("stagekeeper-owner"), ["shop", "blog"]);
        assert_eq!(of("stagekeeper"), [NAMESPACE]);
    }
    let bare = "{mode: all, rbac: {scope: namespaces, namespaces: [shop]}, crds: {install: false}, policies: {install: false}}";
    for object in objects(NAMESPACE, bare) {
        assert!(object["metadata"]["namespace"].is_string(), "for the whole cluster: {object}");
    }
}
