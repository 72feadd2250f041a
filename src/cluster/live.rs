//! One object as it is now, past every watch: for decisions that a watch which lags behind must not make.

use std::{fmt::Debug, time::Duration};

use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::{ApiError, Class, Target};

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// The object of this name; none if there is none.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn live<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let target = Target {
        verbs: "get",
        group: K::group(&()).into(),
        resource: K::plural(&()).into(),
        namespace: Some(namespace.into()),
        name: name.into(),
    };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match timeout(DEADLINE, api.get(name)).await {
        Ok(Ok(object)) => Ok(Some(object)),
        Ok(Err(error)) => match ApiError::new(&target, &error) {
            absent if absent.class() == Class::NotFound => Ok(None),
            error => Err(error),
        },
        Err(_) => Err(ApiError::timed_out(&target, DEADLINE)),
    }
}
