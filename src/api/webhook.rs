//! The webhooks of a project: who may say that an image was pushed or a pull request opened, and how that is checked.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A webhook that the project receives. Where it is sent to stands in `status.webhooks`. What it says of
/// images is a hint: the registry is asked at once, and nothing runs because of the webhook alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.source in ['diun', 'dockerhub', 'quay', 'generic'] || (has(self.credentials) && self.credentials.size() > 0)")
        .message("this source proves who it is: name in credentials what it signs with, stored with stagekeeper credential set PROJECT NAME --kind webhook"),
    validation = Rule::new("!has(self.registry) || self.source in ['harbor', 'quay', 'distribution', 'acr', 'jfrog', 'cloudevents', 'gitlab']")
        .message("registry is for sources that are one registry: harbor, quay, distribution, acr, jfrog, cloudevents and gitlab; remove it")
)]
pub struct Webhook {
    /// Name of the webhook, as `status.webhooks` and `stagekeeper webhook rotate` name it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::name("name"))]
    pub name: String,
    /// Who sends: `diun`, `dockerhub`, `github` (its container registry and its pull requests), `harbor`, `quay`, `distribution` (the
    /// distribution registry and what sends its notifications), `acr` (Azure), `jfrog` (Artifactory), `cloudevents` (such as
    /// those of Amazon's registry), `gitlab` (its registry and its merge requests), `gitea` (also
    /// Forgejo: its pull requests), or `generic` for a script of one's own.
    pub source: WebhookSource,
    /// Names of the project's credentials of type `webhook`. A delivery has to prove that it has one of them; two are for the
    /// time in which one takes the place of the other. Needed but for `diun`, `dockerhub`, `quay` and `generic`, which may
    /// rely on the path alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(min = 1, max = 63)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'))")
            .message("credentials must be names of credentials: lower-case letters, digits and -, such as github")
    )]
    pub credentials: Vec<String>,
    /// What images call the registry that sends, as `HOST[:PORT]`, where it calls itself otherwise or does not say: behind a
    /// proxy, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\\[[0-9a-fA-F:]+\\])(:[0-9]{1,5})?$')")
            .message("registry must be the host of a registry without scheme and path, such as registry.example.com:5000")
    )]
    pub registry: Option<String>,
}

/// Who sends a webhook.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum WebhookSource {
    /// Diun.
    Diun,
    /// Docker Hub.
    DockerHub,
    /// GitHub.
    GitHub,
    /// Harbor.
    Harbor,
    /// Quay.
    Quay,
    /// The distribution registry.
    Distribution,
    /// Azure's container registry.
    Acr,
    /// Artifactory.
    JFrog,
    /// Events in the common format.
    CloudEvents,
    /// GitLab.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
    /// Anybody else.
    Generic,
}

impl WebhookSource {
    /// The word for it, which is also that of SQL and of metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Diun => "diun",
            Self::DockerHub => "dockerhub",
            Self::GitHub => "github",
            Self::Harbor => "harbor",
            Self::Quay => "quay",
            Self::Distribution => "distribution",
            Self::Acr => "acr",
            Self::JFrog => "jfrog",
            Self::CloudEvents => "cloudevents",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Generic => "generic",
        }
    }
}
