//! The credentials of a project: what Stagekeeper, and the nodes for it, log in with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rules, secret::SecretRef};

/// A credential that is copied from a Kubernetes Secret into the database, where it is kept sealed. Others are stored
/// with `stagekeeper credential set` and need no declaration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'registry' || !has(self.hosts)")
        .message("hosts are those of registries: set type to registry, or remove hosts")
)]
pub struct CredentialDeclaration {
    /// Name of the credential, as `image.credential` names it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::credential_name("name"))]
    pub name: String,
    /// What it is for: `registry` to log in to image registries, `webhook` to check who sent one, `git` to ask a git
    /// provider, `cluster` to reach another cluster, `generic` for anything else.
    #[serde(rename = "type")]
    pub type_: CredentialType,
    /// The registries that the login is for, each a host with a port if it has one, such as `ghcr.io`. A Secret of type
    /// `kubernetes.io/dockerconfigjson` names them itself; any other needs them here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(r"self.all(host, host.matches('^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\\[[0-9a-fA-F:]+\\])(:[0-9]{1,5})?$'))")
            .message("hosts must be hosts of registries without scheme and path, such as ghcr.io or registry.example.com:5000")
    )]
    pub hosts: Vec<String>,
    /// The user, for a Secret that holds only a password or token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub user: Option<String>,
    /// When it stops working, for warnings before that: nothing is done by itself. Such as `2027-01-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// The Kubernetes Secret that it is copied from, whenever it changes there. Without `key`, a Secret of type
    /// `kubernetes.io/dockerconfigjson` or `kubernetes.io/basic-auth` is read as its type says, and of any other its only
    /// key is taken.
    pub secret_ref: SecretRef,
}

/// What a credential is for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CredentialType {
    /// Logging in to image registries.
    Registry,
    /// Checking who sent a webhook.
    Webhook,
    /// Asking a git provider.
    Git,
    /// Reaching another cluster.
    Cluster,
    /// Anything else.
    Generic,
}

impl CredentialType {
    /// The word for it, which is also that of SQL and of the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Webhook => "webhook",
            Self::Git => "git",
            Self::Cluster => "cluster",
            Self::Generic => "generic",
        }
    }
}
