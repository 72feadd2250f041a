//! How well delivery goes: DORA's four numbers, from the views `dora_changes` and `dora_daily`.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::{HistoryFilter, Place, Store, StoreError};

/// Which stages, and which deploys of them: those that ended in this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoraFilter {
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Only of projects of this name.
    pub project: Option<String>,
    /// Only stages of this name.
    pub stage: Option<String>,
    /// Not before this instant.
    pub since: Timestamp,
    /// Before this instant.
    pub until: Timestamp,
}

/// The numbers of each stage, and of all together.
#[derive(Debug, Clone, PartialEq)]
pub struct DoraStats {
    /// By namespace, project and stage: those where something ended in this time.
    pub stages: Vec<(Place, DoraNumbers)>,
    /// Every change of all of them.
    pub total: DoraNumbers,
}

/// What became of changes. A change is a deploy that ended as success, failed or rolled back and does not undo another.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DoraNumbers {
    /// Changes that ended.
    pub changes: i64,
    /// Those that succeeded.
    pub succeeded: i64,
    /// Those that failed on their way, or succeeded and were undone later.
    pub failed: i64,
    /// Those that failed and after which nothing good has served again.
    pub unrestored: i64,
    /// Seconds from the project's first deploy of a release to its first success on a stage.
    pub lead: Option<Spread>,
    /// Seconds from a failure until the last good release, or a newer one, served again.
    pub restore: Option<Spread>,
}

/// How numbers spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of them are below.
    pub median: f64,
    /// Nine of ten are below.
    pub p90: f64,
}

impl DoraNumbers {
    /// The share of changes that failed, 0 to 1; `None` without a change.
    #[expect(clippy::cast_precision_loss, reason = "nobody counts so many deploys")]
    pub fn failure_rate(&self) -> Option<f64> {
        (self.changes > 0).then(|| self.failed as f64 / self.changes as f64)
    }
}

impl Store {
    /// The numbers of a time. Naming a project or stage that does not exist is an error.
    pub async fn dora_stats(&self, filter: &DoraFilter) -> Result<DoraStats, StoreError> {
        let DoraFilter { namespace, project, stage, .. } = filter.clone();
        self.names_exist(&HistoryFilter { namespace, project, stage, ..HistoryFilter::default() }).await?;
        let rows = sqlx::query!(
            r#"WITH change AS (
                   SELECT s.id, s.namespace, p.name AS project, s.name AS stage, c.state, c.failed_at, c.restored_at,
                          extract(epoch FROM c.finished_at - c.known_at)::float8 AS lead,
                          extract(epoch FROM c.restored_at - c.failed_at)::float8 AS restore
                   FROM stages AS s JOIN projects AS p ON p.id = s.project_id
                   -- Stage by stage: each reads its own part of an index, whatever the planner thinks of the time.
                   CROSS JOIN LATERAL (
                       SELECT * FROM dora_changes AS c
                       WHERE c.target_id = s.id AND c.finished_at >= $1 AND c.finished_at < $2 OFFSET 0) AS c
                   WHERE ($3::text IS NULL OR s.namespace = $3) AND ($4::text IS NULL OR p.name = $4)
                       AND ($5::text IS NULL OR s.name = $5)
               )
               SELECT namespace AS "namespace?", project AS "project?", stage AS "stage?", count(*) AS "changes!",
                      count(*) FILTER (WHERE state = 'success') AS "succeeded!", count(failed_at) AS "failed!",
                      count(*) FILTER (WHERE failed_at IS NOT NULL AND restored_at IS NULL) AS "unrestored!",
                      percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY lead) AS "lead: Vec<f64>",
                      percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY restore) AS "restore: Vec<f64>"
               FROM change GROUP BY GROUPING SETS ((namespace, project, stage, id), ())
               ORDER BY namespace, project, stage, id"#,
            filter.since.to_sqlx() as SqlTimestamp,
            filter.until.to_sqlx() as SqlTimestamp,
            filter.namespace,
            filter.project,
            filter.stage
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let spread = |numbers: Option<Vec<f64>>| match numbers.as_deref() {
            Some([median, p90]) => Some(Spread { median: *median, p90: *p90 }),
            _ => None,
        };
        let mut stats = DoraStats { stages: Vec::new(), total: DoraNumbers::default() };
        for row in rows {
            let numbers = DoraNumbers {
                changes: row.changes,
                succeeded: row.succeeded,
                failed: row.failed,
                unrestored: row.unrestored,
                lead: spread(row.lead),
                restore: spread(row.restore),
            };
            match (row.namespace, row.project, row.stage) {
                (Some(namespace), Some(project), Some(stage)) => {
                    stats.stages.push((Place { namespace, project, stage }, numbers));
                }
                _ => stats.total = numbers,
            }
        }
        Ok(stats)
    }
}
