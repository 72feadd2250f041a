//! Metrics under the names that dashboards for controllers expect, and Stagekeeper's own.
//!
//! Every label value is a `&'static str` or a number from a fixed set: names of objects, deploys and
//! error texts cannot become series. The exceptions are credentials with an end and the keys that seal: people make them
//! one by one, and an alert has to name the one that it is about; and DORA's numbers, which say nothing without the stage
//! and are told of no more than five hundred.

mod controller;
mod credentials;
mod dora;
mod edge;
mod labels;

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Metric, Registry},
};

use self::{
    controller::ControllerFamilies,
    credentials::{ByKey, Expiries, Replaceable},
    dora::DoraGauges,
    edge::EdgeFamilies,
    labels::{
        NameLabel, OutcomeLabel, RestLabels, ResultLabel, RouteLabels, SourceOutcomeLabels, SourceResultLabels,
        StateLabel,
    },
};
pub use self::{
    controller::{ActiveWorker, ControllerMetrics, ReconcileResult},
    dora::StageDora,
    edge::{EdgeMetrics, EdgeTarget},
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds for whole deploys, seconds: a fast one takes a few, a slow one the sum of its deadlines.
const DEPLOY_SECONDS: Bounds =
    Bounds(&[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0, 3600.0]);
/// Upper bounds for one state, seconds.
const STATE_SECONDS: Bounds =
    Bounds(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3600.0, 86400.0]);

/// A histogram with fixed bounds.
#[derive(Clone, Copy)]
struct Bounds(&'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms<L> = Family<L, Histogram, Bounds>;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    controllers: ControllerFamilies,
    rest_requests: Family<RestLabels, Counter>,
    api_requests: Family<RouteLabels, Counter>,
    leader: Family<NameLabel, Gauge>,
    deploys: Family<OutcomeLabel, Counter>,
    deploy_duration: Histograms<OutcomeLabel>,
    state_duration: Histograms<StateLabel>,
    deploys_open: Family<StateLabel, Gauge>,
    scans: Family<ResultLabel, Counter>,
    webhooks_received: Family<SourceOutcomeLabels, Counter>,
    webhooks_read: Family<SourceResultLabels, Counter>,
    images_frozen: Gauge,
    preview_orphans: Gauge,
    orphans: Gauge,
    store_up: Gauge,
    credential_expiries: Replaceable<Expiries>,
    credentials_by_key: Replaceable<ByKey>,
    dora: DoraGauges,
    edge: EdgeFamilies,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        r.register("stagekeeper_build", "The running version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            controllers: ControllerFamilies::register(r),
            rest_requests: add(
                r,
                "rest_client_requests",
                "Requests to the Kubernetes API, by status code and method",
                Family::default(),
            ),
            api_requests: add(
                r,
                "stagekeeper_api_requests",
                "Requests to the HTTP API, by route, method and status code",
                Family::default(),
            ),
            leader: add(
                r,
                "leader_election_master_status",
                "Whether this process holds the Lease: 1 leads, 0 stands by",
                Family::default(),
            ),
            deploys: add(r, "stagekeeper_deploy", "Closed deploys, by outcome", Family::default()),
            deploy_duration: add(
                r,
                "stagekeeper_deploy_duration_seconds",
                "Time from request to outcome, less the time spent waiting for people",
                Family::new_with_constructor(DEPLOY_SECONDS),
            ),
            state_duration: add(
                r,
                "stagekeeper_deploy_state_duration_seconds",
                "Time that a deploy spent in one state",
                Family::new_with_constructor(STATE_SECONDS),
            ),
            deploys_open: add(
                r,
                "stagekeeper_deploys_open",
                "Deploys that are not closed, by state",
                Family::default(),
            ),
            orphans: add(
                r,
                "stagekeeper_environment_orphans",
                "Namespaces that were made for environments which are gone",
                Gauge::default(),
            ),
            scans: add(r, "stagekeeper_scan", "Registry scans, by result", Family::default()),
            webhooks_received: add(
                r,
                "stagekeeper_webhook_deliveries",
                "Deliveries of webhooks to this process, by source and by how they were answered",
                Family::default(),
            ),
            webhooks_read: add(
                r,
                "stagekeeper_webhook_read",
                "Stored deliveries that the leader has worked on, by source and result",
                Family::default(),
            ),
            images_frozen: add(
                r,
                "stagekeeper_images_frozen",
                "Repositories of which nothing is chosen because too many of their tags are gone",
                Gauge::default(),
            ),
            preview_orphans: add(
                r,
                "stagekeeper_preview_orphans",
                "Environments that were made for pull requests of which nobody knows",
                Gauge::default(),
            ),
            store_up: add(r, "stagekeeper_store_up", "Whether Postgres answers", Gauge::default()),
            credential_expiries: Replaceable::register(r),
            credentials_by_key: Replaceable::register(r),
            dora: DoraGauges::register(r),
            edge: EdgeFamilies::register(r),
            registry,
        }
    }
}

/// Registers a metric under a name without `_total`: the encoder adds it to counters, and `_info` to infos.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &'static str, help: &'static str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of one controller, under its name.
    pub fn controller(&self, controller: &'static str) -> ControllerMetrics {
        self.controllers.of(controller)
    }

    /// The metrics of the edge.
    pub fn edge(&self) -> EdgeMetrics {
        self.edge.metrics()
    }

    /// Counts an answer of the Kubernetes API by its verb (`list`, `apply`, …); code 0 stands for none.
    pub fn rest_answered(&self, verb: &str, code: u16) {
        let method = http_method(verb);
        self.rest_requests.get_or_create(&RestLabels { code, method }).inc();
    }

    /// Reports whether this process holds the Lease of a shard; without shards, that is the first.
    pub fn leads(&self, shard: u16, leads: bool) {
        let name = if shard == 0 { "stagekeeper".to_owned() } else { format!("stagekeeper-{shard}") };
        let labels = NameLabel { name };
        self.leader.get_or_create(&labels).set(leads.into());
    }

    /// Counts a closed deploy, once, with its last state. `worked` is the time from its request to that
    /// state less the time it waited for people: approvals, holds, windows.
    pub fn deploy_closed(&self, outcome: &'static str, worked: Duration) {
        let labels = OutcomeLabel { outcome };
        self.deploys.get_or_create(&labels).inc();
        self.deploy_duration.get_or_create(&labels).observe(worked.as_secs_f64());
    }

    /// Reports how long a deploy was in the state that it has just left.
    pub fn deploy_left(&self, state: &'static str, after: Duration) {
        self.state_duration.get_or_create(&StateLabel { state }).observe(after.as_secs_f64());
    }

    /// Reports how many deploys are in an open state.
    pub fn deploys_open(&self, state: &'static str, number: u32) {
        self.deploys_open.get_or_create(&StateLabel { state }).set(number.into());
    }

    /// Counts a registry scan: `unchanged`, `found`, `unreachable`, `denied` and the like.
    pub fn scanned(&self, result: &'static str) {
        self.scans.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a request to the HTTP API that was answered: the route as it is written in the table, never the path that came.
    pub fn api_answered(&self, route: &'static str, method: &'static str, status: u16) {
        self.api_requests.get_or_create(&RouteLabels { route, method, status }).inc();
    }

    /// Counts a delivery of a webhook: `accepted`, `repeated`, `ignored`, `unsigned`, `malformed` and the like. The source is
    /// `unknown` where nobody knows whose it was.
    pub fn webhook_received(&self, source: &'static str, outcome: &'static str) {
        self.webhooks_received.get_or_create(&SourceOutcomeLabels { source, outcome }).inc();
    }

    /// Counts a delivery that was worked on: `processed`, `ignored`, `failed`.
    pub fn webhook_read(&self, source: &'static str, result: &'static str) {
        self.webhooks_read.get_or_create(&SourceResultLabels { source, result }).inc();
    }

    /// Reports of how many repositories nothing is chosen because too many of their tags are gone.
    pub fn images_frozen(&self, number: usize) {
        self.images_frozen.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Reports how many environments were made for pull requests of which nobody knows.
    pub fn set_preview_orphans(&self, number: usize) {
        self.preview_orphans.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Reports whether Postgres answers.
    pub fn store_up(&self, up: bool) {
        self.store_up.set(up.into());
    }

    /// Reports when credentials expire, as namespace, project, name and seconds since 1970: all that have an end, in place
    /// of those before.
    pub fn set_credential_expiries(&self, all: Vec<(String, String, String, i64)>) {
        self.credential_expiries.set(all);
    }

    /// Reports how many sealed values each key is needed for: all keys, in place of those before.
    pub fn set_credentials_by_key(&self, all: Vec<(String, i64)>) {
        self.credentials_by_key.set(all);
    }

    /// Reports how many namespaces are left of environments that are gone.
    pub fn set_orphans(&self, count: usize) {
        self.orphans.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Reports DORA's numbers: of all stages that are told, in place of those before.
    pub fn set_dora(&self, all: &[StageDora]) {
        self.dora.set(all);
    }

    /// All metrics as `OpenMetrics` text.
    ///
    /// # Errors
    /// A label or value cannot be written; a mistake in this program.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The label that client-go's dashboards know: HTTP methods, not verbs.
fn http_method(verb: &str) -> &'static str {
    match verb {
        "get" | "list" | "watch" => "GET",
        "create" => "POST",
        "update" => "PUT",
        "patch" | "apply" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests;
