//! What a workload runs, read once: for what the index does not remember.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tokio::time::timeout;

use super::error::{ApiError, Class, Target};

/// How long the look may take.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// Images of a Deployment's containers by their names; none if there is no such Deployment.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn images(client: &Client, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let target = Target {
        verbs: "get",
        group: "apps".into(),
        resource: "deployments".into(),
        namespace: Some(namespace.into()),
        name: name.into(),
    };
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let found = timeout(DEADLINE, api.get(name)).await.map_err(|_| ApiError::timed_out(&target, DEADLINE))?;
    let found = match found.map_err(|err| ApiError::new(&target, &err)) {
        Err(err) if err.class() == Class::NotFound => return Ok(BTreeMap::new()),
        found => found?,
    };
    let pod = found.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
    Ok(pod.containers.into_iter().filter_map(|container| Some((container.name, container.image?))).collect())
}
