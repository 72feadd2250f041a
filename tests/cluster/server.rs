//! A namespace of a test's own on a real API server.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use stagekeeper::api::labels;
use stagekeeper::cluster::apply::Writer;
use stagekeeper::cluster::client::call::CallCounts;
use stagekeeper::cluster::client::{self, Access, Clients};
use stagekeeper::cluster::index::{Index, Scope, StageKey};
use tokio_util::task::AbortOnDropHandle;

/// How long anything may take that does happen.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The configuration of the cluster that `make test` started.
pub async fn config() -> Config {
    let path = std::env::var("STAGEKEEPER_TEST_KUBECONFIG").expect(
        "STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs a real API server, `make test` starts one and sets it",
    );
    let access = Access::Kubeconfig { path: Some(path.into()), context: None };
    client::config(&access).await.expect("a usable kubeconfig")
}

/// Our own clients from a configuration, and what they ask.
pub fn clients(config: Config) -> (Clients, CallCounts) {
    let counts = CallCounts::default();
    (Clients::from_config(config, counts.listener()).expect("clients"), counts)
}

/// A namespace with a watched index and a writer.
pub struct World {
    pub namespace: String,
    pub client: Client,
    /// What the writer's client asked.
    pub counts: CallCounts,
    /// What the index's first client asked.
    pub watch_counts: CallCounts,
    pub index: Index,
    pub writer: Writer,
    pub watching: Option<AbortOnDropHandle<()>>,
}

impl World {
    /// Makes the namespace and waits until its index is synced.
    pub async fn new(name: &str) -> Self {
        Self::watching_through(name, config().await).await
    }

    /// The same, with an index that watches through another configuration than the writer writes.
    pub async fn watching_through(name: &str, watch: Config) -> Self {
        let (writing, counts) = clients(config().await);
        let client = writing.general;
        let namespace = make_namespace(&client, name).await;
        let index = Index::new(&Scope::Namespaces(vec![namespace.clone()]));
        let writer = Writer::new(client.clone(), index.clone());
        let (watching, watch_counts) = clients(watch);
        let mut world = Self { namespace, client, counts, watch_counts, index, writer, watching: None };
        world.watch(watching.general);
        tokio::time::timeout(PATIENCE, world.index.synced())
            .await
            .unwrap_or_else(|_| panic!("the index is not synced: {:?}", world.index.troubles()));
        world
    }

    /// Starts watching, in place of what watched before.
    pub fn watch(&mut self, client: Client) {
        let index = self.index.clone();
        let watching = tokio::spawn(async move { index.run(client).await });
        self.watching = Some(AbortOnDropHandle::new(watching));
    }

    /// The key of a stage in this namespace.
    pub fn key(&self, stage: &str) -> StageKey {
        StageKey::new(self.namespace.as_str(), stage)
    }

    /// Metadata of an object of a stage.
    pub fn metadata(&self, stage: &str, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(
                [(labels::STAGE, stage), (labels::MANAGED_BY, labels::FIELD_MANAGER)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..ObjectMeta::default()
        }
    }

    /// Objects of a kind in this namespace, past our own writer.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Removes the namespace.
    pub async fn end(self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::default()).await.expect("deleted");
    }
}

/// Makes an empty namespace.
pub async fn make_namespace(client: &Client, name: &str) -> String {
    let name = format!("cluster-{name}-{}", std::process::id());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
    name
}

/// Waits for something that must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Looks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
