//! One story that all kinds of faults are put into, and what is compared afterwards: a first release that succeeds, then
//! one that is not accepted and is rolled back. Each phase has a hook, and a route has to be accepted, so that every state
//! lasts until something happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::{batch::v1::Job, networking::v1::Ingress};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::{api::StageStatus, domain::deploy::State};
use tokio::{sync::OnceCell, task::JoinHandle};

use crate::{
    api_proxy::ApiProxy,
    cluster::Env,
    operator::Operator,
    postgres_proxy::PostgresProxy,
    witness::{Lives, Witness},
};

/// The project: one service that follows the versions of its image.
pub const PROJECT: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec:
  services:
  - name: web
    image: {repository: REGISTRY/web, policy: {semver: '*'}, interval: 1s, insecure: true}
    ports: [{name: http, port: 8080}]
    health: {http: {path: /healthz}, interval: 200ms, failureThreshold: 3}
";

/// A stage that goes through every state one by one, and accepts only versions that begin with 1.
pub const THOROUGH: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: production}
spec:
  project: shop
  route: {host: shop.test, className: tests}
  rollback: {keepPrevious: 0s, watch: 0s}
  hooks:
    beforeStart: [{name: migrate, args: ['-print', 'migrated']}]
    beforeTraffic: [{name: seed, args: ['-print', 'seeded']}]
    verify:
    - name: accept
      args: ['-get', 'http://$(STAGEKEEPER_SERVICE_WEB_HOST):$(STAGEKEEPER_SERVICE_WEB_PORT)/', '-contains', 'shop 1.']
    afterSuccess: [{name: tell, args: ['-print', 'told']}]
";

/// A stage with nothing but its services.
pub const PLAIN: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: production}
spec: {project: shop, rollback: {keepPrevious: 0s, watch: 0s}}
";

/// How long a story may take, with a new controller for each of its steps.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// Name of the stage.
pub const STAGE: &str = "production";

/// Proxies between one operator and everything that it writes to.
pub struct Seat {
    /// Between the operator and the API server.
    pub api: ApiProxy,
    /// Between the operator and Postgres.
    pub sql: PostgresProxy,
}

impl Seat {
    /// Proxies for an operator of `env`.
    pub async fn new(env: &Env) -> Self {
        Self { api: ApiProxy::start(&env.kubeconfig).await, sql: PostgresProxy::start(&env.database.url).await }
    }

    /// An operator behind them.
    pub async fn operator(&self, env: &Env, identity: &str) -> Operator {
        let variables = [
            ("KUBECONFIG", self.api.kubeconfig.as_str()),
            ("DATABASE_URL", &self.sql.url),
            ("STAGEKEEPER_LEASE_IDENTITY", identity),
        ];
        Operator::start_with(env, &variables).await
    }
}

/// A namespace with a seat for its operator.
pub struct Scene {
    /// Namespace and database.
    pub env: Env,
    /// The operator's proxies.
    pub seat: Seat,
    /// What was made and removed.
    pub witness: Witness,
    acceptor: JoinHandle<()>,
}

impl Scene {
    /// Everything but the operator.
    pub async fn new(name: &str) -> Self {
        Self::over(Env::new(name).await).await
    }

    /// The same over a given namespace and database.
    pub async fn over(env: Env) -> Self {
        let seat = Seat::new(&env).await;
        let witness = Witness::new(&env);
        let acceptor = tokio::spawn(accept_routes(env.api()));
        Self { env, seat, witness, acceptor }
    }

    /// An operator behind the proxies. All of them have one identity, as a pod's successor has in a container that is
    /// started again: each takes the Lease over from the one before.
    pub async fn operator(&self) -> Operator {
        self.seat.operator(&self.env, "operator").await
    }

    /// Nothing was done twice.
    pub async fn undivided(&self) {
        let lives = self.witness.lives();
        assert!(lives.values().all(|one| one.made == 1), "{lives:?}");
        for deploy in self.env.deploys(STAGE).await {
            let states: Vec<State> = deploy.transitions.iter().map(|step| step.to).collect();
            let all = [
                State::Pending,
                State::Pulling,
                State::Starting,
                State::ConfiguringProxy,
                State::HealthChecking,
                State::Success,
            ];
            assert_eq!(states, all);
        }
    }

    /// Waits until the newest of `number` deploys has come to this end and nothing is left to do.
    pub async fn settled(&self, number: usize, state: State) -> StageStatus {
        let what = format!("deploy {number} has come to {state} and everything is tidy");
        let end = |status: &StageStatus| {
            status.deploy.as_ref().is_some_and(|deploy| deploy.state == state.camel())
                && status.history.len() == number
                && status.instances.len() == 1
                // A new leader begins with the tags that its predecessor wrote down, and knows better after one scan.
                && (state != State::RolledBack || status.conditions.iter().any(|one| one.type_ == "Stalled"))
        };
        let settled = self.env.wait(&what, PATIENCE, async || {
            let status = self.env.stage(STAGE).await.status.filter(end)?;
            self.env.list::<Job>().await.is_empty().then_some(status)
        });
        settled.await
    }

    /// Begins the story: the first release is there, the operator is not.
    pub async fn begin(name: &str, stage: &str) -> Self {
        let scene = Self::new(name).await;
        scene.env.push("web", "1.0.0", &[]).await;
        scene.env.apply(PROJECT).await;
        scene.env.apply(stage).await;
        scene
    }

    /// Goes on with the story of a [`THOROUGH`] stage to its end: success, then the release that is not accepted.
    pub async fn play(&self) -> StageStatus {
        self.settled(1, State::Success).await;
        self.env.push("web", "2.0.0", &[]).await;
        self.settled(2, State::RolledBack).await
    }

    /// What the story amounts to.
    pub async fn outcome(&self, status: &StageStatus) -> Outcome {
        let mut deploys = Vec::new();
        for deploy in self.env.deploys(STAGE).await {
            let id = deploy.stored.deploy.id;
            let steps = self.env.transitions(id).await.into_iter();
            let steps = steps.map(|step| (step.from, step.to, step.reason)).collect();
            let hooks = self.env.database.store.hooks_list(id).await.unwrap().into_iter();
            let hooks = hooks.map(|hook| (hook.phase.word().to_owned(), hook.name, hook.ok)).collect();
            let said = self.env.log(id).await.into_iter().filter(|line| !line.line.source.contains(' '));
            let said = said.filter(|line| line.line.source.starts_with("hook/"));
            // Names are others each time, and what a container says to its two outputs at once has no order.
            let words = |text: &str| {
                text.split([' ', ':']).take(3).filter(|word| !word.contains('/')).map(str::to_owned).collect()
            };
            let said: BTreeSet<Vec<String>> = said.map(|line| words(&line.line.text)).collect();
            deploys.push(DeployOutcome { steps, hooks, said });
        }
        let mut lives = BTreeMap::new();
        for ((kind, name), one) in self.witness.lives() {
            lives.entry((kind, without_tag(&name))).or_insert_with(Vec::new).push(one);
        }
        for lives in lives.values_mut() {
            lives.sort();
        }
        let mut writes = BTreeMap::new();
        for call in self.seat.api.writes() {
            *writes.entry((call.method.to_string(), call.resource)).or_default() += 1;
        }
        Outcome { deploys, lives, status: stripped(status), writes }
    }
}

/// Where every row is and which transaction wrote it, by table: equal as long as nothing is written. The leader's epoch
/// is left out, because each term begins with a new one.
pub async fn rows(env: &Env) -> BTreeMap<String, String> {
    let mut connection = PgConnection::connect(&env.database.url).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind = 'r' AND n.nspname = 'public' AND c.relname <> 'leader_epochs'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table == "deploys"), "{tables:?}");
    let mut rows = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT coalesce(string_agg(ctid || ' ' || xmin, ', ' ORDER BY ctid), '') FROM {table}");
        let found: String = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        rows.insert(table, found);
    }
    rows
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What is the same however often the operator was disturbed.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// The deploys, oldest first.
    pub deploys: Vec<DeployOutcome>,
    /// How often each object was made and removed: by kind and name without tag, one entry for each full name.
    pub lives: BTreeMap<(String, String), Vec<Lives>>,
    /// The status, without times and identities.
    pub status: Value,
    /// Writes to the API server by method and kind, with whatever was repeated.
    pub writes: BTreeMap<(String, String), usize>,
}

/// What the database says about a deploy.
#[derive(Debug, PartialEq)]
pub struct DeployOutcome {
    /// Its transitions and their reasons.
    pub steps: Vec<(Option<State>, State, String)>,
    /// Its hooks and how they ended.
    pub hooks: Vec<(String, String, Option<bool>)>,
    /// How the lines begin that its hooks printed.
    pub said: BTreeSet<Vec<String>>,
}

/// Serves routes: gives every Ingress an address.
async fn accept_routes(api: Api<Ingress>) {
    let address = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
    let ingresses = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects();
    ingresses
        .for_each(|ingress| async {
            let Ok(ingress) = ingress else { return };
            let name = ingress.name_any();
            let served = ingress.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
            if served.is_none() {
                // It may be gone already.
                let _ = api.patch_status(&name, &PatchParams::default(), &address).await;
            }
        })
        .await;
}

/// The name without the tag that tells instances, hooks and deploys apart.
fn without_tag(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((head, tag)) if tag.len() == 8 && tag.starts_with(|first: char| first.is_ascii_digit()) => head.to_owned(),
        _ => name.to_owned(),
    }
}

/// The status without what differs from run to run.
fn stripped(status: &StageStatus) -> Value {
    const VARY: [&str; 10] =
        ["url", "id", "since", "finishedAt", "lastTransitionTime", "release", "deploy", "name", "active", "instance"];
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| !VARY.contains(&name.as_str()) || value.is_object() || value.is_boolean());
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(status).unwrap();
    strip(&mut value);
    value
}

static CALM: OnceCell<Outcome> = OnceCell::const_new();

/// What comes of the story when nobody disturbs it. Told once for all tests.
pub async fn calm() -> &'static Outcome {
    CALM.get_or_init(async || {
        let scene = Scene::begin("calm", THOROUGH).await;
        let operator = scene.operator().await;
        let status = scene.play().await;
        operator.stop().await;
        let outcome = scene.outcome(&status).await;
        let entered = outcome.deploys.iter().flat_map(|deploy| &deploy.steps).map(|(_, to, _)| to.to_string());
        let entered: BTreeSet<String> = entered.collect();
        assert_eq!(entered, every_state(), "the story goes through every state");
        let made: Vec<&Lives> = outcome.lives.values().flatten().collect();
        assert!(made.iter().all(|one| one.made == 1), "made more than once: {:?}", outcome.lives);
        outcome
    })
    .await
}

/// The states that the story goes through.
pub fn every_state() -> BTreeSet<String> {
    let unseen = [State::Superseded, State::Aborted];
    State::ALL.iter().filter(|state| !unseen.contains(state)).map(ToString::to_string).collect()
}
