//! An operator that sees the whole cluster, one at a time, and a project whose environments it makes.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use stagekeeper::api::{Environment, EnvironmentStatus};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
};

/// Two operators that see everything would do everything twice.
static ONE: Mutex<()> = Mutex::const_new(());

/// Where environments of these tests are reached, if anything led there.
pub const PREVIEWS: &str = "http://preview.test:8088";

/// A project of one service whose images are of pull requests.
pub const SHOP: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  environments: {prices: {currency: EUR, cpu: '10', memory: '1'}}
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '>=1.0.0'}, interval: 1s, insecure: true}
    ports: [{name: http, port: 8080}]
    env: [{name: APP_DRAIN, value: 0s}]
    health: {http: {path: /healthz}, interval: 250ms, timeout: 10s}
    resources: {requests: {cpu: 5m, memory: 8Mi}}
";

/// An operator that sees the whole cluster, with a namespace and a database.
pub struct Stand {
    pub env: Env,
    pub operator: Operator,
    pub _one: MutexGuard<'static, ()>,
}

impl Stand {
    /// Starts one.
    pub async fn new(name: &str) -> Self {
        Self::with(name, &[]).await
    }

    /// Starts one with further environment variables.
    pub async fn with(name: &str, variables: &[(&str, &str)]) -> Self {
        let one = ONE.lock().await;
        let env = Env::new(name).await;
        let all = [&[("STAGEKEEPER_NAMESPACES", ""), ("STAGEKEEPER_PREVIEW_URL", PREVIEWS)], variables].concat();
        let operator = Operator::start_with(&env, &all).await;
        operator.ready().await;
        Self { env, operator, _one: one }
    }

    /// The same with another operator.
    pub fn of(env: Env, operator: Operator, one: MutexGuard<'static, ()>) -> Self {
        Self { env, operator, _one: one }
    }

    /// An operator for `env`, which is to be the only one.
    pub async fn operator(env: &Env) -> Operator {
        Operator::start_with(env, &[("STAGEKEEPER_NAMESPACES", ""), ("STAGEKEEPER_PREVIEW_URL", PREVIEWS)]).await
    }

    /// Applies an Environment of [`SHOP`]; `spec` is added to its spec.
    pub async fn environment(&self, name: &str, spec: &str) {
        let text = format!(
            "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Environment, metadata: {{name: {name}}}, \
             spec: {{project: shop, {spec}}}}}"
        );
        self.env.apply(&text).await;
    }

    /// An Environment as it is now.
    pub async fn get(&self, name: &str) -> Option<Environment> {
        self.env.api::<Environment>().get_opt(name).await.expect("an answer")
    }

    /// Waits until the status of an Environment is so.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&EnvironmentStatus) -> bool) -> EnvironmentStatus {
        let what = format!("environment {name}: {what}");
        let look = async || self.get(name).await?.status.filter(|status| holds(status));
        self.env.wait(&what, DEADLINE, look).await
    }

    /// Waits for a phase.
    pub async fn until_phase(&self, name: &str, phase: &str) -> EnvironmentStatus {
        self.until(name, phase, |status| status.phase.as_deref() == Some(phase)).await
    }

    /// Waits until an Environment is gone.
    pub async fn until_gone(&self, name: &str) {
        self.env
            .wait(&format!("{name} is gone"), DEADLINE, async || self.get(name).await.is_none().then_some(()))
            .await;
    }

    /// Waits until a namespace is gone.
    pub async fn until_namespace_gone(&self, name: &str) {
        let all: Api<Namespace> = Api::all(self.env.client.clone());
        let gone = async || all.get_opt(name).await.expect("an answer").is_none().then_some(());
        self.env.wait(&format!("namespace {name} is gone"), Duration::from_mins(3), gone).await;
    }

    /// A namespace.
    pub async fn namespace(&self, name: &str) -> Namespace {
        Api::<Namespace>::all(self.env.client.clone()).get(name).await.expect("the namespace")
    }

    /// How many pods a namespace has, those that end among them: what ends still answers.
    pub async fn all_pods(&self, namespace: &str) -> usize {
        let pods: Api<Pod> = Api::namespaced(self.env.client.clone(), namespace);
        pods.list(&ListParams::default()).await.expect("pods").items.len()
    }

    /// Names of the pods of a namespace that do not end.
    pub async fn pods(&self, namespace: &str) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(self.env.client.clone(), namespace);
        let all = pods.list(&ListParams::default()).await.expect("pods").items;
        all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| pod.name_any()).collect()
    }

    /// Runs `stagekeeper env …` straight on the database. Gives what it printed.
    pub async fn cli(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments).await;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
        said
    }

    /// The same, where nobody may lead at the moment: it is enough that it is asked.
    pub async fn asked(&self, arguments: &[&str]) {
        let done = self.run(arguments).await;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let pending = said.contains("pending");
        assert!(done.status.success() || pending, "{arguments:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn run(&self, arguments: &[&str]) -> std::process::Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
            .arg("env")
            .args(arguments)
            .args(["--namespace", &self.env.namespace])
            .env("DATABASE_URL", &self.env.database.url)
            .env("KUBECONFIG", &self.env.kubeconfig)
            .output()
            .await
            .expect("the command runs")
    }
}
