//! What a service mounts: claims, files from the spec, and scratch space.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Something mounted into a service. Exactly one of `sharedClaim`, `perInstanceClaim`, `files` and `emptyDir`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.sharedClaim), has(self.perInstanceClaim), has(self.files), has(self.emptyDir)].exists_one(given, given)")
        .message("volume needs exactly one of sharedClaim, perInstanceClaim, files and emptyDir")
)]
pub struct Volume {
    /// Name of the volume, unique in its service.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::name("name"))]
    pub name: String,
    /// Absolute path in the container.
    #[schemars(length(min = 2, max = 255))]
    #[x_kube(
        validation = Rule::new("self.startsWith('/') && !self.contains(':') && !('..' in self.split('/'))")
            .message("mountPath must be an absolute path without '..' and ':', such as /var/lib/data")
    )]
    pub mount_path: String,
    /// Mount it read-only. Files always are.
    #[serde(default)]
    pub read_only: bool,
    /// A claim that outlives instances: one per stage, kept from deploy to deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_claim: Option<Claim>,
    /// A claim that comes and goes with each instance, and starts empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_instance_claim: Option<Claim>,
    /// Configuration files by path below `mountPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 262_144}))]
    #[x_kube(
        validation = Rule::new("self.all(path, path.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !('..' in path.split('/')))")
            .message("files must be named by paths below mountPath without '..', such as conf.d/site.conf")
    )]
    pub files: Option<BTreeMap<String, String>>,
    /// Scratch space that lives as long as its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// A claim for persistent storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// How much storage, such as `10Gi`. It may grow where the storage class allows, and never shrinks.
    #[schemars(schema_with = "rules::quantity_schema")]
    #[x_kube(validation = rules::quantity())]
    pub size: Quantity,
    /// Storage class. Left out, the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How nodes may mount it.
    #[serde(default = "default_access_modes")]
    #[schemars(length(min = 1, max = 4), inner(length(max = 32)))]
    #[x_kube(
        validation = Rule::new("self.all(mode, mode in ['ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOncePod'])")
            .message("accessModes are ReadWriteOnce, ReadOnlyMany, ReadWriteMany and ReadWriteOncePod")
    )]
    pub access_modes: Vec<String>,
}

/// Scratch space.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// A pod that writes more than this is evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::quantity_schema")]
    #[x_kube(validation = rules::quantity())]
    pub size_limit: Option<Quantity>,
    /// Keep it in memory; it then counts against the memory limit.
    #[serde(default)]
    pub memory: bool,
}

/// What a volume is, as one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VolumeSource<'a> {
    /// A claim that outlives instances.
    SharedClaim(&'a Claim),
    /// A claim that goes with its instance.
    PerInstanceClaim(&'a Claim),
    /// Configuration files by path.
    Files(&'a BTreeMap<String, String>),
    /// Scratch space.
    EmptyDir(&'a EmptyDir),
}

impl Volume {
    /// What this volume is; `None` if the object did not pass the schema's rules (none given, or several).
    pub fn source(&self) -> Option<VolumeSource<'_>> {
        match (&self.shared_claim, &self.per_instance_claim, &self.files, &self.empty_dir) {
            (Some(claim), None, None, None) => Some(VolumeSource::SharedClaim(claim)),
            (None, Some(claim), None, None) => Some(VolumeSource::PerInstanceClaim(claim)),
            (None, None, Some(files), None) => Some(VolumeSource::Files(files)),
            (None, None, None, Some(dir)) => Some(VolumeSource::EmptyDir(dir)),
            _ => None,
        }
    }
}

fn default_access_modes() -> Vec<String> {
    vec!["ReadWriteOnce".to_owned()]
}
