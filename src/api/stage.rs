//! `Stage`: a long-lived place where a project runs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::hooks::Hooks;
use super::image::Policy;
use super::promotion::Promotion;
use super::route::Route;
use super::rules;
use super::service::FreeObject;
use super::status::StageStatus;

/// Where and how a project runs.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "stagekeeper.dev",
    version = "v1alpha1",
    kind = "Stage",
    plural = "stages",
    shortname = "stg",
    category = "stagekeeper",
    namespaced,
    status = "StageStatus",
    derive = "PartialEq",
    selectable = ".spec.project",
    doc = "A long-lived place where a project runs, such as staging or production.",
    validation = rules::object_name("Stage"),
    validation = Rule::new("!has(self.spec.promotion) || !(self.metadata.name in self.spec.promotion.from)")
        .message("promotion.from names this Stage itself: name the stages that it takes its releases from"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.project", description = "The project that runs here"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether what is wanted is what runs"),
    printcolumn(name = "Images", type_ = "string", json_path = ".status.images", description = "The images that have the traffic"),
    printcolumn(name = "Deploy", type_ = "string", json_path = ".status.deploy.state", description = "State of the latest deploy"),
    printcolumn(name = "Waiting", type_ = "string", json_path = ".status.deploy.waitingReason", description = "What the latest deploy waits for"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where it is served"),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release", description = "Content hash of the release that has the traffic", priority = 1),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active", description = "The instance that has the traffic", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "Why it is ready or not", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since it was created")
)]
#[x_kube(
    validation = Rule::new("self.maxInstances == 1 || self.strategy.type == 'BlueGreen'")
        .message("maxInstances above 1 needs strategy.type BlueGreen: Rolling and Recreate have one instance"),
    validation = Rule::new("!has(self.pin) || !has(self.services) || self.pin.all(name, !(name in self.services) || !has(self.services[name].tag) && !has(self.services[name].digest))")
        .message("pin and services both fix the image of a service: remove its pin, or tag and digest from services"),
    validation = Rule::new("self.maxInstances == 1 || !has(self.route) || self.route.type == 'None' || has(self.route.instanceHost)")
        .message("maxInstances above 1 with a route needs route.instanceHost, such as {instance}.shop.example.com, so that each instance has its own URL"),
    validation = Rule::new("!has(self.promotion) || !has(self.services) || self.services.all(name, !has(self.services[name].policy) && !has(self.services[name].tag) && !has(self.services[name].digest))")
        .message("promotion and services both say which images run: remove policy, tag and digest from services, or promotion; to fix an image here, use pin")
)]
pub struct StageSpec {
    /// Name of the Project, in the same namespace. It cannot be changed.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(
        validation = rules::name("project"),
        validation = Rule::new("self == oldSelf")
            .message("project cannot be changed: create another Stage for the other project")
    )]
    pub project: String,
    /// What is different here, by name of the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub services: BTreeMap<String, Box<ServiceOverride>>,
    /// Fixed images by name of the service, each a tag or a digest: the declarative way to deploy, roll back and
    /// hold. A pinned service does not follow its policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 128}))]
    #[x_kube(
        validation = Rule::new("self.all(name, self[name].matches('^([A-Za-z0-9_][A-Za-z0-9._-]*|sha256:[a-f0-9]{64})$'))")
            .message("pin must give each service a tag, such as 1.4.2, or a digest, such as sha256:… with 64 hexadecimal digits")
    )]
    pub pin: BTreeMap<String, String>,
    /// Where releases come from, and what lets them in. Left out, images come from the project's policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// What a newer deploy does to one that still waits: `latest` supersedes it, with `fifo` one comes after the
    /// other.
    #[serde(default)]
    pub queue: Queue,
    /// How a release replaces the one before.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many instances may run side by side, each with its own URL. The oldest is evicted to make room.
    #[serde(default = "default_max_instances")]
    #[schemars(range(min = 1, max = 20))]
    pub max_instances: i32,
    /// How traffic from outside the cluster reaches the stage. Left out, only its Services are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// How long each step of a deploy may take before it has failed.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What happens after a failure, and how long the way back stays open.
    #[serde(default)]
    pub rollback: Rollback,
    /// Jobs that run once per deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Start no new deploy. What runs keeps running.
    #[serde(default)]
    pub suspend: bool,
}

impl StageSpec {
    /// A stage that changes nothing of its project.
    pub fn unchanged(project: &str) -> Self {
        Self {
            project: project.to_owned(),
            services: BTreeMap::new(),
            pin: BTreeMap::new(),
            promotion: None,
            queue: Queue::default(),
            strategy: Strategy::default(),
            max_instances: 1,
            route: None,
            timeouts: Timeouts::default(),
            rollback: Rollback::default(),
            hooks: None,
            suspend: false,
        }
    }
}

/// What a stage changes of one of its project's services. What is left out stays as the project says.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.policy) ? 1 : 0) + (has(self.tag) ? 1 : 0) + (has(self.digest) ? 1 : 0) <= 1")
        .message("policy, tag and digest exclude each other: keep one of them")
)]
pub struct ServiceOverride {
    /// Another policy for the same repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// A fixed tag instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::tag())]
    pub tag: Option<String>,
    /// A fixed digest instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::digest())]
    pub digest: Option<String>,
    /// Another number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// Another entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub command: Option<Vec<String>>,
    /// Other arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 8192)))]
    pub args: Option<Vec<String>>,
    /// Environment variables to add, or to replace by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Other resources of the container, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// A pod template that is merged over the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::free_object")]
    pub pod_template: Option<FreeObject>,
}

/// What a newer deploy does to one that still waits.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Queue {
    /// The newer deploy supersedes the one that waits.
    #[default]
    Latest,
    /// One after the other, in the order in which they were made.
    Fifo,
}

/// How a release replaces the one before.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// `BlueGreen`: a new instance beside the old one gets the traffic when it is healthy. `Rolling`: pod by pod in
    /// one instance. `Recreate`: the old pods go before the new ones come.
    #[serde(default, rename = "type")]
    pub type_: StrategyType,
}

/// The way in which a release replaces the one before.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrategyType {
    /// A new instance beside the old one; the traffic is switched when the new one is healthy.
    #[default]
    BlueGreen,
    /// Pod by pod, in one instance.
    Rolling,
    /// The old pods go before the new ones come.
    Recreate,
}

/// Deadlines of the steps of a deploy. A step that takes longer fails the deploy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Until every pod has its images, not counting the `beforeStart` hooks.
    #[serde(default = "default_pull")]
    #[x_kube(validation = rules::duration("1s", "24h"))]
    pub pull: Duration,
    /// Until every pod is ready, not counting the `beforeTraffic` hooks.
    #[serde(default = "default_start")]
    #[x_kube(validation = rules::duration("1s", "24h"))]
    pub start: Duration,
    /// Until the route is accepted by whatever serves it.
    #[serde(default = "default_proxy")]
    #[x_kube(validation = rules::duration("1s", "24h"))]
    pub proxy: Duration,
    /// Until the health checks have succeeded, not counting the `verify` hooks.
    #[serde(default = "default_health")]
    #[x_kube(validation = rules::duration("1s", "24h"))]
    pub health: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { pull: default_pull(), start: default_start(), proxy: default_proxy(), health: default_health() }
    }
}

/// What happens after a failure, and how long the way back stays open.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// Go back to the last good release when a deploy fails.
    #[serde(default = "default_on_failure")]
    pub on_failure: bool,
    /// How long the instance before stays up after a success, ready to take the traffic back at once.
    #[serde(default = "default_keep_previous")]
    #[x_kube(validation = rules::duration("0s", "168h"))]
    pub keep_previous: Duration,
    /// A crash loop or lost readiness this long after a success still rolls back. `0s` turns it off.
    #[serde(default = "default_watch")]
    #[x_kube(validation = rules::duration("0s", "168h"))]
    pub watch: Duration,
}

impl Default for Rollback {
    fn default() -> Self {
        Self { on_failure: default_on_failure(), keep_previous: default_keep_previous(), watch: default_watch() }
    }
}

fn default_max_instances() -> i32 {
    1
}

fn default_pull() -> Duration {
    Duration::from_mins(5)
}

fn default_start() -> Duration {
    Duration::from_mins(5)
}

fn default_proxy() -> Duration {
    Duration::from_mins(1)
}

fn default_health() -> Duration {
    Duration::from_mins(2)
}

fn default_on_failure() -> bool {
    true
}

fn default_keep_previous() -> Duration {
    Duration::from_mins(10)
}

fn default_watch() -> Duration {
    Duration::from_mins(5)
}
