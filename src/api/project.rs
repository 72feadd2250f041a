//! `Project`: an application, its services and where their images come from.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::credential::CredentialDeclaration;
use super::preview::{Environments, Previews};
use super::rules;
use super::secret::SecretDeclaration;
use super::service::Service;
use super::status::ProjectStatus;
use super::webhook::Webhook;

/// What an application is made of. Stages of the same namespace say where and how it runs.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "stagekeeper.dev",
    version = "v1alpha1",
    kind = "Project",
    plural = "projects",
    shortname = "skproj",
    category = "stagekeeper",
    namespaced,
    status = "ProjectStatus",
    derive = "PartialEq",
    doc = "An application: its services and where their images come from. Stages of the same namespace run it.",
    validation = rules::object_name("Project"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the images of every service are known"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why it is ready or not, in one word"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", description = "Whether all its stages are stopped from deploying"),
    printcolumn(name = "Services", type_ = "string", json_path = ".spec.services[*].name", description = "The services", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why it is ready or not, in a sentence", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created")
)]
#[x_kube(
    validation = Rule::new("self.services.all(s, !has(s.dependsOn) || s.dependsOn.all(d, self.services.exists(o, o.name == d)))")
        .message("services[].dependsOn must name services of this project: correct the name or add the service"),
    validation = Rule::new("self.services.all(s, !has(s.dependsOn) || !(s.name in s.dependsOn))")
        .message("services[].dependsOn must not name the service itself: remove it"),
    validation = Rule::new("!has(self.secrets) || self.secrets.all(s, !has(s.service) || self.services.exists(o, o.name == s.service))")
        .message("secrets[].service must name a service of this project: correct the name, or leave it out for all services")
)]
pub struct ProjectSpec {
    /// Emergency stop: no stage of the project starts a new deploy. What runs keeps running.
    #[serde(default)]
    pub suspend: bool,
    /// The services, each one workload with one image.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub services: Vec<Service>,
    /// Values that services get as variables or files, and that stand nowhere in the cluster's declarations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(s, self.exists_one(o, o.name == s.name && (has(o.service) ? o.service : '') == (has(s.service) ? s.service : '')))")
            .message("secrets must differ in name or service: remove the one that is there twice")
    )]
    pub secrets: Vec<SecretDeclaration>,
    /// Credentials that are copied from Kubernetes Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub credentials: Vec<CredentialDeclaration>,
    /// Webhooks that say when an image was pushed, and how pull requests stand. Without any, registries and git providers
    /// are asked at intervals alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub webhooks: Vec<Webhook>,
    /// Who may do what: roles for users, groups and service accounts, in the whole namespace. What was given here is taken
    /// away again when it is removed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub access: Vec<Access>,
    /// An environment for each pull request of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews: Option<Previews>,
    /// How many environments the project may have, and what they are reckoned to cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<Environments>,
}

impl ProjectSpec {
    /// Whether it has to do with credentials or secrets at all.
    pub fn needs_safe(&self) -> bool {
        let private = self.services.iter().any(|service| service.image.credential.is_some());
        let signed = self.webhooks.iter().any(|webhook| !webhook.credentials.is_empty());
        let asks = self.previews.as_ref().is_some_and(|previews| previews.credential.is_some());
        private || signed || asks || !self.credentials.is_empty() || !self.secrets.is_empty()
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}
