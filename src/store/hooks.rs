//! Hook runs: each job of a deploy's phases once.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Store, StoreError, text::storable};
use crate::domain::deploy::Phase;

/// What [`Store::hook_begin`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookStart {
    /// It is recorded as begun just now.
    Started,
    /// It was begun before and has not ended: its job exists, or is to be made again under the same name.
    AlreadyRunning,
    /// It has ended.
    Finished {
        /// Whether it succeeded.
        ok: bool,
    },
}

/// One run of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRun {
    /// The deploy it belongs to.
    pub deploy: Uuid,
    /// The phase.
    pub phase: Phase,
    /// Its name, unique in the phase.
    pub name: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether it succeeded, once it has ended.
    pub ok: Option<bool>,
    /// What it ended with, for people.
    pub message: Option<String>,
}

struct HookRow {
    deploy_id: Uuid,
    phase: String,
    name: String,
    started_at: SqlTimestamp,
    finished_at: Option<SqlTimestamp>,
    ok: Option<bool>,
    message: Option<String>,
}

impl TryFrom<HookRow> for HookRun {
    type Error = StoreError;

    fn try_from(row: HookRow) -> Result<Self, StoreError> {
        let phase = [Phase::BeforeStart, Phase::BeforeTraffic, Phase::Verify, Phase::AfterSuccess]
            .into_iter()
            .find(|phase| phase.word() == row.phase)
            .ok_or_else(|| {
                let why = format!("`{}` is not a phase", row.phase);
                StoreError::corrupt("hook run", &row.name, &why)
            })?;
        Ok(Self {
            deploy: row.deploy_id,
            phase,
            name: row.name,
            started_at: row.started_at.to_jiff(),
            finished_at: row.finished_at.map(SqlTimestamp::to_jiff),
            ok: row.ok,
            message: row.message,
        })
    }
}

impl Store {
    /// Records that a hook begins, unless it has begun before. Call it before making the job; the job's name must follow
    /// from the same three, so that a crash in between makes it once.
    pub async fn hook_begin(
        &self,
        deploy: Uuid,
        phase: Phase,
        name: &str,
        at: Timestamp,
    ) -> Result<HookStart, StoreError> {
        let row = sqlx::query!(
            r#"WITH begun AS (
                   INSERT INTO hook_runs (deploy_id, phase, name, started_at) SELECT $1, $2, $3, $4 WHERE leads($5, $6)
                   ON CONFLICT DO NOTHING RETURNING name
               )
               SELECT EXISTS (SELECT FROM begun) AS "begun!",
                      (SELECT ok FROM hook_runs WHERE deploy_id = $1 AND phase = $2 AND name = $3) AS ok"#,
            deploy,
            phase.word(),
            name,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(match (row.begun, row.ok) {
            (true, _) => HookStart::Started,
            (false, Some(ok)) => HookStart::Finished { ok },
            (false, None) => HookStart::AlreadyRunning,
        })
    }

    /// Records how a hook ended. The first report counts; `false` means that it had been reported before.
    pub async fn hook_finish(
        &self,
        deploy: Uuid,
        phase: Phase,
        name: &str,
        ok: bool,
        message: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let ended = sqlx::query!(
            "UPDATE hook_runs SET finished_at = $6, ok = $4, message = $5
             WHERE deploy_id = $1 AND phase = $2 AND name = $3 AND finished_at IS NULL AND leads($7, $8)",
            deploy,
            phase.word(),
            name,
            ok,
            &*storable(message),
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(ended.rows_affected() > 0)
    }

    /// The hooks of a deploy that have begun, in order.
    pub async fn hooks_list(&self, deploy: Uuid) -> Result<Vec<HookRun>, StoreError> {
        self.hooks_of(&self.pool, &[deploy]).await
    }

    pub(super) async fn hooks_of(
        &self,
        executor: impl PgExecutor<'_>,
        deploys: &[Uuid],
    ) -> Result<Vec<HookRun>, StoreError> {
        let rows = sqlx::query_as!(
            HookRow,
            r#"SELECT deploy_id, phase, name, started_at AS "started_at: SqlTimestamp",
                      finished_at AS "finished_at: SqlTimestamp", ok, message
               FROM hook_runs WHERE deploy_id = ANY ($1) ORDER BY deploy_id, started_at, phase, name"#,
            deploys
        )
        .fetch_all(executor)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(HookRun::try_from).collect()
    }
}
