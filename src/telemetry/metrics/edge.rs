//! What the edge tells. No host and no environment is a label: there may be thousands.

use std::{fmt, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{
    Bounds, Histograms, add,
    labels::{ReasonLabel, ResultLabel, TargetCodeLabels, TargetLabel},
};

/// Upper bounds for the beginning of an answer, seconds: from memory to a wait for a pod that starts.
const ANSWER_SECONDS: Bounds =
    Bounds(&[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]);
/// Classes of status codes.
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Whose host a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeTarget {
    /// An environment's.
    Environment = 0,
    /// A stage's.
    Stage = 1,
    /// Nobody's.
    None = 2,
}

impl EdgeTarget {
    const ALL: [Self; 3] = [Self::Environment, Self::Stage, Self::None];

    const fn word(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Stage => "stage",
            Self::None => "none",
        }
    }
}

/// What is registered. Families have no series until an edge asks for them.
#[derive(Debug)]
pub(super) struct EdgeFamilies {
    requests: Family<TargetCodeLabels, Counter>,
    durations: Histograms<TargetLabel>,
    upstream_errors: Family<ReasonLabel, Counter>,
    wakes: Family<ResultLabel, Counter>,
    connections: Gauge,
    waiting: Gauge,
    hosts: Gauge,
    conflicts: Gauge,
}

impl EdgeFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            requests: add(
                registry,
                "stagekeeper_edge_requests",
                "Requests that the edge has answered, by whose host it was and class of the status code",
                Family::default(),
            ),
            durations: add(
                registry,
                "stagekeeper_edge_request_duration_seconds",
                "Time from a request to the beginning of its answer",
                Family::new_with_constructor(ANSWER_SECONDS),
            ),
            upstream_errors: add(
                registry,
                "stagekeeper_edge_upstream_errors",
                "Tries at an address that gave no answer: it took no connection, broke off, was late, or had too many",
                Family::default(),
            ),
            wakes: add(
                registry,
                "stagekeeper_edge_wakes",
                "Wakes of environments that were asked for, by whether that could be written down",
                Family::default(),
            ),
            connections: add(
                registry,
                "stagekeeper_edge_connections",
                "Connections of callers to the edge",
                Gauge::default(),
            ),
            waiting: add(
                registry,
                "stagekeeper_edge_waiting_requests",
                "Requests that wait for an environment to wake",
                Gauge::default(),
            ),
            hosts: add(registry, "stagekeeper_edge_hosts", "Hosts in the edge's table", Gauge::default()),
            conflicts: add(
                registry,
                "stagekeeper_edge_host_conflicts",
                "Claims of hosts that others have: they are in the log by name",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn metrics(&self) -> EdgeMetrics {
        let codes = |target: EdgeTarget| {
            CODES.map(|code| self.requests.get_or_create_owned(&TargetCodeLabels { target: target.word(), code }))
        };
        EdgeMetrics {
            requests: EdgeTarget::ALL.map(codes),
            durations: EdgeTarget::ALL
                .map(|target| self.durations.get_or_create_owned(&TargetLabel { target: target.word() })),
            upstream_errors: self.upstream_errors.clone(),
            wakes: self.wakes.clone(),
            connections: self.connections.clone(),
            waiting: self.waiting.clone(),
            hosts: self.hosts.clone(),
            conflicts: self.conflicts.clone(),
        }
    }
}

/// Handles: a request looks nothing up.
#[derive(Clone)]
pub struct EdgeMetrics {
    requests: [[Counter; CODES.len()]; EdgeTarget::ALL.len()],
    durations: [Histogram; EdgeTarget::ALL.len()],
    upstream_errors: Family<ReasonLabel, Counter>,
    wakes: Family<ResultLabel, Counter>,
    connections: Gauge,
    waiting: Gauge,
    hosts: Gauge,
    conflicts: Gauge,
}

impl fmt::Debug for EdgeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeMetrics").finish_non_exhaustive()
    }
}

impl EdgeMetrics {
    /// A request was answered, after this time.
    pub fn answered(&self, target: EdgeTarget, status: u16, after: Duration) {
        let class = usize::from(status / 100).clamp(1, CODES.len()) - 1;
        self.requests[target as usize][class].inc();
        self.durations[target as usize].observe(after.as_secs_f64());
    }

    /// An address gave no answer: `connect`, `broken`, `late`, `full`.
    pub fn upstream_failed(&self, reason: &'static str) {
        self.upstream_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A wake was `asked` for, or asking `failed`.
    pub fn woke(&self, result: &'static str) {
        self.wakes.get_or_create(&ResultLabel { result }).inc();
    }

    /// So many more connections.
    pub fn connected(&self, more: i64) {
        self.connections.inc_by(more);
    }

    /// So many more requests that wait.
    pub fn waiting(&self, more: i64) {
        self.waiting.inc_by(more);
    }

    /// What the table has.
    pub fn table(&self, hosts: usize, conflicts: usize) {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.hosts.set(number(hosts));
        self.conflicts.set(number(conflicts));
    }
}
