//! Claims, files and scratch space of a service.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMap, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaim,
        PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, Volume as PodVolume, VolumeMount,
        VolumeResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    meta::{self, Context, Copy},
    names, secret,
    snapshot::{Claim, ServiceSpec, Volume, VolumeSource},
};
use crate::api::labels;

/// Whether two pods of the service must never run at the same time: it mounts a claim that one node at a time may
/// mount.
pub(super) fn are_exclusive(service: &ServiceSpec) -> bool {
    service.volumes.iter().any(|volume| claim_of(volume).is_some_and(|claim| !claim.takes_many(volume.read_only)))
}

/// The claim that a volume is, of either kind.
pub(super) fn claim_of(volume: &Volume) -> Option<&Claim> {
    match &volume.source {
        VolumeSource::SharedClaim(claim) | VolumeSource::PerInstanceClaim(claim) => Some(claim),
        VolumeSource::Files(_) | VolumeSource::EmptyDir { .. } => None,
    }
}

/// Where the service's container mounts its volumes.
pub(super) fn mounts(service: &ServiceSpec) -> Option<Vec<VolumeMount>> {
    let volumes = service.volumes.iter().map(|volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        read_only: volume.read_only.then_some(true),
        ..VolumeMount::default()
    });
    let mounts: Vec<VolumeMount> = volumes.chain(secret::mounts(service)).collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// The pod's volumes.
pub(super) fn pod_volumes(copy: &Copy<'_>) -> Option<Vec<PodVolume>> {
    let config = config_name(copy);
    let volumes = copy.service.volumes.iter().map(|volume| {
        let mut rendered = PodVolume { name: volume.name.clone(), ..PodVolume::default() };
        match &volume.source {
            VolumeSource::SharedClaim(_) | VolumeSource::PerInstanceClaim(_) => {
                rendered.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim_name(copy, volume),
                    read_only: volume.read_only.then_some(true),
                });
            }
            VolumeSource::Files(files) => {
                rendered.config_map = Some(ConfigMapVolumeSource {
                    name: config.clone(),
                    items: Some(items(&volume.name, files)),
                    ..ConfigMapVolumeSource::default()
                });
            }
            VolumeSource::EmptyDir { size_limit, memory } => {
                rendered.empty_dir = Some(EmptyDirVolumeSource {
                    medium: memory.then(|| "Memory".to_owned()),
                    size_limit: size_limit.clone(),
                });
            }
        }
        rendered
    });
    let volumes: Vec<PodVolume> = volumes.chain(secret::volume(copy)).collect();
    (!volumes.is_empty()).then_some(volumes)
}

fn items(volume: &str, files: &BTreeMap<String, String>) -> Vec<KeyToPath> {
    let items =
        files.keys().map(|path| KeyToPath { key: names::file_key(volume, path), path: path.clone(), mode: None });
    items.collect()
}

fn claim_name(copy: &Copy<'_>, volume: &Volume) -> String {
    let (stage, service) = (&copy.snapshot.identity.stage, &copy.service.name);
    match (&volume.source, copy.instance()) {
        (VolumeSource::PerInstanceClaim(_), Some(instance)) => {
            names::instance_claim(stage, service, &volume.name, instance)
        }
        _ => names::shared_claim(stage, service, &volume.name),
    }
}

/// The service's claims. A shared claim carries no label of an instance or release: it outlives them, and removing
/// an instance by its labels must not find it.
pub(super) fn claims(copy: &Copy<'_>, ctx: &Context) -> Vec<PersistentVolumeClaim> {
    let claims = copy.service.volumes.iter().filter_map(|volume| {
        let claim = claim_of(volume)?;
        let name = claim_name(copy, volume);
        let metadata = if matches!(volume.source, VolumeSource::SharedClaim(_)) {
            let stage = &copy.snapshot.identity.stage;
            let mut all = meta::selector(stage, &copy.service.name, None);
            all.extend(meta::shared_labels(copy.snapshot));
            all.insert(labels::NAME.into(), copy.service.name.clone());
            meta::meta(copy.snapshot, name, all, ctx)
        } else {
            copy.meta(name, ctx)
        };
        let requests = BTreeMap::<String, Quantity>::from([("storage".into(), claim.size.clone())]);
        let rendered = PersistentVolumeClaim {
            metadata,
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(claim.access_modes.clone()),
                storage_class_name: claim.storage_class_name.clone(),
                resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        };
        Some(meta::marked(rendered, ctx))
    });
    claims.collect()
}

/// Files of all volumes of the service by key; empty if it has none.
fn files(service: &ServiceSpec) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for volume in &service.volumes {
        if let VolumeSource::Files(files) = &volume.source {
            let keyed = files.iter().map(|(path, text)| (names::file_key(&volume.name, path), text.clone()));
            all.extend(keyed);
        }
    }
    all
}

fn config_name(copy: &Copy<'_>) -> String {
    let instance = copy.instance().unwrap_or_default();
    let content = meta::content_hash(&(instance, files(copy.service)));
    names::config(&copy.snapshot.identity.stage, &copy.service.name, &content)
}

/// The files as a `ConfigMap`. Its name follows the content, and it never changes: pods of the release before keep
/// the files they started with, and a service whose files change is rolled.
pub(super) fn config(copy: &Copy<'_>, ctx: &Context) -> Option<ConfigMap> {
    let data = files(copy.service);
    if data.is_empty() {
        return None;
    }
    let config = ConfigMap {
        metadata: copy.meta(config_name(copy), ctx),
        data: Some(data),
        immutable: Some(true),
        binary_data: None,
    };
    Some(meta::marked(config, ctx))
}
