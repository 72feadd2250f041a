//! Deployments and Jobs.

use serde::Deserialize;

use super::{AnyView, Head, Wire, WireCondition, count, find};
use crate::cluster::index::view::{Condition, JobView, WorkloadView};

/// `apps/v1` Deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct Deployment {
    metadata: Head,
    spec: DeploymentSpec,
    status: Option<DeploymentStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    replicas: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeploymentStatus {
    observed_generation: Option<i64>,
    replicas: Option<i64>,
    updated_replicas: Option<i64>,
    ready_replicas: Option<i64>,
    available_replicas: Option<i64>,
    conditions: Option<Vec<WireCondition>>,
}

impl Wire for Deployment {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        let status = self.status.unwrap_or_default();
        let condition = |name| find(status.conditions.as_ref(), name);
        AnyView::Workload(WorkloadView {
            generation: self.metadata.generation(),
            meta: self.metadata.meta(),
            observed_generation: status.observed_generation.unwrap_or(0),
            desired: self.spec.replicas.map_or(1, |n| count(Some(n))),
            replicas: count(status.replicas),
            updated: count(status.updated_replicas),
            ready: count(status.ready_replicas),
            available: count(status.available_replicas),
            progressing: condition("Progressing")
                .map(|c| Box::new(Condition { holds: c.holds(), because: c.because() })),
            replica_failure: condition("ReplicaFailure").filter(|c| c.holds()).map(|c| Box::new(c.because())),
        })
    }
}

/// `batch/v1` Job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct Job {
    metadata: Head,
    status: Option<JobStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct JobStatus {
    active: Option<i64>,
    succeeded: Option<i64>,
    failed: Option<i64>,
    conditions: Option<Vec<WireCondition>>,
}

impl Wire for Job {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(mut self) -> AnyView {
        let status = self.status.unwrap_or_default();
        let condition = |name| find(status.conditions.as_ref(), name).filter(|c| c.holds());
        let labels = self.metadata.labels.as_mut();
        let (hook, hook_name) = labels.map_or((None, None), |l| (l.hook.take(), l.hook_name.take()));
        AnyView::Job(JobView {
            meta: self.metadata.meta(),
            hook,
            hook_name,
            active: count(status.active),
            succeeded: count(status.succeeded),
            failed: count(status.failed),
            complete: condition("Complete").is_some(),
            failure: condition("Failed").map(|c| Box::new(c.because())),
        })
    }
}
