//! DORA's four numbers by stage, replaced as a whole once they are computed anew.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeMetric as _, MetricEncoder},
    metrics::gauge::ConstGauge,
    registry::Registry,
};

use super::credentials::{Replaceable, Told};

/// The numbers of one stage, over the last thirty days.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDora {
    /// Kubernetes namespace.
    pub namespace: String,
    /// The project.
    pub project: String,
    /// The stage.
    pub stage: String,
    /// Changes that ended.
    pub changes: i64,
    /// Those that succeeded.
    pub succeeded: i64,
    /// Those that failed, or were undone later.
    pub failed: i64,
    /// Median seconds from the project's first deploy of a release to its success here.
    pub lead_seconds: Option<f64>,
    /// Median seconds from a failure until something good served again.
    pub restore_seconds: Option<f64>,
}

/// A series: namespace, project, stage, value.
type Series<T> = (String, String, String, T);

macro_rules! gauges {
    ($($kind:ident: $value:ty, $name:literal, $help:literal;)*) => {$(
        #[derive(Debug)]
        struct $kind;

        impl Told for $kind {
            type Series = Series<$value>;
            const NAME: &'static str = $name;
            const HELP: &'static str = $help;

            fn encode(series: &Self::Series, metric: &mut MetricEncoder<'_>) -> fmt::Result {
                let (namespace, project, stage, value) = series;
                let labels = [("namespace", namespace), ("project", project), ("stage", stage)];
                ConstGauge::new(*value).encode(metric.encode_family(&labels)?)
            }
        }
    )*};
}

gauges! {
    Changes: i64, "stagekeeper_dora_changes", "Deploys of the last 30 days that have ended and undo no other";
    Succeeded: i64, "stagekeeper_dora_changes_succeeded", "Those that succeeded: the deploy frequency";
    Failed: i64, "stagekeeper_dora_changes_failed", "Those that failed or were undone later: the change failures";
    Lead: f64, "stagekeeper_dora_lead_time_seconds", "Median time from the project's first deploy of a release to its success on this stage";
    Restore: f64, "stagekeeper_dora_time_to_restore_seconds", "Median time from a failure until something good served again";
}

/// All of them.
pub(super) struct DoraGauges {
    changes: Replaceable<Changes>,
    succeeded: Replaceable<Succeeded>,
    failed: Replaceable<Failed>,
    lead: Replaceable<Lead>,
    restore: Replaceable<Restore>,
}

impl DoraGauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            changes: Replaceable::register(registry),
            succeeded: Replaceable::register(registry),
            failed: Replaceable::register(registry),
            lead: Replaceable::register(registry),
            restore: Replaceable::register(registry),
        }
    }

    pub(super) fn set(&self, all: &[StageDora]) {
        fn series<T>(all: &[StageDora], value: impl Fn(&StageDora) -> Option<T>) -> Vec<Series<T>> {
            let one = |stage: &StageDora| {
                let value = value(stage)?;
                Some((stage.namespace.clone(), stage.project.clone(), stage.stage.clone(), value))
            };
            all.iter().filter_map(one).collect()
        }
        self.changes.set(series(all, |stage| Some(stage.changes)));
        self.succeeded.set(series(all, |stage| Some(stage.succeeded)));
        self.failed.set(series(all, |stage| Some(stage.failed)));
        self.lead.set(series(all, |stage| stage.lead_seconds));
        self.restore.set(series(all, |stage| stage.restore_seconds));
    }
}
