//! What the API server must accept, and what it must refuse in which words.

use kube::Client;
use serde_json::Value;

use super::server;

/// One spec, and the field and words with which it is refused; `None` if it is accepted.
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The object's name.
    pub object: &'static str,
    /// The spec in YAML.
    pub spec: String,
    /// The field that the refusal names, and a part of its message.
    pub refused: Option<(&'static str, &'static str)>,
}

/// An accepted spec.
pub fn good(name: &'static str, spec: impl Into<String>) -> Case {
    Case { name, object: "shop", spec: spec.into(), refused: None }
}

/// A refused spec.
pub fn bad(name: &'static str, spec: impl Into<String>, field: &'static str, says: &'static str) -> Case {
    Case { name, object: "shop", spec: spec.into(), refused: Some((field, says)) }
}

/// Holds the API server to each case.
pub async fn hold(client: &Client, kind: &str, cases: &[Case]) {
    server::eventually(async || {
        let mut wrong = Vec::new();
        for case in cases {
            let spec: Value = serde_yaml::from_str(&case.spec).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let answer = server::dry_run(client, "default", &server::object(kind, case.object, spec)).await;
            match (answer, case.refused) {
                (Ok(_), None) => {}
                (Ok(_), Some(_)) => wrong.push(format!("{}: is accepted", case.name)),
                (Err(error), None) => wrong.push(format!("{}: {:?}", case.name, server::causes(&error))),
                (Err(error), Some((field, says))) => {
                    let causes = server::causes(&error);
                    if !causes.iter().any(|cause| cause.starts_with(&format!("{field}: ")) && cause.contains(says)) {
                        wrong.push(format!("{}: {causes:?}", case.name));
                    }
                }
            }
        }
        wrong
    })
    .await;
}
