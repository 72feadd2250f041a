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

impl Case {
    /// What is wrong with the API server's answer, if anything is.
    async fn wrong(&self, client: &Client, kind: &str) -> Option<String> {
        let spec: Value = serde_yaml::from_str(&self.spec).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let object = server::object(kind, self.object, &spec);
        let found = match server::dry_run(client, "default", &object).await {
            Ok(_) => Vec::new(),
            Err(error) => server::causes(&error),
        };
        let as_wanted = match self.refused {
            None => found.is_empty(),
            Some((field, says)) => found.iter().any(|cause| {
                cause.strip_prefix(field).is_some_and(|rest| rest.starts_with(": ") && rest.contains(says))
            }),
        };
        (!as_wanted).then(|| format!("{}: {found:?}", self.name))
    }
}

/// Holds the API server to each case.
pub async fn hold(client: &Client, kind: &str, cases: &[Case]) {
    server::eventually(async || {
        let mut wrong = Vec::new();
        for case in cases {
            wrong.extend(case.wrong(client, kind).await);
        }
        wrong
    })
    .await;
}
