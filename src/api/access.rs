//! Who may do what with a project: roles for users, groups and service accounts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A role for one user, group or service account. It holds in the whole namespace of the project: a namespace is what
/// Kubernetes gives rights in, and projects that do not trust each other belong in different ones.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.user), has(self.group), has(self.serviceAccount)].filter(given, given).size() == 1")
        .message("exactly one of user, group and serviceAccount must be given: use an entry for each"),
    validation = Rule::new("!(has(self.user) && self.user == 'system:anonymous') && !(has(self.group) && self.group == 'system:unauthenticated')")
        .message("nobody may do anything without saying who they are: name a user or group that logs in")
)]
pub struct Access {
    /// What they may do: `viewer` reads; `member` also reads logs, promotes and aborts; `admin` also rolls back, approves,
    /// retries, holds and rotates credentials; `owner` may do everything with projects and stages, and say who else may.
    pub role: Role,
    /// Name of a user, as the cluster's authentication says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub user: Option<String>,
    /// Name of a group, as the cluster's authentication says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub group: Option<String>,
    /// A service account, such as that of a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountRef>,
}

/// A service account.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::kubernetes_name("name"))]
    pub name: String,
    /// Its namespace; that of the project when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::kubernetes_name("namespace"))]
    pub namespace: Option<String>,
}

/// What somebody may do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, and say who may do what.
    Owner,
    /// Promote, roll back, approve, credentials.
    Admin,
    /// Promote, abort, logs.
    Member,
    /// Read.
    Viewer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Member, Self::Viewer];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Viewer => "viewer",
        }
    }

    /// The `ClusterRole` that holds its rights: the only ones that the operator may give away.
    pub const fn cluster_role(self) -> &'static str {
        match self {
            Self::Owner => "stagekeeper-owner",
            Self::Admin => "stagekeeper-admin",
            Self::Member => "stagekeeper-member",
            Self::Viewer => "stagekeeper-viewer",
        }
    }
}
