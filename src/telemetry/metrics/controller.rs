//! The families that controller-runtime's users know, and a handle on them for one controller.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    Bounds, Histograms, add,
    labels::{ControllerLabel, ControllerResultLabels, QueueLabels},
};

/// controller-runtime's bounds for one reconcile, seconds, thinned out above half a second.
const RECONCILE_SECONDS: Bounds = Bounds(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0,
    60.0,
]);
/// controller-runtime's bounds for work queues, seconds: powers of ten.
const QUEUE_SECONDS: Bounds = Bounds(&[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0]);

/// How one reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Done; nothing more until something changes.
    Success,
    /// Done for now; comes back at a known time.
    RequeueAfter,
    /// Failed; comes back with backoff.
    Error,
    /// Failed for good; waits for a change of its input.
    TerminalError,
}

impl ReconcileResult {
    const WORDS: [&str; 3] = ["success", "requeue_after", "error"];

    const fn word(self) -> &'static str {
        match self {
            Self::Success => Self::WORDS[0],
            Self::RequeueAfter => Self::WORDS[1],
            Self::Error | Self::TerminalError => Self::WORDS[2],
        }
    }
}

/// The families of all controllers.
#[derive(Clone)]
pub(super) struct ControllerFamilies {
    reconciles: Family<ControllerResultLabels, Counter>,
    errors: Family<ControllerLabel, Counter>,
    terminal_errors: Family<ControllerLabel, Counter>,
    panics: Family<ControllerLabel, Counter>,
    reconcile_time: Histograms<ControllerLabel>,
    active_workers: Family<ControllerLabel, Gauge>,
    max_concurrent: Family<ControllerLabel, Gauge>,
    queue_depth: Family<QueueLabels, Gauge>,
    queue_adds: Family<QueueLabels, Counter>,
    queue_retries: Family<QueueLabels, Counter>,
    queue_waited: Histograms<QueueLabels>,
    queue_worked: Histograms<QueueLabels>,
}

impl ControllerFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let mut counter = |name, help| add(registry, name, help, Family::default());
        let errors = counter("controller_runtime_reconcile_errors", "Reconciles that failed");
        let terminal_errors = counter(
            "controller_runtime_terminal_reconcile_errors",
            "Reconciles that failed for good: only a change of their input helps",
        );
        let panics = counter("controller_runtime_reconcile_panics", "Reconciles that panicked");
        let mut queue_counter = |name, help| add(registry, name, help, Family::default());
        let queue_adds = queue_counter("workqueue_adds", "Objects that were queued for a reconcile");
        let queue_retries = queue_counter("workqueue_retries", "Objects that were queued again after a failure");
        let mut gauge = |name, help| add(registry, name, help, Family::default());
        let active_workers = gauge("controller_runtime_active_workers", "Reconciles that run now");
        let max_concurrent = gauge("controller_runtime_max_concurrent_reconciles", "Reconciles that may run at once");
        let mut queue_time = |name, help| add(registry, name, help, Family::new_with_constructor(QUEUE_SECONDS));
        let queue_waited =
            queue_time("workqueue_queue_duration_seconds", "Time that an object waited before its reconcile");
        let queue_worked = queue_time("workqueue_work_duration_seconds", "Time that the reconcile of an object took");
        Self {
            reconciles: add(
                registry,
                "controller_runtime_reconcile",
                "Reconciles, by controller and result",
                Family::default(),
            ),
            reconcile_time: add(
                registry,
                "controller_runtime_reconcile_time_seconds",
                "Time per reconcile",
                Family::new_with_constructor(RECONCILE_SECONDS),
            ),
            queue_depth: add(registry, "workqueue_depth", "Objects that wait for a reconcile", Family::default()),
            errors,
            terminal_errors,
            panics,
            active_workers,
            max_concurrent,
            queue_adds,
            queue_retries,
            queue_waited,
            queue_worked,
        }
    }

    /// The handle of one controller. Its counters exist from here on, so that a rate over them has a start.
    pub(super) fn of(&self, controller: &'static str) -> ControllerMetrics {
        let label = ControllerLabel { controller };
        for result in ReconcileResult::WORDS {
            let labels = ControllerResultLabels { controller, result };
            drop(self.reconciles.get_or_create(&labels));
        }
        for family in [&self.errors, &self.terminal_errors, &self.panics] {
            drop(family.get_or_create(&label));
        }
        ControllerMetrics { families: self.clone(), label, queue: QueueLabels { name: controller, controller } }
    }
}

/// The metrics of one controller; cheap to clone.
#[derive(Clone)]
pub struct ControllerMetrics {
    families: ControllerFamilies,
    label: ControllerLabel,
    queue: QueueLabels,
}

impl ControllerMetrics {
    /// Reports how many reconciles may run at once.
    pub fn max_concurrent(&self, number: u16) {
        self.families.max_concurrent.get_or_create(&self.label).set(number.into());
    }

    /// Counts one more running reconcile until the result is dropped, also by a panic or a cancelled task.
    pub fn started(&self) -> ActiveWorker {
        let gauge = self.families.active_workers.get_or_create_owned(&self.label);
        gauge.inc();
        ActiveWorker(gauge)
    }

    /// Counts a reconcile that has ended.
    pub fn finished(&self, result: ReconcileResult, took: Duration) {
        let families = &self.families;
        let labels = ControllerResultLabels { controller: self.label.controller, result: result.word() };
        families.reconciles.get_or_create(&labels).inc();
        if matches!(result, ReconcileResult::Error | ReconcileResult::TerminalError) {
            families.errors.get_or_create(&self.label).inc();
        }
        if result == ReconcileResult::TerminalError {
            families.terminal_errors.get_or_create(&self.label).inc();
        }
        let seconds = took.as_secs_f64();
        families.reconcile_time.get_or_create(&self.label).observe(seconds);
        families.queue_worked.get_or_create(&self.queue).observe(seconds);
    }

    /// Counts a reconcile that panicked.
    pub fn panicked(&self) {
        self.families.panics.get_or_create(&self.label).inc();
    }

    /// Counts an object that was queued, and whether it is there because it failed before.
    pub fn queued(&self, again: bool) {
        self.families.queue_adds.get_or_create(&self.queue).inc();
        if again {
            self.families.queue_retries.get_or_create(&self.queue).inc();
        }
    }

    /// Reports how long an object waited in the queue before its reconcile.
    pub fn waited(&self, time: Duration) {
        self.families.queue_waited.get_or_create(&self.queue).observe(time.as_secs_f64());
    }

    /// Reports how many objects wait.
    pub fn depth(&self, number: u32) {
        self.families.queue_depth.get_or_create(&self.queue).set(number.into());
    }
}

/// One running reconcile, for as long as it lives.
#[must_use = "the reconcile counts as running only while this lives"]
pub struct ActiveWorker(Gauge);

impl Drop for ActiveWorker {
    fn drop(&mut self) {
        self.0.dec();
    }
}
