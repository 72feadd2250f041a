//! What is read of an object's JSON: only the fields that a view needs, everything else is skipped while parsing.
//!
//! Every field is optional, so that no object can stop the watch that delivers it.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::view::{
    Because, JobView, Kind, MESSAGE_CHARS, Meta, PodView, RouteView, SecretView, ServiceView, StageKey, WorkloadView,
};
use crate::cluster::both_ends;

mod pods;
mod routes;
mod secrets;
mod workloads;

pub(super) use self::{
    pods::Pod,
    routes::{HttpRoute, Ingress, Service},
    secrets::Secret,
    workloads::{Deployment, Job},
};

/// An object as it was seen at one resource version.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) stage: StageKey,
    pub(super) version: u64,
    pub(super) view: AnyView,
}

/// A view of some kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AnyView {
    Workload(WorkloadView),
    Pod(PodView),
    Service(ServiceView),
    Job(JobView),
    Ingress(RouteView),
    HttpRoute(RouteView),
    Secret(SecretView),
}

impl AnyView {
    pub(super) fn meta(&self) -> &Meta {
        match self {
            Self::Workload(v) => &v.meta,
            Self::Pod(v) => &v.meta,
            Self::Service(v) => &v.meta,
            Self::Job(v) => &v.meta,
            Self::Ingress(v) | Self::HttpRoute(v) => &v.meta,
            Self::Secret(v) => &v.meta,
        }
    }
}

/// A kind as it comes from the API server.
pub(super) trait Wire: DeserializeOwned + Clone + Send + 'static {
    fn head(&self) -> &Head;

    fn view(self) -> AnyView;

    /// None for an object that does not belong to a stage.
    fn reduce(self) -> Option<Seen> {
        let head = self.head();
        let stage = head.labels.as_ref()?.stage.clone()?;
        let stage = StageKey { namespace: head.namespace.clone()?, name: stage };
        let version = head.version();
        Some(Seen { stage, version, view: self.view() })
    }
}

/// Reads an object of a known kind; none if it does not belong to a stage.
pub(super) fn read(kind: Kind, json: &str) -> Result<Option<Seen>, serde_json::Error> {
    fn of<W: Wire>(json: &str) -> Result<Option<Seen>, serde_json::Error> {
        serde_json::from_str::<W>(json).map(W::reduce)
    }
    match kind {
        Kind::Deployment => of::<Deployment>(json),
        Kind::Service => of::<Service>(json),
        Kind::Pod => of::<Pod>(json),
        Kind::Job => of::<Job>(json),
        Kind::Ingress => of::<Ingress>(json),
        Kind::HttpRoute => of::<HttpRoute>(json),
        Kind::Secret => of::<Secret>(json),
    }
}

/// `metadata`, less what nobody reads: managed fields alone are often half of an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head {
    name: Box<str>,
    namespace: Option<Box<str>>,
    uid: Box<str>,
    resource_version: Box<str>,
    generation: Option<i64>,
    deletion_timestamp: Option<Box<str>>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

impl Head {
    /// Resource versions are decimal numbers that grow with each write to the kind.
    pub(super) fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }

    pub(super) fn resource_version(&self) -> &str {
        &self.resource_version
    }

    fn generation(&self) -> i64 {
        self.generation.unwrap_or(0)
    }

    fn meta(self) -> Meta {
        let labels = self.labels.unwrap_or_default();
        let annotations = self.annotations.unwrap_or_default();
        Meta {
            name: self.name,
            uid: self.uid,
            instance: labels.instance,
            service: labels.service,
            snapshot: labels.snapshot,
            deploy: labels.deploy.or(annotations.deploy),
            rendered: annotations.rendered,
            deleting: self.deletion_timestamp.is_some(),
        }
    }
}

// serde wants literals here; a test holds them to the constants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "stagekeeper.dev/stage")]
    stage: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/instance")]
    instance: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/service")]
    service: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/snapshot")]
    snapshot: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/deploy")]
    deploy: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/hook")]
    hook: Option<Box<str>>,
    #[serde(rename = "stagekeeper.dev/hook-name")]
    hook_name: Option<Box<str>>,
    #[serde(rename = "batch.kubernetes.io/job-name")]
    job: Option<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "stagekeeper.dev/rendered")]
    rendered: Option<Box<str>>,
    /// What may change without a reason to write the object is no label.
    #[serde(rename = "stagekeeper.dev/deploy")]
    deploy: Option<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireCondition {
    r#type: Box<str>,
    status: Box<str>,
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
    observed_generation: Option<i64>,
}

impl WireCondition {
    fn holds(&self) -> bool {
        &*self.status == "True"
    }

    fn because(&self) -> Because {
        because(self.reason.as_deref(), self.message.as_deref())
    }
}

fn because(reason: Option<&str>, message: Option<&str>) -> Because {
    Because {
        reason: reason.unwrap_or_default().into(),
        message: both_ends(message.unwrap_or_default(), MESSAGE_CHARS).into(),
    }
}

fn find<'a>(conditions: Option<&'a Vec<WireCondition>>, name: &str) -> Option<&'a WireCondition> {
    conditions?.iter().find(|c| &*c.r#type == name)
}

fn count(n: Option<i64>) -> u32 {
    n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// `None` is what a headless Service has for an address.
fn ip(text: Option<&str>) -> Option<IpAddr> {
    text.and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
