//! What the accounts of a release asked the API server, from its audit log, held to the rights that they have.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// One right: an account, an API group, a resource with its subresource, a verb.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub account: String,
    pub group: String,
    pub resource: String,
    pub verb: String,
}

/// What was asked, and what of it was refused for want of a right.
#[derive(Debug, Default)]
pub struct Asked {
    pub used: BTreeSet<Right>,
    pub forbidden: BTreeSet<Right>,
}

impl Asked {
    /// Reads a log.
    pub fn read(log: &Path) -> Self {
        let mut asked = Self::default();
        let text = fs::read_to_string(log).unwrap();
        // The last line may not be whole yet.
        for entry in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let word = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let account = word("/user/username");
            let Some(account) = account.strip_prefix("system:serviceaccount:stagekeeper:") else { continue };
            let resource = match word("/objectRef/subresource") {
                none if none.is_empty() => word("/objectRef/resource"),
                sub => format!("{}/{sub}", word("/objectRef/resource")),
            };
            let right = Right {
                account: account.to_owned(),
                group: word("/objectRef/apiGroup"),
                resource,
                verb: word("/verb"),
            };
            if entry["responseStatus"]["code"] == 403 {
                asked.forbidden.insert(right);
            } else if !right.resource.is_empty() {
                // What is applied and is not there yet is created: that takes both rights.
                if right.verb == "patch" && entry["responseStatus"]["code"] == 201 {
                    asked.used.insert(Right { verb: "create".into(), ..right.clone() });
                }
                asked.used.insert(right);
            }
        }
        asked
    }
}

/// The rights that roles among these objects give to accounts, by their bindings.
pub fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    for binding in objects.iter().filter(|object| object["roleRef"].is_object()) {
        let role = objects
            .iter()
            .find(|object| {
                object["kind"] == binding["roleRef"]["kind"] && object["metadata"]["name"] == binding["roleRef"]["name"]
            })
            .expect("the role of a binding");
        let words = |rule: &Value, key: &str| -> Vec<String> {
            rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    for verb in words(rule, "verbs") {
                        granted.insert(Right {
                            account: binding["subjects"][0]["name"].as_str().unwrap().to_owned(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb,
                        });
                    }
                }
            }
        }
    }
    granted
}
