//! Everything that a deploy renders from, as it is stored for years.
//!
//! The types here are the stored format, apart from the custom resources on purpose: a field of those may be
//! renamed without making an old deploy unreadable. To change the format: add fields that are skipped while they
//! have their default, and nothing else; a hash that changes makes every stage deploy anew. A test holds the hash of
//! a stored document. What cannot be done that way takes a higher [`VERSION`].

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvVar, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::names;
use crate::{
    api::Duration,
    domain::{
        deploy::{Phase, Strategy},
        release::Release,
        secret::SecretId,
    },
};

/// Version of the format that is written.
pub const VERSION: u32 = 1;

/// Everything that a deploy renders from. Route, deadlines, queue and rollback are not in it: they belong to the
/// stage and change in place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Version of the format.
    pub version: u32,
    /// Where it runs.
    #[serde(flatten)]
    pub identity: Identity,
    /// How a release takes over from the one before.
    pub strategy: Strategy,
    /// The images, by service.
    pub release: Release,
    /// The services, in the order in which the project declares them. The order takes no part in the hash.
    pub services: Vec<ServiceSpec>,
    /// Jobs that run once per deploy.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

/// Where a snapshot runs: by name, so that a stage that is deleted and made again continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Namespace of everything that it makes.
    pub namespace: String,
    /// Namespace of the stage and its project, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Name of the project.
    pub project: String,
    /// Name of the stage.
    pub stage: String,
}

impl Identity {
    /// Namespace of the stage and its project.
    pub fn home(&self) -> &str {
        self.home.as_deref().unwrap_or(&self.namespace)
    }
}

/// A service with the stage's overrides merged in and every default resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Name, unique in the project.
    pub name: String,
    /// Once per instance or once per stage.
    pub scope: Scope,
    /// Entrypoint; empty for the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments; empty for the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// TCP ports; the first is the one that other services are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Environment variables; a later one may refer to an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// What is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Number of pods.
    pub replicas: i32,
    /// Resources of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Services that must be ready before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// How its health is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Pod templates to merge over the rendered one, in this order: the project's, then the stage's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_template: Vec<Map<String, Value>>,
    /// The secrets that it gets, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Name of the credential with which nodes pull its image. Never its version: another password is no other deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_credential: Option<String>,
}

/// A secret that a service gets: which one, at which version, and where. Never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Name, unique in the service.
    pub name: String,
    /// The service whose value it is; none for the one of all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Which of its values, as [`crate::domain::secret::stamp`] says.
    pub version: i64,
    /// Where the container finds it.
    pub place: SecretPlace,
}

/// Where a container finds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecretPlace {
    /// In the environment variable with its name.
    Env,
    /// In a file.
    File {
        /// Absolute path in the container.
        path: String,
        /// Permissions.
        mode: i32,
    },
}

impl Secret {
    /// Which secret of the project it is.
    pub fn id(&self) -> SecretId {
        SecretId { name: self.name.clone(), service: self.service.clone() }
    }

    /// The path of its file; none for a variable.
    pub fn path(&self) -> Option<&str> {
        match &self.place {
            SecretPlace::Env => None,
            SecretPlace::File { path, .. } => Some(path),
        }
    }
}

/// How many copies of a service a stage has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// One per instance.
    Instance,
    /// One that all instances share, updated in place.
    Stage,
}

/// A TCP port that a service listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name, unique in the service.
    pub name: String,
    /// Number.
    pub port: i32,
}

/// Something mounted into a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name, unique in the service.
    pub name: String,
    /// Absolute path in the container.
    pub mount_path: String,
    /// Whether it is mounted read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// A claim that outlives instances and goes with the stage.
    SharedClaim(Claim),
    /// A claim that comes and goes with its instance.
    PerInstanceClaim(Claim),
    /// Files by their path below the mount path.
    Files(BTreeMap<String, String>),
    /// Scratch space that lives as long as its pod.
    #[serde(rename_all = "camelCase")]
    EmptyDir {
        /// A pod that writes more is evicted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_limit: Option<Quantity>,
        /// Whether it is kept in memory.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        memory: bool,
    },
}

/// A claim for persistent storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// How much.
    pub size: Quantity,
    /// Storage class; none for the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// How nodes may mount it, in Kubernetes' words.
    pub access_modes: Vec<String>,
}

impl Claim {
    /// Whether pods on several nodes may mount it at the same time, for writing unless `read_only`.
    pub fn takes_many(&self, read_only: bool) -> bool {
        let any = |wanted: &str| self.access_modes.iter().any(|mode| mode == wanted);
        any("ReadWriteMany") || read_only && any("ReadOnlyMany")
    }
}

/// How the operator finds out whether a service is healthy, and the kubelet whether a pod is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// Name of the port that is asked.
    pub port: String,
    /// Time between two probes.
    pub interval: Duration,
    /// A probe without an answer for this long has failed.
    pub timeout: Duration,
    /// Successes in a row that make it healthy.
    pub success_threshold: i32,
    /// Failures in a row that fail the deploy.
    pub failure_threshold: i32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A GET request whose answer has an expected status code.
    Http {
        /// Path and query.
        path: String,
        /// Codes and ranges separated by commas: `200-399`.
        expect: String,
    },
    /// A connection that is accepted.
    Tcp {},
}

/// Jobs by the phase that they run in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Before any pod of the new instance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before_start: Vec<Hook>,
    /// After readiness.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before_traffic: Vec<Hook>,
    /// While health is checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<Hook>,
    /// After success.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after_success: Vec<Hook>,
}

impl Hooks {
    /// The jobs of one phase, in the order in which they run.
    pub fn of(&self, phase: Phase) -> &[Hook] {
        match phase {
            Phase::BeforeStart => &self.before_start,
            Phase::BeforeTraffic => &self.before_traffic,
            Phase::Verify => &self.verify,
            Phase::AfterSuccess => &self.after_success,
        }
    }

    /// Whether no phase has a job.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name, unique in its phase.
    pub name: String,
    /// The service whose image, environment and files it has.
    pub service: String,
    /// Another image than the service's, as a full reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Entrypoint; empty for the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments; empty for the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables, added to the service's or replacing them by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// A job that takes longer has failed.
    pub timeout: Duration,
}

/// Why a stored document is not a snapshot that can be rendered.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a newer program.
    #[error("snapshot has format version {0}, and this program reads up to {VERSION}: upgrade Stagekeeper")]
    Newer(u64),
    /// Not a snapshot at all, or a damaged one.
    #[error("stored snapshot cannot be read: {0}; deploy the release again to make a new one")]
    Damaged(#[from] serde_json::Error),
}

impl Snapshot {
    /// Reads what [`Snapshot::to_json`] wrote, by this or an earlier program. Unknown fields are passed over.
    pub fn from_json(document: &Value) -> Result<Self, SnapshotError> {
        match document.get("version").and_then(Value::as_u64) {
            Some(version) if version > u64::from(VERSION) => Err(SnapshotError::Newer(version)),
            _ => Ok(Self::deserialize(document)?),
        }
    }

    /// The document to store.
    pub fn to_json(&self) -> Result<Value, SnapshotError> {
        Ok(serde_json::to_value(self)?)
    }

    /// The content hash: 64 lower-case hexadecimal digits over the canonical JSON, in which keys are sorted and
    /// services stand by name. Tags of images take no part: a tag that moved to the same digest changes nothing.
    pub fn hash(&self) -> String {
        let mut document = serde_json::to_value(self).unwrap_or_default();
        let services: Map<String, Value> = self
            .services
            .iter()
            .map(|service| {
                let value = serde_json::to_value(service).unwrap_or_default();
                (service.name.clone(), value)
            })
            .collect();
        document["services"] = Value::Object(services);
        document["release"] = Value::String(self.release.id().0);
        let mut text = String::new();
        canonical(&document, &mut text);
        hex::encode(Sha256::digest(text.as_bytes()))
    }

    /// Name of the instance that runs it: its own for each snapshot where instances stand side by side, one for
    /// ever where the strategy changes it in place.
    pub fn instance(&self) -> String {
        if self.strategy.is_in_place() { names::IN_PLACE.to_owned() } else { names::tag8(&self.hash()) }
    }

    /// The service with this name.
    pub fn service(&self, name: &str) -> Option<&ServiceSpec> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The jobs of one phase, in the order in which they run.
    pub fn hooks(&self, phase: Phase) -> &[Hook] {
        self.hooks.of(phase)
    }
}

/// Writes JSON with sorted keys and no spaces. Written here because the order of keys in `Value` depends on a feature
/// that any other crate may turn on.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests;
