//! Deploys: their rows, how they are made, moved and read.

mod adopt;
mod advance;
mod create;
mod history;
mod load;
mod prune;
mod served;

pub use adopt::Adopted;
pub use advance::Advance;
pub use create::{Creation, NewDeploy, Provenance};
pub use history::{
    DeployDetail, HistoryCursor, HistoryEntry, HistoryFilter, HistoryPage, Place, time_in_states, whole_digest,
};
pub use load::{GoodDeploy, TargetState};
pub use served::{ImageRun, ServedFilter, ServedPage};

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::{
    actor::Actor,
    deploy::{Deploy, State},
    release::{Release, ReleaseId},
};

/// A deploy as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeploy {
    /// The deploy.
    pub deploy: Deploy,
    /// Its release, with the tags that people saw when they asked.
    pub release: Release,
    /// Token of the explicit request behind it: a pin at a generation, a retry annotation.
    pub request: Option<String>,
    /// The failed deploy that it tries again.
    pub retry_of: Option<Uuid>,
    /// The deploy of a stage before this one that proved the release.
    pub promoted_from: Option<Uuid>,
    /// The newer deploy that took its place.
    pub superseded_by: Option<Uuid>,
    /// The group action that it is part of.
    pub group: Option<Uuid>,
    /// Soak, approvals and windows are passed over.
    pub emergency: bool,
    /// The highest leader epoch that wrote it.
    pub epoch: i64,
}

/// A step of a deploy as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTransition {
    /// The deploy.
    pub deploy: Uuid,
    /// The state it left; `None` for the making of the deploy.
    pub from: Option<State>,
    /// The state it entered.
    pub to: State,
    /// Who.
    pub actor: Actor,
    /// One word from the transition table.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

pub(super) struct DeployRow {
    id: Uuid,
    target_id: Uuid,
    sequence: i64,
    release_id: String,
    images: Json<Release>,
    snapshot_hash: String,
    instance: String,
    state: String,
    since: SqlTimestamp,
    version: i64,
    epoch: i64,
    actor: String,
    cause: String,
    request: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    rollback_of: Option<Uuid>,
    retry_of: Option<Uuid>,
    promoted_from: Option<Uuid>,
    superseded_by: Option<Uuid>,
    group_id: Option<Uuid>,
    emergency: bool,
    evidence_at: Option<SqlTimestamp>,
    created_at: SqlTimestamp,
    finished_at: Option<SqlTimestamp>,
}

/// `query_as!` for rows of `deploys AS d`: the text after `FROM`, in parts, then its arguments.
macro_rules! deploys {
    (($($part:literal),+) $(, $argument:expr)* $(,)?) => {
        ::sqlx::query_as!(
            $crate::store::deploys::DeployRow,
            r#"SELECT d.id, d.target_id, d.sequence, d.release_id, d.images AS "images: _", d.snapshot_hash,
                      d.instance, d.state, d.since AS "since: _", d.version, d.epoch, d.actor, d.cause, d.request,
                      d.reason, d.message, d.rollback_of, d.retry_of, d.promoted_from, d.superseded_by, d.group_id,
                      d.emergency, d.evidence_at AS "evidence_at: _",
                      d.created_at AS "created_at: _", d.finished_at AS "finished_at: _"
               FROM "# $(+ $part)+
            $(, $argument)*
        )
    };
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        $crate::store::deploys::deploys!(($rest) $(, $argument)*)
    };
}
use deploys;

impl TryFrom<DeployRow> for StoredDeploy {
    type Error = StoreError;

    fn try_from(row: DeployRow) -> Result<Self, StoreError> {
        let state = (row.state.parse()).map_err(|why| StoreError::corrupt("deploy", &row.id, &why))?;
        let actor = (row.actor.parse()).map_err(|why| StoreError::corrupt("deploy", &row.id, &why))?;
        Ok(Self {
            deploy: Deploy {
                id: row.id,
                target: row.target_id,
                sequence: row.sequence,
                release: ReleaseId(row.release_id),
                snapshot: row.snapshot_hash,
                instance: row.instance,
                state,
                since: row.since.to_jiff(),
                version: row.version,
                actor,
                cause: row.cause,
                reason: row.reason,
                message: row.message,
                rollback_of: row.rollback_of,
                evidence_at: row.evidence_at.map(SqlTimestamp::to_jiff),
                created_at: row.created_at.to_jiff(),
                finished_at: row.finished_at.map(SqlTimestamp::to_jiff),
            },
            release: row.images.0,
            request: row.request,
            retry_of: row.retry_of,
            promoted_from: row.promoted_from,
            superseded_by: row.superseded_by,
            group: row.group_id,
            emergency: row.emergency,
            epoch: row.epoch,
        })
    }
}

struct TransitionRow {
    deploy_id: Uuid,
    from_state: Option<String>,
    to_state: String,
    actor: String,
    reason: String,
    message: String,
    at: SqlTimestamp,
}

impl TryFrom<TransitionRow> for StoredTransition {
    type Error = StoreError;

    fn try_from(row: TransitionRow) -> Result<Self, StoreError> {
        let corrupt = |why: String| StoreError::corrupt("transition of deploy", &row.deploy_id, &why);
        let state = |word: &str| word.parse::<State>().map_err(|why| corrupt(why.to_string()));
        Ok(Self {
            deploy: row.deploy_id,
            from: row.from_state.as_deref().map(state).transpose()?,
            to: state(&row.to_state)?,
            actor: (row.actor.parse::<Actor>()).map_err(|why| corrupt(why.to_string()))?,
            reason: row.reason,
            message: row.message,
            at: row.at.to_jiff(),
        })
    }
}

impl Store {
    /// The steps of a deploy in the order in which they were taken.
    pub async fn transitions_list(&self, deploy: Uuid) -> Result<Vec<StoredTransition>, StoreError> {
        self.transitions_of(&self.pool, &[deploy]).await
    }

    async fn transitions_of(
        &self,
        executor: impl PgExecutor<'_>,
        deploys: &[Uuid],
    ) -> Result<Vec<StoredTransition>, StoreError> {
        let rows = sqlx::query_as!(
            TransitionRow,
            r#"SELECT deploy_id, from_state, to_state, actor, reason, message, at AS "at: SqlTimestamp"
               FROM deploy_transitions WHERE deploy_id = ANY ($1) ORDER BY deploy_id, version, step"#,
            deploys
        )
        .fetch_all(executor)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredTransition::try_from).collect()
    }
}
