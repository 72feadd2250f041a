//! An operator, and a project with previews.

use hmac::{Hmac, KeyInit as _, Mac as _};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use sha2::Sha256;
use stagekeeper::api::{Environment, Project, conditions};

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
};

/// The secret that deliveries are signed with, and the token that the provider is asked with: neither may appear anywhere.
pub(crate) const SECRET: &str = "canary-of-a-webhook";
pub(crate) const TOKEN: &str = "canary-of-a-token";

pub(crate) struct Scene {
    pub(crate) env: Env,
    pub(crate) operator: Operator,
}

impl Scene {
    /// `previews` is what the project says beside provider and repository.
    pub(crate) async fn new(name: &str, previews: &str) -> Self {
        let env = Env::new(name).await;
        for (name, value) in [("hook", SECRET), ("token", TOKEN)] {
            env.apply(&format!(
                "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, stringData: {{value: {value}}}}}"
            ))
            .await;
        }
        let operator = Self::operator(&env).await;
        let scene = Self { env, operator };
        scene.project(previews).await;
        scene
    }

    /// An operator for `env`.
    pub(crate) async fn operator(env: &Env) -> Operator {
        let keys = format!("2026:{}", "1c".repeat(32));
        let operator = Operator::start_with(env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &keys)]).await;
        operator.ready().await;
        operator
    }

    pub(crate) async fn project(&self, previews: &str) {
        self.env
            .apply(&format!(
                "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {{name: shop}}
spec:
  services: [{{name: web, image: {{repository: 127.0.0.1:1/acme/shop, policy: {{semver: '1'}}, insecure: true}}}}]
  credentials:
  - {{name: hook, type: webhook, secretRef: {{name: hook, key: value}}}}
  - {{name: git, type: git, secretRef: {{name: token, key: value}}}}
  webhooks: [{{name: github, source: github, credentials: [hook]}}]
  previews: {{provider: github, repository: acme/shop, {previews}}}
"
            ))
            .await;
    }

    /// The path of the project's webhook, once its secret is stored.
    pub(crate) async fn hooks(&self) -> String {
        let path = self
            .env
            .wait("the project has its webhook", DEADLINE, async || {
                let status = self.env.api::<Project>().get("shop").await.ok()?.status?;
                let ready = conditions::get(&status.conditions, "CredentialsReady")?.status == "True";
                status.webhooks.first().map(|webhook| webhook.path.clone()).filter(|_| ready)
            })
            .await;
        format!("{}{path}", self.operator.address)
    }

    /// Sends what GitHub sends of a pull request, signed with `secret`; the answer.
    pub(crate) async fn send(&self, action: &str, pull: &Value, repository: &str, secret: &str) -> u16 {
        let body = json!({
            "action": action, "number": pull["number"], "pull_request": pull,
            "repository": {"full_name": repository}, "sender": {"login": "jane"},
        })
        .to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let request = self.env.http.post(self.hooks().await).header("x-github-event", "pull_request");
        request.header("x-hub-signature-256", signature).body(body).send().await.unwrap().status().as_u16()
    }

    /// The same, well signed, from the repository of the project.
    pub(crate) async fn tell(&self, action: &str, pull: &Value) {
        assert_eq!(self.send(action, pull, "Acme/Shop", SECRET).await, 202);
    }

    /// The commit of an environment, once it is this one.
    pub(crate) async fn until_commit(&self, name: &str, commit: char) -> Environment {
        let commit = commit.to_string().repeat(40);
        let what = format!("{name} is of commit {commit}");
        self.env
            .wait(&what, DEADLINE, async || {
                let found = self.env.api::<Environment>().get_opt(name).await.unwrap()?;
                let is_of = found.spec.source.as_ref()?.commit.as_ref() == Some(&commit);
                is_of.then_some(found)
            })
            .await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        self.env
            .wait(&format!("{name} is gone"), DEADLINE, async || {
                self.env.api::<Environment>().get_opt(name).await.unwrap().is_none().then_some(())
            })
            .await;
    }

    /// Names of the environments that do not end.
    pub(crate) async fn environments(&self) -> Vec<String> {
        let all = self.env.list::<Environment>().await;
        all.iter().filter(|one| one.metadata.deletion_timestamp.is_none()).map(|one| one.name_any()).collect()
    }

    /// Waits until `PreviewsReady` has this reason; what it says.
    pub(crate) async fn until_reason(&self, reason: &str) -> String {
        self.until_said(reason, "").await
    }

    /// Waits until `PreviewsReady` has this reason, and says this.
    pub(crate) async fn until_said(&self, reason: &str, part: &str) -> String {
        self.env
            .wait(&format!("PreviewsReady says {reason}: {part}"), DEADLINE, async || {
                let status = self.env.api::<Project>().get("shop").await.ok()?.status?;
                let found = conditions::get(&status.conditions, "PreviewsReady")?;
                (found.reason == reason && found.message.contains(part)).then(|| found.message.clone())
            })
            .await
    }

    /// A number of the database.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let pool = sqlx::PgPool::connect(&self.env.database.url).await.unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await.unwrap()
    }

    /// Waits until every delivery is worked on.
    pub(crate) async fn until_read(&self) {
        let waiting = "SELECT count(*) FROM webhook_inbox WHERE state = 'pending'";
        self.env.wait("everything is read", DEADLINE, async || (self.number(waiting).await == 0).then_some(())).await;
    }
}
