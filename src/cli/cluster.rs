//! The cluster as the command line meets it: a client, and the namespace that is meant.

use std::sync::Arc;

use kube::{Client, Config, Resource};

use super::{Context, failure::Failure};
use crate::{
    cluster::{
        client::{self, Access, ConnectError, Deadlines},
        error::{ApiError, Class, Target},
    },
    config::ClusterAccess,
};

impl From<ClusterAccess> for Access {
    fn from(access: ClusterAccess) -> Self {
        if access == ClusterAccess::default() {
            return Self::Infer;
        }
        Self::Kubeconfig { path: access.kubeconfig, context: access.context }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::unavailable(error.to_string(), "")
    }
}

impl Context {
    /// The cluster's address and credentials; nothing is asked of it yet.
    pub async fn cluster_config(&self) -> Result<Config, ConnectError> {
        client::config(&self.cluster.access().into()).await
    }

    /// A client for the cluster; nothing is asked of it yet.
    pub fn client(config: Config) -> Result<Client, ConnectError> {
        let uncounted = Arc::new(|_: &client::call::Call| {});
        Ok(client::builder(config, Deadlines::GENERAL, uncounted)?.build())
    }

    /// The namespace that is meant: the flag's, else that of the kubeconfig's context, else `default`, as in
    /// kubectl. A missing kubeconfig is no reason to refuse what only the database is needed for.
    pub async fn namespace(&self) -> Result<String, Failure> {
        if let Some(name) = &self.namespace {
            return Ok(name.clone());
        }
        match self.cluster_config().await {
            Ok(config) => Ok(config.default_namespace),
            Err(_) if self.cluster.access() == ClusterAccess::default() => Ok("default".into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why a read did not succeed. `name` is empty for a list.
pub fn unread<K>(verb: &'static str, namespace: Option<&str>, name: &str, error: &kube::Error) -> Failure
where
    K: Resource<DynamicType = ()>,
{
    let resource = K::plural(&());
    let target = Target {
        verbs: verb,
        group: K::group(&()).into(),
        resource: resource.clone().into(),
        namespace: namespace.map(Into::into),
        name: name.into(),
    };
    let refused = ApiError::new(&target, error);
    match refused.class() {
        Class::Forbidden => {
            let place = namespace.map_or_else(|| "in all namespaces".to_owned(), |name| format!("in namespace {name}"));
            Failure::failed(
                format!("you may not {verb} {resource} {place}"),
                format!("ask for a Role that allows {verb} on {resource} of {}", K::group(&())),
            )
        }
        Class::Transient => Failure::unavailable(refused.to_string(), "check the kubeconfig and the network between"),
        Class::NotServed => Failure::failed(refused.to_string(), "stagekeeper crds | kubectl apply --server-side -f -"),
        _ => Failure::failed(refused.to_string(), ""),
    }
}
