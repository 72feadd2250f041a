//! Logs, metrics and readiness: what the process tells about itself.

pub mod logs;
pub mod metrics;
pub mod readiness;
pub mod redact;

use std::sync::Arc;

pub use self::{
    metrics::Metrics,
    readiness::{Part, Readiness},
};

/// What every room that reports about itself is given; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// Counters, gauges and histograms.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` answers.
    pub readiness: Arc<Readiness>,
}
