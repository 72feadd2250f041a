//! How well delivery goes, by DORA's four numbers.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Ground,
    deploys::{EVERYWHERE, OF_STAGE, namespace_of, on_stages},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    stages::OF_PROJECT,
};
use crate::{
    cluster::access::Attributes,
    store::{DoraFilter, DoraNumbers, DoraStats, Place, Spread, StoreError},
};

static SINCE: Parameter =
    Parameter::query("since", Kind::Time, "Deploys that ended from this instant on; 90 days ago when left out.");

/// How far back is looked when nobody says.
const LOOKED_BACK: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The numbers of a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// From when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// By namespace, project and stage: those where something ended in this time.
    pub items: Vec<StageStats>,
    /// Of all of them together.
    pub total: Numbers,
}

/// The numbers of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageStats {
    /// Its namespace.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub stage: String,
    /// Its numbers.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// What became of changes. A change is a deploy that ended as success, failed or rolled back and does not undo another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// Changes that ended.
    pub changes: i64,
    /// Those that succeeded.
    pub succeeded: i64,
    /// Those that failed on their way, or succeeded and were undone later.
    pub failed: i64,
    /// Those that failed and after which nothing good has served again.
    pub unrestored: i64,
    /// Successes a day.
    pub deploys_per_day: f64,
    /// The share of changes that failed, 0 to 1; null without a change.
    pub change_failure_rate: Option<f64>,
    /// Seconds from the project's first deploy of a release to its first success on a stage.
    pub lead_time_seconds: Option<Halves>,
    /// Seconds from a failure until the last good release, or a newer one, served again.
    pub time_to_restore_seconds: Option<Halves>,
}

/// How numbers spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Spread")]
pub struct Halves {
    /// Half of them are below.
    pub median: f64,
    /// Nine of ten are below.
    pub p90: f64,
}

impl Stats {
    /// As they are told.
    pub fn new(stats: &DoraStats, filter: &DoraFilter) -> Self {
        let days = filter.until.duration_since(filter.since).as_secs_f64() / 86_400.0;
        let stage = |(Place { namespace, project, stage }, numbers): &(Place, DoraNumbers)| StageStats {
            namespace: namespace.clone(),
            project: project.clone(),
            stage: stage.clone(),
            numbers: Numbers::new(numbers, days),
        };
        Self {
            since: filter.since,
            until: filter.until,
            items: stats.stages.iter().map(stage).collect(),
            total: Numbers::new(&stats.total, days),
        }
    }
}

impl Numbers {
    #[expect(clippy::cast_precision_loss, reason = "nobody counts so many deploys")]
    fn new(numbers: &DoraNumbers, days: f64) -> Self {
        let halves = |spread: Option<Spread>| spread.map(|Spread { median, p90 }| Halves { median, p90 });
        Self {
            changes: numbers.changes,
            succeeded: numbers.succeeded,
            failed: numbers.failed,
            unrestored: numbers.unrestored,
            deploys_per_day: numbers.succeeded as f64 / days,
            change_failure_rate: numbers.failure_rate(),
            lead_time_seconds: halves(numbers.lead),
            time_to_restore_seconds: halves(numbers.restore),
        }
    }
}

/// The numbers of a namespace, or of all.
pub(super) struct Get<const ONE: bool> {
    filter: DoraFilter,
}

impl<const ONE: bool> Command for Get<ONE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_stages(self.filter.namespace.as_deref())
    }
}

impl<const ONE: bool> Operation for Get<ONE> {
    const SPEC: Spec = if ONE {
        Spec {
            parameters: &[&NAMESPACE, &SINCE, &OF_PROJECT, &OF_STAGE],
            access: &[("stages", "list")],
            ..Spec::get(
                "/namespaces/{namespace}/stats",
                "getStats",
                "DORA's four numbers of the stages of a namespace, and of all of them together.",
            )
        }
    } else {
        Spec {
            parameters: &[&SINCE, &OF_PROJECT, &OF_STAGE],
            access: &[("stages", "list")],
            about: EVERYWHERE,
            ..Spec::get("/stats", "getAllStats", "DORA's four numbers of every stage, and of all of them together.")
        }
    };

    type Content = ();
    type Answer = Stats;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        let until = ground.clock.now();
        let since = input.time("since").unwrap_or_else(|| until.saturating_sub(LOOKED_BACK).unwrap_or(Timestamp::MIN));
        if since >= until {
            return Err(Problem::field("query.since", "must be a time before now"));
        }
        let filter = DoraFilter {
            namespace: namespace_of(&input),
            project: input.get("project").map(Into::into),
            stage: input.get("stage").map(Into::into),
            since,
            until,
        };
        Ok(Self { filter })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Stats>, Problem> {
        let filter = &authorized.command().filter;
        let stats = match call.ground.store.dora_stats(filter).await {
            // Names that nothing was recorded for have no numbers.
            Err(StoreError::NotFound { .. }) => DoraStats { stages: Vec::new(), total: DoraNumbers::default() },
            stats => stats?,
        };
        Ok(Reply::of(Stats::new(&stats, filter)))
    }
}
