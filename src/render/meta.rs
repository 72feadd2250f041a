//! Metadata of everything that is rendered: names, labels, owner, and the marks that save writes.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    names,
    snapshot::{Scope, ServiceSpec, Snapshot},
};
use crate::api::labels;

/// Annotation: hash of the object as it was rendered, without this annotation and without the deploy's id. An object
/// that carries the hash of what is wanted needs no write.
pub const RENDERED: &str = "stagekeeper.dev/rendered";

/// The usual label that tells installations of one application apart.
const APP_INSTANCE: &str = "app.kubernetes.io/instance";

/// What rendering takes besides the snapshot: what is true of this cluster and this deploy only.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Who owns what is rendered: the Stage. Deleting it deletes everything.
    pub owner: OwnerReference,
    /// The deploy that renders.
    pub deploy: Uuid,
    /// Cluster addresses by the name of the Service *object*. They go into pods, so render workloads only once
    /// [`super::Manifests::missing_addresses`] is empty: an address that is learned later restarts pods.
    pub service_ips: BTreeMap<String, String>,
    /// How many times each of the project's registry credentials was written. A pull secret carries these versions in
    /// its mark, and no pod does: another password is applied, and restarts nothing.
    pub credentials: Arc<BTreeMap<String, i64>>,
    /// What the built-in proxy leads to, by name of the service.
    pub edge: BTreeMap<String, Published>,
    /// Where routes lead instead of to the stage's own Services: nothing of it can answer.
    pub fallback: Option<Fallback>,
}

/// A Service that answers while nothing else does: that of the built-in proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Number of its port for plain HTTP.
    pub port: u16,
}

/// How the built-in proxy leads to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Name of the port.
    pub port: String,
}

impl Published {
    /// Marks a Service as one that the proxy leads to.
    pub(super) fn mark(&self, meta: &mut ObjectMeta) {
        meta.labels.get_or_insert_default().insert(labels::EDGE.into(), "true".into());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::EDGE_HOSTS.into(), self.hosts.join(","));
        annotations.insert(labels::EDGE_PORT.into(), self.port.clone());
    }
}

/// One copy of a service: that of an instance, or the one that the stage's instances share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copy<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) service: &'a ServiceSpec,
    instance: &'a str,
}

impl<'a> Copy<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, service: &'a ServiceSpec, instance: &'a str) -> Self {
        Self { snapshot, service, instance }
    }

    /// The instance it belongs to; none for a copy that all instances share.
    pub(super) fn instance(&self) -> Option<&'a str> {
        match self.service.scope {
            Scope::Instance => Some(self.instance),
            Scope::Stage => None,
        }
    }

    fn stage(&self) -> &'a str {
        &self.snapshot.identity.stage
    }

    /// Name of its workload and of its Service.
    pub(super) fn name(&self) -> String {
        match self.instance() {
            Some(instance) => names::instance_service(self.stage(), &self.service.name, instance),
            None => names::stage_service(self.stage(), &self.service.name),
        }
    }

    /// What selects its pods and no others: neither those of a copy of the other scope nor those of hooks.
    pub(super) fn selector(&self) -> BTreeMap<String, String> {
        selector(self.stage(), &self.service.name, self.instance())
    }

    /// Labels of its objects.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut all = self.selector();
        all.extend(shared_labels(self.snapshot));
        all.insert(labels::NAME.into(), self.service.name.clone());
        if let Some(instance) = self.instance() {
            all.insert(APP_INSTANCE.into(), format!("{}-{instance}", self.stage()));
        }
        all
    }

    /// Labels of its workload and pods, which name the release. Other objects do not: they would be written for each
    /// release that they serve without a change. Nor does the shared copy: it must not be written, let alone restarted,
    /// because another service has a new image.
    pub(super) fn workload_labels(&self) -> BTreeMap<String, String> {
        let mut all = self.labels();
        if self.instance().is_some() {
            let release = self.snapshot.release.id();
            all.insert(labels::RELEASE.into(), release.short().to_owned());
        }
        all
    }

    /// Metadata of one of its objects.
    pub(super) fn meta(&self, name: String, ctx: &Context) -> ObjectMeta {
        meta(self.snapshot, name, self.labels(), ctx)
    }
}

/// What selects the pods of a service in one instance, or of the copy that all instances share.
pub(super) fn selector(stage: &str, service: &str, instance: Option<&str>) -> BTreeMap<String, String> {
    let scope = match instance {
        Some(_) => labels::SCOPE_INSTANCE,
        None => labels::SCOPE_STAGE,
    };
    let pairs = [
        (labels::STAGE, Some(stage)),
        (labels::SERVICE, Some(service)),
        (labels::SCOPE, Some(scope)),
        (labels::INSTANCE, instance),
    ];
    let given = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
    given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Labels of everything that a stage makes.
pub(super) fn shared_labels(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let identity = &snapshot.identity;
    BTreeMap::from([
        (labels::MANAGED_BY.into(), labels::FIELD_MANAGER.into()),
        (labels::PART_OF.into(), identity.project.clone()),
        (labels::PROJECT.into(), identity.project.clone()),
        (labels::STAGE.into(), identity.stage.clone()),
        (APP_INSTANCE.into(), identity.stage.clone()),
    ])
}

/// Metadata with these labels, owned by the stage.
pub(super) fn meta(snapshot: &Snapshot, name: String, labels: BTreeMap<String, String>, ctx: &Context) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(snapshot.identity.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![ctx.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The object with its marks: the hash of what it is so far, and which deploy rendered it.
pub(super) fn marked<K>(mut object: K, ctx: &Context) -> K
where
    K: Resource + Serialize,
{
    let hash = content_hash(&object);
    mark(object.annotations_mut(), &hash, ctx);
    object
}

/// Marks with the hash of what the object is, and with the deploy that rendered it.
pub(super) fn mark(annotations: &mut BTreeMap<String, String>, hash: &str, ctx: &Context) {
    annotations.insert(RENDERED.into(), names::revision(hash));
    annotations.insert(labels::DEPLOY.into(), ctx.deploy.to_string());
}

/// Hash of a value's JSON, which for the types of the API is deterministic: fixed fields and sorted maps.
pub(super) fn content_hash<T: Serialize>(value: &T) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(value).unwrap_or_default());
    hex::encode(hash.finalize())
}

/// The mark that an object carries: equal marks mean that nothing has to be written.
pub fn rendered<K>(object: &K) -> Option<&str>
where
    K: Resource,
{
    object.annotations().get(RENDERED).map(String::as_str)
}
