//! The cluster that `make test` starts.

use std::{fs, path::PathBuf};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::binary::{Folder, PATIENCE};

/// The administrator's kubeconfig.
pub(crate) fn kubeconfig() -> String {
    std::env::var("STAGEKEEPER_TEST_KUBECONFIG").expect(
        "STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs a real API server, `make test` starts one and sets it",
    )
}

/// A kubeconfig for a place where nobody listens.
pub(crate) fn kubeconfig_to_nowhere(folder: &Folder) -> PathBuf {
    let path = folder.path("nowhere");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "nowhere",
        "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
        "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "nobody", "user": {}}],
    });
    fs::write(&path, config.to_string()).unwrap();
    path
}

/// A namespace of one test, in a cluster that has our kinds.
pub(crate) struct Ground {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Ground {
    pub(crate) async fn new(name: &str) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig()).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        let client = Client::try_from(config.await.expect("a cluster")).expect("a client");
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in stagekeeper::api::crds() {
            let name = crd.name_any();
            let params = PatchParams::apply("stagekeeper-tests").force();
            let applied = definitions.patch(&name, &params, &Patch::Apply(&crd)).await;
            applied.expect("a definition can be applied");
            let served = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            timeout(PATIENCE, served).await.expect("served in time").unwrap();
        }
        let namespace = format!("cli-{name}-{}", std::process::id());
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let all = Api::all(client.clone());
        all.create(&PostParams::default(), &object).await.expect("a namespace");
        Self { client, namespace }
    }

    /// Removes the namespace with all that is in it.
    pub(crate) async fn clear(self) {
        let all: Api<Namespace> = Api::all(self.client);
        all.delete(&self.namespace, &DeleteParams::default()).await.expect("deleted");
    }

    /// Makes an object of one of our kinds. A definition that was applied just now may be refused for a moment.
    pub(crate) async fn make<K>(&self, name: &str, spec: Value)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let object: K = serde_json::from_value(json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name},
            "spec": spec,
        }))
        .expect("a valid object");
        let made = async {
            loop {
                match api.create(&PostParams::default(), &object).await {
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => {
                        tokio::task::yield_now().await;
                    }
                    made => return made,
                }
            }
        };
        timeout(PATIENCE, made).await.expect("served in time").expect("made");
    }

    /// Replaces the status of an object.
    pub(crate) async fn report<K>(&self, name: &str, status: Value)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({"status": status}));
        let patched = api.patch_status(name, &PatchParams::default(), &patch).await;
        patched.expect("a status");
    }

    /// A kubeconfig for a service account that may do nothing.
    pub(crate) async fn kubeconfig_of_nobody(&self, folder: &Folder) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let granted = accounts.create_token_request("nobody", &PostParams::default(), &request).await.unwrap();
        let token = granted.status.expect("a token").token;
        let text = fs::read_to_string(kubeconfig()).unwrap();
        let mut config: Value = serde_yaml::from_str(&text).unwrap();
        for user in config["users"].as_array_mut().unwrap() {
            user["user"] = json!({"token": token});
        }
        let path = folder.path("nobody");
        fs::write(&path, config.to_string()).unwrap();
        path
    }
}
