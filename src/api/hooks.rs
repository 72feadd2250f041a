//! Jobs that run once per deploy.

use k8s_openapi::api::core::v1::EnvVar;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::rules;

/// Jobs by the moment of a deploy that they run at, one after the other in the order given. A Job that fails fails
/// the deploy. Each runs once per deploy, and its output is kept in the deploy's log.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Before any pod of the new release starts, such as a migration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub before_start: Vec<Hook>,
    /// When all new pods are ready, before the route is made, such as seeding or a smoke test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub before_traffic: Vec<Hook>,
    /// When the health checks have succeeded, before the stage's traffic is switched, such as an acceptance test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub verify: Vec<Hook>,
    /// When the deploy has succeeded. A failure is recorded and changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub after_success: Vec<Hook>,
}

/// One Job.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name of the hook, unique at its moment.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::name("name"))]
    pub name: String,
    /// The service whose image, environment and volumes the Job has. Left out, the project's first service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub service: Option<String>,
    /// Another image, as a full reference with tag or digest, such as `ghcr.io/acme/smoke:3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.matches('^[^ ]+(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[a-f0-9]{64})$')")
            .message("image must be a full reference with tag or digest, such as ghcr.io/acme/smoke:3")
    )]
    pub image: Option<String>,
    /// Entrypoint; replaces the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub command: Vec<String>,
    /// Arguments; replace the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub args: Vec<String>,
    /// Environment variables to add to the service's, or to replace by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// A Job whose pod takes longer, from when a node took it, has failed.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = rules::duration("1s", "24h"))]
    pub timeout: Duration,
}

fn default_timeout() -> Duration {
    Duration::from_mins(5)
}
