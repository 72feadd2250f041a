//! Secrets of a service: an object that names its values, and how its container gets them.
//!
//! No value is ever here. What is rendered says which secrets at which versions an object holds; whoever applies it
//! fetches them and fills them in. The object's name and mark follow from the same, so that values are fetched only for
//! objects that have to be written.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{
        EnvVar, EnvVarSource, KeyToPath, Secret, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;

use super::{
    meta::{self, Context, Copy},
    names,
    snapshot::{SecretPlace, ServiceSpec},
};
use crate::domain::secret::SecretId;

/// Name of the pod's volume with all secrets that are files.
pub(super) const VOLUME: &str = "stagekeeper-secrets";

/// The one key of an object with logins.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// A Secret to be made: everything about it but the values.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretManifest {
    /// Its name, labels, owner and marks.
    pub metadata: ObjectMeta,
    /// What belongs into it.
    pub content: SecretContent,
}

/// What belongs into a Secret, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretContent {
    /// Values of secrets, in an object that never changes: by key, which secret at which version.
    Values(BTreeMap<String, (SecretId, i64)>),
    /// Logins for nodes, in an object that is updated in place: the name of the credential by registry, such as
    /// `docker.io`; where services pull from one registry with different credentials, by whole repository, such as
    /// `ghcr.io/acme/shop`. [`super::registry_of`] takes either apart.
    Logins(BTreeMap<String, String>),
}

impl SecretManifest {
    /// With its marks. `all_but_values`: what it holds, in words that differ when it has to be written again.
    pub(super) fn marked(
        mut metadata: ObjectMeta,
        content: SecretContent,
        all_but_values: &impl Serialize,
        ctx: &Context,
    ) -> Self {
        let hash = meta::content_hash(&(&metadata, all_but_values));
        meta::mark(metadata.annotations.get_or_insert_default(), &hash, ctx);
        Self { metadata, content }
    }

    /// Name of the object.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The mark that the object carries: equal marks mean that nothing has to be written.
    pub fn rendered(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(meta::RENDERED).map(String::as_str)
    }

    /// The object with its values by key, which are those that [`SecretContent::Values`] names.
    pub fn with_values(&self, values: BTreeMap<String, ByteString>) -> Secret {
        Secret {
            metadata: self.metadata.clone(),
            type_: Some("Opaque".into()),
            immutable: Some(true),
            data: Some(values),
            string_data: None,
        }
    }

    /// The object with a finished `.dockerconfigjson`, which has the logins that [`SecretContent::Logins`] names.
    pub fn with_docker_config(&self, json: ByteString) -> Secret {
        Secret {
            metadata: self.metadata.clone(),
            type_: Some("kubernetes.io/dockerconfigjson".into()),
            immutable: None,
            data: Some(BTreeMap::from([(DOCKER_CONFIG.to_owned(), json)])),
            string_data: None,
        }
    }
}

/// Which secrets at which versions a copy gets.
fn versions(service: &ServiceSpec) -> Vec<(&str, Option<&str>, i64)> {
    let secrets = service.secrets.iter();
    secrets.map(|secret| (secret.name.as_str(), secret.service.as_deref(), secret.version)).collect()
}

/// The object's name follows from which secrets at which versions it holds. It could not follow from values: those are
/// not known here, and the hash of a password would tell whoever guesses it.
fn name(copy: &Copy<'_>) -> String {
    let hash = meta::content_hash(&(copy.instance().unwrap_or_default(), versions(copy.service)));
    names::secret(&copy.snapshot.identity.stage, &copy.service.name, &hash)
}

/// The values of a service, as an object to be filled in; none without secrets. Like files it never changes: pods of
/// the release before keep the values they started with, and a service that gets another value is rolled.
pub(super) fn values(copy: &Copy<'_>, ctx: &Context) -> Option<SecretManifest> {
    let secrets = copy.service.secrets.iter();
    let by_key: BTreeMap<_, _> = secrets.map(|secret| (secret.name.clone(), (secret.id(), secret.version))).collect();
    if by_key.is_empty() {
        return None;
    }
    let metadata = copy.meta(name(copy), ctx);
    Some(SecretManifest::marked(metadata, SecretContent::Values(by_key), &versions(copy.service), ctx))
}

/// The variables of a container.
pub(super) fn variables(copy: &Copy<'_>) -> impl Iterator<Item = EnvVar> {
    let object = name(copy);
    let variables = copy.service.secrets.iter().filter(|secret| secret.place == SecretPlace::Env);
    variables.map(move |secret| {
        let selector = SecretKeySelector { name: object.clone(), key: secret.name.clone(), optional: None };
        let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
        EnvVar { name: secret.name.clone(), value: None, value_from: Some(source) }
    })
}

/// The pod's volume with all files; none without files.
pub(super) fn volume(copy: &Copy<'_>) -> Option<Volume> {
    let files = copy.service.secrets.iter().filter_map(|secret| match &secret.place {
        SecretPlace::Env => None,
        SecretPlace::File { mode, .. } => {
            Some(KeyToPath { key: secret.name.clone(), path: secret.name.clone(), mode: Some(*mode) })
        }
    });
    let items: Vec<KeyToPath> = files.collect();
    if items.is_empty() {
        return None;
    }
    let secret =
        SecretVolumeSource { secret_name: Some(name(copy)), items: Some(items), ..SecretVolumeSource::default() };
    Some(Volume { name: VOLUME.into(), secret: Some(secret), ..Volume::default() })
}

/// Where the container mounts each file: the file alone, so that what stands beside it in the image stays.
pub(super) fn mounts(service: &ServiceSpec) -> impl Iterator<Item = VolumeMount> {
    service.secrets.iter().filter_map(|secret| {
        let path = secret.path()?;
        Some(VolumeMount {
            name: VOLUME.into(),
            mount_path: path.to_owned(),
            sub_path: Some(secret.name.clone()),
            read_only: Some(true),
            ..VolumeMount::default()
        })
    })
}

#[cfg(test)]
mod tests;
