//! The place of one plan: a namespace, a database, the proxies around its operator, and the operator.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use stagekeeper::api::{Project, StageStatus, conditions};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    api_proxy::ApiProxy,
    cluster::Env,
    ground::{Ground, push},
    http_proxy::{Exchange, HttpProxy},
    images,
    layers::{Layer, Passes},
    operator::Operator,
    postgres_proxy::PostgresProxy,
    provider::Provider,
    trap::Traffic,
    witness::Witness,
};

/// How long one thing may take, with six plans beside each other.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Time between two looks. Many plans look at one API server.
pub const PAUSE: Duration = Duration::from_millis(400);

/// The place of one plan.
pub struct Scene {
    /// What it stands on.
    pub ground: Arc<Ground>,
    /// Namespace and database.
    pub env: Env,
    /// Between the operator and the API server.
    pub api: ApiProxy,
    /// Between the operator and Postgres.
    pub sql: PostgresProxy,
    /// What passed between the operator and everything else.
    pub outside: Arc<Traffic<Exchange>>,
    /// What was made and removed.
    pub witness: Witness,
    /// Tags by digest.
    pub tags: Mutex<Vec<(String, String)>>,
    /// The git provider.
    pub provider: Provider,
    registry: HttpProxy,
    git: HttpProxy,
    whole: bool,
    operator: AsyncMutex<Option<Operator>>,
}

impl Scene {
    /// Everything but the operator. `whole`: the operator is to see the whole cluster.
    pub async fn new(ground: Arc<Ground>, name: &str, whole: bool) -> Self {
        let env = ground.env(name).await;
        if whole {
            alone(&env).await;
        }
        let outside = Traffic::new();
        let registry = HttpProxy::start("registry", &format!("http://{}", images::registry()), outside.clone()).await;
        let provider = Provider::new().await;
        let git = HttpProxy::start("provider", &provider.api(), outside.clone()).await;
        Self {
            api: ApiProxy::start(&env.kubeconfig).await,
            sql: PostgresProxy::start(&env.database.url).await,
            witness: Witness::of_everything(&env, whole).await,
            ground,
            env,
            outside,
            provider,
            registry,
            git,
            whole,
            tags: Mutex::default(),
            operator: AsyncMutex::default(),
        }
    }

    /// Starts the operator behind the proxies. All of them have one identity, as a pod's successor has in a container that is
    /// started again: each takes the Lease over from the one before.
    pub async fn start(&self) {
        let keys = format!("2026:{}", "1c".repeat(32));
        let mut variables = vec![
            ("KUBECONFIG", self.api.kubeconfig.as_str()),
            ("DATABASE_URL", &self.sql.url),
            ("STAGEKEEPER_LEASE_IDENTITY", "operator"),
            ("STAGEKEEPER_ENCRYPTION_KEYS", &keys),
            ("STAGEKEEPER_PREVIEW_URL", "http://preview.test"),
        ];
        if self.whole {
            variables.push(("STAGEKEEPER_NAMESPACES", ""));
        }
        let operator = Operator::start_with(&self.env, &variables).await;
        *self.operator.lock().await = Some(operator);
    }

    /// Whether it was started.
    pub async fn runs(&self) -> bool {
        self.operator.lock().await.is_some()
    }

    /// Kills it. Its log is judged.
    pub async fn kill(&self) {
        self.operator.lock().await.take().expect("it runs").kill9();
    }

    /// Has it end in order. Its log is judged.
    pub async fn stop(&self) {
        let operator = self.operator.lock().await.take().expect("it runs");
        operator.ready().await;
        operator.stop().await;
    }

    /// How often it has looked at something, since it started.
    pub async fn passes(&self) -> u64 {
        let operator = self.operator.lock().await;
        let metrics = operator.as_ref().expect("it runs").metrics().await;
        let lines = metrics.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Kinds of the writes that passed a layer so far, in order.
    pub fn written(&self, layer: Layer) -> Vec<String> {
        fn kinds<T: Passes>(all: Vec<T>) -> Vec<String> {
            all.iter().filter(|one| one.counts()).map(Passes::kind).collect()
        }
        match layer {
            Layer::Cluster => kinds(self.api.log()),
            Layer::Database => kinds(self.sql.log()),
            Layer::Outside => kinds(self.outside.log()),
        }
    }

    /// What the git provider was told, in words of every run. A status that is told again is the same status: it belongs to a
    /// commit and a context. A comment that is told again would be another one.
    pub fn told(&self, plain: impl Fn(&str) -> String) -> Value {
        let provider = self.provider.state();
        let mut statuses = BTreeMap::new();
        for status in &provider.statuses {
            let key = format!("{} {}", status["commit"], status["context"]);
            statuses.insert(key, plain(&status.to_string()));
        }
        let comments: Vec<String> = provider.comments.values().map(|text| plain(text)).collect();
        json!({"statuses": statuses, "comments": comments})
    }

    /// Applies YAML in which `REGISTRY/` is this place's folder in the registry, behind the proxy.
    pub async fn apply(&self, yaml: &str) {
        let folder = format!("{}/{}/", self.registry.address, self.env.namespace);
        self.env.apply(&yaml.replace("REGISTRY/", &folder)).await;
    }

    /// Pushes the image of `web` with this tag. Gives the digest.
    pub async fn push(&self, tag: &str) -> String {
        let digest = push(&self.env.repository("web"), tag).await;
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).push((digest.clone(), tag.to_owned()));
        digest
    }

    /// Tells the webhook of the project that a tag was pushed.
    pub async fn announce(&self, tag: &str) {
        let image = format!("{}/{}/web:{tag}", self.registry.address, self.env.namespace);
        self.deliver(&[], &json!({"status": "new", "image": image}).to_string()).await;
    }

    /// Sends something to the webhook of the project, as often as it takes: a sender whose receiver is not there tries again.
    pub async fn deliver(&self, headers: &[(&str, &str)], body: &str) {
        let path = async || {
            let status = self.env.api::<Project>().get("shop").await.ok()?.status?;
            status.webhooks.first().map(|webhook| webhook.path.clone())
        };
        let path = self.wait("the project shows its webhook", path).await;
        let taken = async || {
            let address = self.operator.lock().await.as_ref()?.address.clone();
            let mut request = self.env.http.post(format!("{address}{path}")).header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let sent = request.body(body.to_owned()).send().await.ok()?;
            (sent.status().as_u16() == 202).then_some(())
        };
        self.wait("the webhook is received", taken).await;
    }

    /// Where the registry is for the operator.
    pub fn registry(&self) -> &str {
        &self.registry.address
    }

    /// Where the git provider is for the operator.
    pub fn provider_address(&self) -> &str {
        &self.git.address
    }

    /// A number that the database gives.
    pub async fn number(&self, sql: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.env.database.url).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    }

    /// Waits until `condition` gives something.
    pub async fn wait<T>(&self, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            assert!(started.elapsed() <= DEADLINE, "waited {DEADLINE:?} in vain: {what}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the status of a Stage is as wanted.
    pub async fn until(&self, stage: &str, what: &str, holds: impl Fn(&StageStatus) -> bool) -> StageStatus {
        let look = async || self.env.stage(stage).await.status.filter(|status| holds(status));
        self.wait(&format!("{stage}: {what}"), look).await
    }

    /// Waits until the newest deploy of a stage has ended like this with these images, the stage is ready or not, and nothing
    /// of an earlier one is left.
    pub async fn comes_to(&self, stage: &str, images: &str, state: &str, ready: &str) -> StageStatus {
        self.until(stage, &format!("{images} {state}, ready {ready}"), |status| {
            let newest = status.history.first();
            let done = newest.is_some_and(|it| it.state == state && it.images.as_deref() == Some(images));
            let is = conditions::get(&status.conditions, conditions::READY);
            done && is.is_some_and(|is| is.status == ready) && status.instances.len() == 1
        })
        .await
    }
}

/// Waits until nothing is left of the scene before: its operator would see to that too.
async fn alone(env: &Env) {
    let all: Api<Project> = Api::all(env.client.clone());
    let left = async || all.list(&ListParams::default()).await.ok()?.items.is_empty().then_some(());
    env.wait("the scene before is gone", DEADLINE, left).await;
}
