//! Previews: an environment for each pull request, and how many environments a project may have.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::environment::{EnvironmentTemplate, GitProvider};
use super::rules;

/// An environment for each pull request of a repository. Webhooks of the provider make it immediate, asking the provider at
/// intervals makes it certain.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.forks) || self.forks != 'Label' || has(self.forkLabel)")
        .message("forks: Label needs forkLabel, the label with which a maintainer lets the code of a fork run")
)]
pub struct Previews {
    /// Where the code is: `github`, `gitlab` or `gitea` (also Forgejo).
    pub provider: GitProvider,
    /// The repository, such as `acme/shop`; on GitLab the full path of the project.
    #[schemars(length(min = 3, max = 255))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+$')")
            .message("repository must be OWNER/NAME, such as acme/shop")
    )]
    pub repository: String,
    /// Address of the provider's API. Left out, that of github.com or gitlab.com; needed for Gitea and for providers of
    /// one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 255))]
    #[x_kube(
        validation = Rule::new("self.matches('^https?://[^/?#@]+(/[^?#@]*)?$')")
            .message("api must be an http or https URL without credentials and query, such as https://git.example.com/api/v1")
    )]
    pub api: Option<String>,
    /// Name of the project's credential of type `git` that the provider is asked with, and told. Left out, only its webhooks
    /// tell of pull requests, and it is told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::credential_name("credential"))]
    pub credential: Option<String>,
    /// Only pull requests with this label. Left out, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub label: Option<String>,
    /// Only pull requests that want to go into one of these branches; `*` stands for any characters. Left out, into any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub branches: Vec<String>,
    /// What becomes of pull requests from other repositories. With `Label` they get an environment without secrets once a
    /// maintainer has given them `forkLabel`.
    #[serde(default)]
    pub forks: Forks,
    /// The label with which a maintainer lets the code of a fork run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub fork_label: Option<String>,
    /// Tag of the images of a pull request, for each watched service: `{number}`, `{head_sha}`, `{short_sha}` (its first seven
    /// digits) and `{branch}` (with `-` for what no tag may hold) are filled in.
    #[serde(default = "default_tag")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9_.-]|[{](number|head_sha|short_sha|branch)[}])+$') && self.contains('{')")
            .message("tag must be a tag with at least one of {number}, {head_sha}, {short_sha} and {branch}, such as pr-{number}")
    )]
    pub tag: String,
    /// Services whose images are built for pull requests. Left out, all that have no fixed image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 40)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub services: Vec<String>,
    /// How often the provider is asked for its open pull requests.
    #[serde(default = "default_interval")]
    #[x_kube(validation = rules::duration("30s", "24h"))]
    pub interval: Duration,
    /// How the environments run, how long they live, and when they sleep.
    #[serde(default)]
    pub template: EnvironmentTemplate,
    /// What the provider is told.
    #[serde(default)]
    pub feedback: Feedback,
}

/// What becomes of pull requests from other repositories.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forks {
    /// They get no environment.
    #[default]
    Never,
    /// They get one, without secrets, once a maintainer has labelled them.
    Label,
}

/// What a git provider is told of an environment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Feedback {
    /// One comment in the pull request, with the URL and the state, which is edited.
    #[serde(default = "yes")]
    pub comment: bool,
    /// A status of the commit, with the URL.
    #[serde(default = "yes")]
    pub status: bool,
}

impl Default for Feedback {
    fn default() -> Self {
        Self { comment: true, status: true }
    }
}

/// How many environments a project may have, and what they are reckoned to cost.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Environments {
    /// The most that run at a time; those that sleep do not count. Left out, as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max: Option<u32>,
    /// What becomes of one more.
    #[serde(default)]
    pub when_full: WhenFull,
    /// What resources cost, for the estimate in `status.cost` of Environments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

/// What becomes of an environment that is one too many.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits until another one sleeps or ends, and its status says at which place.
    #[default]
    Queue,
    /// The one that nobody has looked at for longest, and that is not pinned, is put to sleep.
    SleepLeastRecentlyUsed,
}

/// What resources cost in an hour.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// The currency, such as `EUR`.
    #[schemars(length(min = 1, max = 8))]
    pub currency: String,
    /// One core for an hour, as a decimal number, such as `0.034`.
    #[x_kube(validation = rules::price("cpu"))]
    #[schemars(length(max = 16))]
    pub cpu: String,
    /// One GiB of memory for an hour, as a decimal number.
    #[x_kube(validation = rules::price("memory"))]
    #[schemars(length(max = 16))]
    pub memory: String,
}

fn default_tag() -> String {
    "pr-{number}".to_owned()
}

fn default_interval() -> Duration {
    Duration::from_mins(5)
}

fn yes() -> bool {
    true
}
