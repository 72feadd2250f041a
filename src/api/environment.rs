//! `Environment`: a short-lived copy of a project, usually for a pull request.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::hooks::Hook;
use super::route::ParentRef;
use super::rules;
use super::stage::{ServiceOverride, Strategy, Timeouts};
use super::status::EnvironmentStatus;

/// A short-lived copy of a project.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "stagekeeper.dev",
    version = "v1alpha1",
    kind = "Environment",
    plural = "environments",
    shortname = "env",
    shortname = "envs",
    category = "stagekeeper",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    selectable = ".spec.project",
    doc = "A short-lived copy of a project, usually for a pull request: at a URL of its own, asleep when nobody looks, gone when it should be.",
    validation = rules::object_name("Environment"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.project", description = "The project that runs here"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether what is wanted is what runs, or sleeps"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where it is in its life"),
    printcolumn(name = "Images", type_ = "string", json_path = ".status.images", description = "The images that have the traffic"),
    printcolumn(name = "Waiting", type_ = "string", json_path = ".status.deploy.waitingReason", description = "What the latest deploy waits for"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where it is served"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".status.expiresAt", description = "When it ends by itself"),
    printcolumn(name = "PR", type_ = "integer", json_path = ".spec.source.pullRequest", description = "The pull request that it is for", priority = 1),
    printcolumn(name = "Deploy", type_ = "string", json_path = ".status.deploy.state", description = "State of the latest deploy", priority = 1),
    printcolumn(name = "Active", type_ = "date", json_path = ".status.lastActivity", description = "When somebody last looked at it", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why it is ready or not", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created")
)]
#[x_kube(
    validation = Rule::new("(has(self.isolation) ? self.isolation : 'Automatic') == (has(oldSelf.isolation) ? oldSelf.isolation : 'Automatic')")
        .message("isolation cannot be changed: create another Environment")
)]
pub struct EnvironmentSpec {
    /// Name of the Project, in the same namespace. It cannot be changed.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(
        validation = rules::name("project"),
        validation = Rule::new("self == oldSelf")
            .message("project cannot be changed: create another Environment for the other project")
    )]
    pub project: String,
    /// What it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<EnvironmentSource>,
    /// How it runs, how long it lives, and when it sleeps.
    #[serde(flatten)]
    pub template: EnvironmentTemplate,
    /// It does not end by itself: neither its ttl nor want of visitors ends it.
    #[serde(default)]
    pub pinned: bool,
    /// Whether its services get the project's secrets. `None` for what strangers have written.
    #[serde(default)]
    pub secrets: SecretAccess,
    /// Start no new deploy. What runs keeps running.
    #[serde(default)]
    pub suspend: bool,
}

/// How an environment runs, how long it lives, and when it sleeps: also the pattern of a project's previews.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.strategy) || self.strategy.type != 'Recreate'")
        .message("strategy.type of an Environment must be Rolling or BlueGreen: a preview stays at its URL while a new commit comes"),
    validation = Rule::new("!has(self.deleteAfterIdle) || !has(self.idleAfter) || duration(self.deleteAfterIdle) >= duration(self.idleAfter)")
        .message("deleteAfterIdle must not be shorter than idleAfter: it would be deleted before it sleeps")
)]
pub struct EnvironmentTemplate {
    /// Name of a Stage of the project whose configuration it copies: what that one changes of its services, its timeouts and
    /// hooks. Its images, promotion, holds and route are not copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::name("base"))]
    pub base: Option<String>,
    /// What is different here, by name of the service; a tag, digest or policy says which image runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub services: BTreeMap<String, Box<ServiceOverride>>,
    /// How a new commit's images replace those before. `Rolling` is the default: a preview has no need of two copies.
    #[serde(default = "default_strategy")]
    pub strategy: Strategy,
    /// How long each step of a deploy may take. Left out, as the base stage says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// How long it lives after it was made, whatever happens in it. `stagekeeper env extend` moves the end.
    #[serde(default = "default_ttl")]
    #[x_kube(validation = rules::duration("1m", "8760h"))]
    pub ttl: Duration,
    /// It sleeps, with no pod, when nobody has looked at it for this long, and wakes with the first request. Left out, it
    /// never sleeps for want of visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::duration("1s", "8760h"))]
    pub idle_after: Option<Duration>,
    /// It ends when nobody has looked at it for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::duration("1m", "8760h"))]
    pub delete_after_idle: Option<Duration>,
    /// When it sleeps whoever looks, such as at night. A request wakes it until it is idle again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub sleep: Vec<SleepWindow>,
    /// Jobs at its beginning and end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<EnvironmentHooks>,
    /// Where its objects are: in a namespace of its own, or in that of the project.
    #[serde(default)]
    pub isolation: Isolation,
    /// The most that it may ask for in its own namespace, by name of the resource as in a `ResourceQuota`, such as
    /// `requests.memory: 2Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 32}))]
    pub quota: BTreeMap<String, String>,
    /// Services that have a URL. Left out, the first service that has a port. The first one has the plain URL, the others
    /// have their name before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 40)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub public: Vec<String>,
    /// How requests reach it. Left out, through the built-in proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<EnvironmentRoute>,
}

/// How requests reach an environment. By an Ingress or an `HTTPRoute` they go straight to its pods, and to the built-in proxy
/// only while it sleeps, or nothing of it is ready: that wakes it, and says what is the case.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::route_gateway(),
    validation = rules::route_no_gateway(),
    validation = rules::route_ingress(),
    validation = Rule::new("self.type != 'Edge' || !has(self.annotations) && !has(self.from)")
        .message("route.annotations and route.from are only for route.type Ingress and HTTPRoute: set one of them, or remove them")
)]
pub struct EnvironmentRoute {
    /// The kind of object that makes the route: a Kubernetes Ingress, a Gateway API `HTTPRoute`, or `Edge` for the built-in
    /// proxy alone.
    #[serde(default, rename = "type")]
    pub type_: EnvironmentRouteType,
    /// Class of the Ingress. Left out, the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Name of a Secret of type `kubernetes.io/tls` where the environment's objects are. Left out, what the class has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret: Option<String>,
    /// Annotations of the Ingress or `HTTPRoute`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// The Gateways (or their listeners) that an `HTTPRoute` attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub parent_refs: Vec<ParentRef>,
    /// Namespaces of the pods that bring the requests: an environment's own namespace lets them in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub from: Vec<String>,
}

/// The kind of object that makes an environment's route.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvironmentRouteType {
    /// The built-in proxy, `stagekeeper edge`.
    #[default]
    Edge,
    /// A Kubernetes Ingress.
    Ingress,
    /// A Gateway API `HTTPRoute`.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
}

/// What an environment was made for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSource {
    /// Where the code is: `github`, `gitlab` or `gitea`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<GitProvider>,
    /// The repository, such as `acme/shop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: Option<String>,
    /// Number of the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pull_request: Option<i64>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: Option<String>,
    /// The commit that it runs, or waits for the image of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub commit: Option<String>,
    /// Who opened the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub author: Option<String>,
    /// Whether the code comes from another repository than the project's.
    #[serde(default)]
    pub fork: bool,
}

/// A git provider.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum GitProvider {
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
}

impl GitProvider {
    /// The word for it, which is also that of SQL and of metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
        }
    }
}

/// A span of time that comes again and again, in which an environment sleeps.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.schedule) != has(self.recurrence)")
        .message("a span of sleep needs exactly one of schedule (cron) and recurrence (RFC 5545)")
)]
pub struct SleepWindow {
    /// When it begins, as five fields of cron, such as `0 20 * * MON-FRI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 256))]
    pub schedule: Option<String>,
    /// When it begins, as a recurrence rule of RFC 5545, such as `FREQ=DAILY;BYHOUR=20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub recurrence: Option<String>,
    /// The time zone that it begins by: a name of the IANA database, such as `Europe/Berlin`.
    #[serde(default = "super::promotion::default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// How long it lasts.
    #[x_kube(validation = rules::duration("1m", "744h"))]
    pub duration: Duration,
}

/// Jobs at the beginning and the end of an environment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentHooks {
    /// When its pods are ready and before its URL leads to them: seeding, migrations. Runs for each commit; a Job that fails
    /// fails the deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub on_start: Vec<Hook>,
    /// Before it is removed, such as giving back what was taken elsewhere. Its timeout is a deadline: what has not ended by
    /// then holds up nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub before_delete: Vec<Hook>,
}

/// Where an environment's objects are.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A namespace of its own where the operator may make namespaces, that of the project otherwise.
    #[default]
    Automatic,
    /// A namespace of its own.
    Namespace,
    /// The project's namespace.
    Project,
}

/// Whether an environment gets the project's secrets.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretAccess {
    /// All that the project declares, unless the code comes from a fork.
    #[default]
    Project,
    /// None.
    None,
}

impl Default for EnvironmentTemplate {
    fn default() -> Self {
        Self {
            base: None,
            services: BTreeMap::new(),
            strategy: default_strategy(),
            timeouts: None,
            ttl: default_ttl(),
            idle_after: None,
            delete_after_idle: None,
            sleep: Vec::new(),
            hooks: None,
            isolation: Isolation::default(),
            quota: BTreeMap::new(),
            public: Vec::new(),
            route: None,
        }
    }
}

fn default_strategy() -> Strategy {
    Strategy { type_: super::stage::StrategyType::Rolling }
}

fn default_ttl() -> Duration {
    Duration::from_mins(72 * 60)
}
