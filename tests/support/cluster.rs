//! A place of its own for one test: a namespace on the cluster that `STAGEKEEPER_TEST_KUBECONFIG` names, a database, and
//! a folder in the registry.
//!
//! ```text
//! let env = Env::new("first").await;
//! env.push("web", "1.0.0", &[]).await;
//! env.apply("{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, …}").await;   // REGISTRY/ stands for its folder
//! let stage = env.until("production", "it serves", |stage| stage.release.is_some()).await;
//! ```
//! Every status of a Stage that appears in the namespace is judged by the rules of kstatus, from beginning to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use k8s_openapi::{
    api::core::v1::{Namespace, Pod, Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt as _,
        wait::{await_condition, conditions},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use stagekeeper::{
    api::{Project, Stage, StageStatus, kstatus},
    domain::clock::{Ids as _, SystemIds},
    store::{HistoryEntry, HistoryFilter, LogFilter, StoreError, StoredLine, StoredTransition},
};
use uuid::Uuid;

use super::{
    images,
    postgres::{self, TestDatabase},
};

/// How long anything may take. Generous: tests run beside each other on small machines.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Time between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(100);

/// Who applies what tests apply.
const MANAGER: &str = "e2e";

/// Label of every namespace that a test made.
const LABEL: &str = "stagekeeper.dev/test";

/// The kubeconfig of the test cluster.
pub fn kubeconfig() -> String {
    env::var("STAGEKEEPER_TEST_KUBECONFIG")
        .expect("STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs a cluster, `make test` starts one and sets it")
}

/// A client for the cluster of a kubeconfig file.
pub async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a cluster");
    Client::try_from(config).expect("a client")
}

/// A namespace, a database and a folder in the registry, removed with this value.
pub struct Env {
    /// Name of the namespace, and of the folder in the registry.
    pub namespace: String,
    /// The kubeconfig file of the cluster.
    pub kubeconfig: String,
    /// A client that anybody may use.
    pub client: Client,
    /// The database.
    pub database: TestDatabase,
    /// A client for the operator's port and the services of the cluster.
    pub http: reqwest::Client,
    judge: tokio::task::JoinHandle<()>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Env {
    /// Makes one, with our definitions on the cluster.
    pub async fn new(name: &str) -> Self {
        Self::on(name, &kubeconfig(), &postgres::server()).await
    }

    /// The same on another cluster or another database server than the ones that all tests share.
    pub async fn on(name: &str, kubeconfig: &str, postgres: &str) -> Self {
        let client = client(kubeconfig).await;
        install(&client, kubeconfig).await;
        let id = SystemIds.next().simple().to_string();
        let namespace = format!("e2e-{name}-{}", &id[id.len() - 8..]);
        let object: Namespace =
            serde_json::from_value(json!({"metadata": {"name": namespace, "labels": {LABEL: name}}}))
                .expect("a namespace");
        Api::all(client.clone()).create(&PostParams::default(), &object).await.expect("the namespace is made");
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let judged = |kind| judge(client.clone(), namespace.clone(), wrong.clone(), kind);
        let (stages, environments) = (judged("Stage"), judged("Environment"));
        let judge = tokio::spawn(async { _ = tokio::join!(stages, environments) });
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            // A connection that is kept would stay with the pod that it first met.
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("an HTTP client");
        let database = TestDatabase::on(postgres).await;
        Self { namespace, kubeconfig: kubeconfig.to_owned(), client, database, http, judge, wrong }
    }

    /// Repository of an image in this test's folder, such as `127.0.0.1:5000/e2e-first-…/web`.
    pub fn repository(&self, image: &str) -> String {
        format!("{}/{}/{image}", images::registry(), self.namespace)
    }

    /// Pushes the example application as `image:tag`, see [`images::push`]. Gives the digest.
    pub async fn push(&self, image: &str, tag: &str, switches: &[(&str, &str)]) -> String {
        images::push(&self.repository(image), tag, switches).await
    }

    /// Objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies YAML documents in which `REGISTRY/` stands for this test's folder in the registry.
    pub async fn apply(&self, yaml: &str) {
        let folder = self.repository("");
        let text = yaml.replace("REGISTRY/", &folder);
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object: DynamicObject =
                serde::Deserialize::deserialize(document).unwrap_or_else(|error| panic!("{error}:\n{text}"));
            let types = object.types.clone().expect("apiVersion and kind");
            let gvk = GroupVersionKind::try_from(&types).expect("a kind");
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&gvk));
            let params = PatchParams::apply(MANAGER).force();
            api.patch(&object.name_any(), &params, &Patch::Apply(&object))
                .await
                .unwrap_or_else(|error| panic!("{error}:\n{text}"));
        }
    }

    /// Merges a patch into an object.
    pub async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    /// A Stage.
    pub async fn stage(&self, name: &str) -> Stage {
        self.api().get(name).await.expect("the Stage")
    }

    /// Waits until the status of a Stage is as wanted, and gives it.
    pub async fn until(&self, stage: &str, what: &str, holds: impl Fn(&StageStatus) -> bool) -> StageStatus {
        let what = format!("{stage}: {what}");
        let status = self.wait(&what, DEADLINE, async || {
            let stage = self.stage(stage).await;
            stage.status.filter(|status| holds(status))
        });
        status.await
    }

    /// Waits until `condition` gives something.
    pub async fn wait<T>(&self, what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            let in_time = started.elapsed() <= deadline;
            assert!(in_time, "waited {deadline:?} in vain: {what}\n{}", self.look().await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Deploys of a stage as the database has them, oldest first.
    pub async fn deploys(&self, stage: &str) -> Vec<HistoryEntry> {
        let filter = HistoryFilter {
            namespace: Some(self.namespace.clone()),
            stage: Some(stage.to_owned()),
            limit: 100,
            ..HistoryFilter::default()
        };
        let mut deploys = match self.database.store.history_list(&filter).await {
            Ok(page) => page.entries,
            // The operator has not seen the stage yet.
            Err(StoreError::NotFound { .. }) => Vec::new(),
            Err(error) => panic!("the history: {error}"),
        };
        deploys.reverse();
        deploys
    }

    /// Steps of a deploy, oldest first.
    pub async fn transitions(&self, deploy: Uuid) -> Vec<StoredTransition> {
        let found = self.database.store.deploy_get(deploy).await;
        let found = found.expect("the database answers").expect("the deploy");
        found.entry.transitions
    }

    /// Log of a deploy.
    pub async fn log(&self, deploy: Uuid) -> Vec<StoredLine> {
        let filter = LogFilter { deploy, search: None, after: 0, limit: 10_000 };
        self.database.store.logs_list(&filter).await.expect("the log")
    }

    /// What a Service of the namespace answers, from its own address: status code and body.
    pub async fn http_get(&self, service: &str, path: &str) -> Result<(u16, String), String> {
        let address = self.address(service).await.ok_or("it has no address")?;
        let request = self.http.get(format!("http://{address}{path}"));
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let code = answer.status().as_u16();
        let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
        Ok((code, body))
    }

    /// Address and first port of a Service.
    pub async fn address(&self, service: &str) -> Option<String> {
        let found = self.api::<Service>().get_opt(service).await;
        let spec = found.expect("the API server answers")?.spec?;
        let port = spec.ports?.first()?.port;
        Some(format!("{}:{port}", spec.cluster_ip?))
    }

    /// All objects of one kind.
    pub async fn list<K>(&self) -> Vec<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let listed = self.api::<K>().list(&ListParams::default()).await;
        listed.expect("a list").items
    }

    /// What `kubectl get` shows of an object of ours, by column.
    pub async fn columns(&self, plural: &str, name: &str) -> BTreeMap<String, String> {
        let (group, version) = (stagekeeper::api::GROUP, stagekeeper::api::VERSION);
        let path = format!("/apis/{group}/{version}/namespaces/{}/{plural}/{name}", self.namespace);
        let request = http::Request::get(path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .expect("a request");
        let table: Value = self.client.request(request).await.expect("a table");
        let names = table["columnDefinitions"].as_array().expect("columns").iter();
        let cells = table["rows"][0]["cells"].as_array().expect("a row").iter();
        let shown = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        names.zip(cells).map(|(name, cell)| (shown(&name["name"]), shown(cell))).collect()
    }

    /// What is in the namespace, for a test that failed.
    async fn look(&self) -> String {
        let mut text = String::new();
        for stage in self.list::<Stage>().await {
            text.push_str(&shown(&stage.name_any(), &stage.status));
        }
        for project in self.list::<Project>().await {
            text.push_str(&shown(&project.name_any(), &project.status));
        }
        for pod in self.list::<Pod>().await {
            let status = pod.status.clone().unwrap_or_default();
            let containers = status.container_statuses.unwrap_or_default();
            let states: Vec<_> = containers.iter().map(|one| &one.state).collect();
            let _ = writeln!(text, "pod {}: {:?} {states:?}", pod.name_any(), status.phase);
        }
        text
    }
}

fn shown(name: &str, status: &impl Serialize) -> String {
    format!("{name}:\n{}\n", serde_yaml::to_string(status).unwrap_or_default())
}

/// Clusters that have our definitions, by kubeconfig.
static INSTALLED: tokio::sync::Mutex<BTreeSet<String>> = tokio::sync::Mutex::const_new(BTreeSet::new());

/// Applies our definitions, once, and waits until they are served. They belong to the whole cluster and stay.
async fn install(client: &Client, kubeconfig: &str) {
    let mut installed = INSTALLED.lock().await;
    if !installed.insert(kubeconfig.to_owned()) {
        return;
    }
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in stagekeeper::api::crds() {
        let name = definition.name_any();
        // The same manager as in other tests: what several apply alike never conflicts.
        let params = PatchParams::apply("stagekeeper-tests").force();
        api.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, established).await.expect("served in time").expect("watched");
    }
}

/// Watches every status of every Stage in the namespace and collects what generic tools would misread.
async fn judge(client: Client, namespace: String, wrong: Arc<Mutex<Vec<String>>>, kind: &'static str) {
    let gvk = GroupVersionKind::gvk(stagekeeper::api::GROUP, stagekeeper::api::VERSION, kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &ApiResource::from_gvk(&gvk));
    let watched = watcher(api, watcher::Config::default()).default_backoff().applied_objects().try_for_each(|stage| {
        let found = misread(&serde_json::to_value(&stage).unwrap_or_default());
        if let Some(found) = found {
            let text = format!("{}: {found}: {}", stage.name_any(), stage.data["status"]);
            wrong.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
        futures::future::ready(Ok(()))
    });
    // With a backoff the stream goes on after errors; it ends with the test.
    let _ = watched.await;
}

/// What is wrong with a Stage for those who read it by the rules of kstatus.
fn misread(stage: &Value) -> Option<String> {
    let observed = stage.pointer("/status/observedGeneration");
    if observed.and_then(Value::as_i64).is_none() {
        return Some("observedGeneration is missing".into());
    }
    let listed = stage.pointer("/status/conditions").and_then(Value::as_array);
    let listed = listed.filter(|listed| !listed.is_empty())?;
    let status = |type_: &str| {
        let found = listed.iter().find(|condition| condition["type"] == type_);
        found.and_then(|condition| condition["status"].as_str())
    };
    match (status("Reconciling"), status("Stalled"), status("Ready")) {
        (Some("True"), Some("True"), _) => return Some("Reconciling and Stalled".into()),
        (_, _, None) => return Some("no Ready".into()),
        (Some("True"), _, Some("True")) | (_, Some("True"), Some("True")) => {
            return Some("Ready and not done".into());
        }
        _ => {}
    }
    let deleted = stage.pointer("/metadata/deletionTimestamp").is_some();
    let current = observed == stage.pointer("/metadata/generation") && !deleted;
    let expected = match (status("Reconciling"), status("Stalled")) {
        (Some("True"), _) => kstatus::Progress::InProgress,
        (_, Some("True")) => kstatus::Progress::Failed,
        _ => kstatus::Progress::Current,
    };
    let progress = kstatus::compute(stage);
    (current && progress != expected).then(|| format!("kstatus reads {progress:?}"))
}

impl Drop for Env {
    fn drop(&mut self) {
        self.judge.abort();
        let (kubeconfig, namespace) = (self.kubeconfig.clone(), self.namespace.clone());
        // `drop` cannot wait for futures, and the test's runtime must not be blocked on.
        let removed = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(remove(&kubeconfig, &namespace));
        });
        let removed = removed.join();
        if thread::panicking() {
            return;
        }
        removed.expect("the namespace is removed");
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "statuses that generic tools misread:\n{}", wrong.join("\n"));
    }
}

/// Removes a namespace whose operator may be gone: nobody else would let its objects go.
async fn remove(kubeconfig: &str, namespace: &str) {
    let client = client(kubeconfig).await;
    let params = DeleteParams::background().grace_period(0);
    match Api::<Namespace>::all(client.clone()).delete(namespace, &params).await {
        // The test itself has deleted it.
        Err(kube::Error::Api(status)) if status.code == 404 => return,
        deleted => _ = deleted.expect("deleted"),
    }
    release::<Stage>(&client, namespace).await;
    release::<Project>(&client, namespace).await;
}

async fn release<K>(client: &Client, namespace: &str)
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for object in api.list(&ListParams::default()).await.expect("a list") {
        // Gone already is as good.
        let _ = api.patch(&object.name_any(), &PatchParams::default(), &free).await;
    }
}
