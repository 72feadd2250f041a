//! People who ask for something over the operator's HTTP API: each with a token of the API server and a rate of their own.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::Failure;

/// The audience of tokens that the API takes.
const AUDIENCE: &str = "stagekeeper";
/// What they may do, and the role that says so.
const ROLE: &str = "bench-caller";

/// Everybody who asks.
pub struct Callers {
    http: reqwest::Client,
    base: String,
    tokens: Vec<String>,
}

impl Callers {
    /// Makes the accounts, what they may do, and a token for each. What is there already stays.
    pub async fn make(client: &Client, namespace: &str, count: usize, port: u16) -> Result<Self, Failure> {
        let names: Vec<String> = (0..count.max(1)).map(|number| format!("bench-caller-{number}")).collect();
        let rules = json!([
            {"apiGroups": ["stagekeeper.dev"], "resources": ["stages"], "verbs": ["get", "list", "promote"]},
            {"apiGroups": ["stagekeeper.dev"], "resources": ["environments"], "verbs": ["get", "update"]},
        ]);
        made::<Role>(client, namespace, json!({"metadata": {"name": ROLE}, "rules": rules})).await?;
        let subjects: Vec<Value> =
            names.iter().map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})).collect();
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE});
        let binding = json!({"metadata": {"name": ROLE}, "roleRef": role, "subjects": subjects});
        made::<RoleBinding>(client, namespace, binding).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let mut tokens = Vec::new();
        for name in &names {
            made::<ServiceAccount>(client, namespace, json!({"metadata": {"name": name}})).await?;
            let spec = TokenRequestSpec { audiences: vec![AUDIENCE.into()], ..TokenRequestSpec::default() };
            let asked = TokenRequest { spec, ..TokenRequest::default() };
            let given = accounts.create_token_request(name, &PostParams::default(), &asked).await?;
            tokens.push(given.status.ok_or("a token request without an answer")?.token);
        }
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
        Ok(Self { http, base: format!("http://127.0.0.1:{port}/api/v1/namespaces/{namespace}"), tokens })
    }

    /// The caller whose turn it is asks for a promotion; returns how long the answer took.
    pub async fn promote(&self, turn: usize, stage: &str) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.ask(turn, &format!("stages/{stage}"), &json!({"action": "promote", "reason": "bench"})).await?;
        Ok(begun.elapsed())
    }

    /// The caller whose turn it is asks something of the life of an environment: `wake` or `sleep`.
    pub async fn live(&self, turn: usize, environment: String, word: &str) -> Result<(), Failure> {
        self.ask(turn, &format!("environments/{environment}"), &json!({"action": word, "reason": "bench"})).await
    }

    async fn ask(&self, turn: usize, object: &str, body: &Value) -> Result<(), Failure> {
        let asked = self
            .http
            .post(format!("{}/{object}/requests", self.base))
            .bearer_auth(&self.tokens[turn % self.tokens.len()])
            .json(body);
        let answer = asked.send().await?;
        if answer.status() != reqwest::StatusCode::ACCEPTED {
            let status = answer.status();
            return Err(format!("{object}: {status}: {}", answer.text().await?).into());
        }
        Ok(())
    }
}

async fn made<K>(client: &Client, namespace: &str, object: Value) -> Result<(), Failure>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.create(&PostParams::default(), &serde_json::from_value(object)?).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
