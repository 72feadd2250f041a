//! What people ask of stages: written down with its audit entry by whoever takes it, worked on and settled by the leader.

mod settle;

pub use settle::{LifeChange, NewHold, Settlement};

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::json;
use sqlx::{PgConnection, postgres::PgListener, types::Json};
use uuid::Uuid;

use super::{Store, StoreError, text::storable};
use crate::domain::{
    actor::Actor,
    request::{Action, Origin, RequestState, Via},
    share::Share,
};

/// Where it is told that a request was settled.
const CHANNEL: &str = "stagekeeper_requests";

/// Something that is asked of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Identity, made by whoever takes it: taking it again is taking it once.
    pub id: Uuid,
    /// Kubernetes namespace of the stage.
    pub namespace: String,
    /// Its name.
    pub stage: String,
    /// What is asked.
    pub action: Action,
    /// Who asks, as authentication says.
    pub actor: Actor,
    /// Their groups.
    pub groups: Vec<String>,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// How it came.
    pub origin: Origin,
    /// What the caller calls it: the same again from the same actor is one request.
    pub idempotency_key: Option<String>,
    /// The group action that it is part of.
    pub group: Option<Uuid>,
    /// When.
    pub at: Timestamp,
}

/// What became of a [`NewRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It waits for the leader.
    Made(StoredRequest),
    /// It was asked before, in the same words.
    Repeated(StoredRequest),
    /// Its idempotency key was used before, for something else.
    Reused,
}

/// A request as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// Identity.
    pub id: Uuid,
    /// The stage's row.
    pub target: Uuid,
    /// Kubernetes namespace of the stage.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub stage: String,
    /// What is asked.
    pub action: Action,
    /// Who asked.
    pub actor: Actor,
    /// Their groups.
    pub groups: Vec<String>,
    /// Why.
    pub reason: String,
    /// How it came.
    pub origin: Origin,
    /// The group action that it is part of.
    pub group: Option<Uuid>,
    /// How far it has come.
    pub state: RequestState,
    /// What became of it, in one sentence.
    pub message: Option<String>,
    /// The deploy that came of it, or that it was about.
    pub deploy: Option<Uuid>,
    /// When it was asked.
    pub at: Timestamp,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
}

struct RequestRow {
    id: Uuid,
    target_id: Uuid,
    namespace: String,
    project: String,
    stage: String,
    action: Json<Action>,
    actor: String,
    groups: Vec<String>,
    reason: String,
    via: String,
    verified: bool,
    source: Option<String>,
    caller_id: Option<String>,
    group_id: Option<Uuid>,
    state: String,
    message: Option<String>,
    deploy_id: Option<Uuid>,
    at: SqlTimestamp,
    settled_at: Option<SqlTimestamp>,
}

impl TryFrom<RequestRow> for StoredRequest {
    type Error = StoreError;

    fn try_from(row: RequestRow) -> Result<Self, StoreError> {
        let id = row.id;
        let via: Via = row.via.parse().map_err(|why: String| StoreError::corrupt("request", &id, &why))?;
        let state = row.state.parse().map_err(|why: String| StoreError::corrupt("request", &id, &why))?;
        Ok(Self {
            id,
            target: row.target_id,
            namespace: row.namespace,
            project: row.project,
            stage: row.stage,
            action: row.action.0,
            actor: row.actor.parse().map_err(|why| StoreError::corrupt("request", &id, &why))?,
            groups: row.groups,
            reason: row.reason,
            origin: Origin { via, verified: row.verified, source: row.source, request_id: row.caller_id },
            group: row.group_id,
            state,
            message: row.message,
            deploy: row.deploy_id,
            at: row.at.to_jiff(),
            settled_at: row.settled_at.map(SqlTimestamp::to_jiff),
        })
    }
}

/// `query_as!` for rows of `requests AS r`: the text after the joins, then its arguments.
macro_rules! requests {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RequestRow,
            r#"SELECT r.id, r.target_id, s.namespace, p.name AS project, s.name AS stage, r.action AS "action: _", r.actor,
                      r.groups, r.reason, r.via, r.verified, r.source, r.caller_id, r.group_id, r.state, r.message,
                      r.deploy_id, r.at AS "at: _", r.settled_at AS "settled_at: _"
               FROM requests AS r JOIN stages AS s ON s.id = r.target_id JOIN projects AS p ON p.id = s.project_id "# + $rest
            $(, $argument)*
        )
    };
}

impl Store {
    /// Writes down what is asked, with its audit entry; the leader hears of it.
    ///
    /// # Errors
    /// There is no such stage.
    pub async fn request_create(&self, new: &NewRequest) -> Result<Asked, StoreError> {
        let mut own = self.pool.acquire().await.map_err(|error| self.fault(error))?;
        self.request_create_on(&mut own, new).await
    }

    /// [`Store::request_create`] within a transaction.
    pub(super) async fn request_create_on(
        &self,
        connection: &mut PgConnection,
        new: &NewRequest,
    ) -> Result<Asked, StoreError> {
        let details = json!({
            "request": new.id,
            "group": new.group,
            "action": new.action,
            "reason": storable(&new.reason),
            "groups": new.groups,
            "via": new.origin.via.word(),
            "verified": new.origin.verified,
            "source": new.origin.source,
            "requestId": new.origin.request_id,
        });
        let row = sqlx::query!(
            r#"WITH place AS (
                   SELECT id, namespace, name FROM stages WHERE namespace = $2 AND name = $3 AND deleted_at IS NULL
               ), made AS (
                   INSERT INTO requests (id, target_id, action, actor, groups, reason, via, verified, source, caller_id,
                                         idempotency_key, group_id, at)
                   SELECT $1, place.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 FROM place
                   ON CONFLICT DO NOTHING
                   RETURNING id
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $14, $5, 'stage.' || $15, 'stage/' || place.namespace || '/' || place.name,
                          $16 || jsonb_build_object('target', place.id)
                   FROM made, place
               )
               SELECT EXISTS (SELECT FROM place) AS "found!", EXISTS (SELECT FROM made) AS "made!""#,
            new.id,
            new.namespace,
            new.stage,
            Json(&new.action) as _,
            new.actor.to_string(),
            &new.groups,
            &*storable(&new.reason),
            new.origin.via.word(),
            new.origin.verified,
            new.origin.source,
            new.origin.request_id,
            new.idempotency_key,
            new.group,
            new.at.to_sqlx() as SqlTimestamp,
            new.action.word(),
            details
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| self.fault(error))?;
        if !row.found {
            return Err(StoreError::not_found("stage", &format!("{}/{}", new.namespace, new.stage)));
        }
        let stored = requests!(
            "WHERE r.id = $1 OR (r.actor = $2 AND r.idempotency_key = $3)",
            new.id,
            new.actor.to_string(),
            new.idempotency_key
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| self.fault(error))?;
        let stored = StoredRequest::try_from(stored)?;
        let same = stored.namespace == new.namespace && stored.stage == new.stage && stored.action == new.action;
        Ok(match (row.made, same) {
            (true, _) => Asked::Made(stored),
            (false, true) => Asked::Repeated(stored),
            (false, false) => Asked::Reused,
        })
    }

    /// A request.
    pub async fn request_get(&self, id: Uuid) -> Result<Option<StoredRequest>, StoreError> {
        let row = requests!("WHERE r.id = $1", id).fetch_optional(&self.pool).await;
        row.map_err(|error| self.fault(error))?.map(StoredRequest::try_from).transpose()
    }

    /// What was asked of a stage, newest first; `before` is the last of the page before.
    pub async fn requests_list(
        &self,
        target: Uuid,
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<StoredRequest>, StoreError> {
        let rows = requests!(
            "WHERE r.target_id = $1 AND (r.at, r.id) < (
                 coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
             ORDER BY r.at DESC, r.id DESC LIMIT $4",
            target,
            before.map(|(at, _)| at.to_sqlx()) as Option<SqlTimestamp>,
            before.map(|(_, id)| id),
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredRequest::try_from).collect()
    }

    /// What waits for the leader, in the order in which it was asked, but for those that are `known`.
    pub async fn requests_pending(
        &self,
        share: &Share,
        known: &[Uuid],
        limit: i64,
    ) -> Result<Vec<StoredRequest>, StoreError> {
        let rows = requests!(
            "WHERE r.state = 'pending' AND r.id <> ALL ($2) AND in_share(s.namespace, $1, $4, $5)
                 AND s.deleted_at IS NULL
             ORDER BY r.id LIMIT $3",
            share.listed(),
            known,
            limit,
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredRequest::try_from).collect()
    }

    /// The request when it is settled, or as it is after `patience`. Hears of it, and does not ask again and again.
    ///
    /// # Errors
    /// There is no such request; the database is away.
    pub async fn request_settled(&self, id: Uuid, patience: Duration) -> Result<StoredRequest, StoreError> {
        let deadline = tokio::time::Instant::now() + patience;
        let options = self.pool.options().clone().min_connections(0).max_connections(1);
        let own = options.connect_lazy_with((*self.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await.map_err(|error| self.fault(error))?;
        listener.listen(CHANNEL).await.map_err(|error| self.fault(error))?;
        loop {
            let request =
                self.request_get(id).await?.ok_or_else(|| StoreError::not_found("request", &id.to_string()))?;
            if request.state != RequestState::Pending {
                return Ok(request);
            }
            loop {
                match tokio::time::timeout_at(deadline, listener.recv()).await {
                    Err(_) => return Ok(request),
                    Ok(Err(error)) => return Err(self.fault(error)),
                    Ok(Ok(told)) if told.payload() == id.to_string() => break,
                    Ok(Ok(_)) => {}
                }
            }
        }
    }
}
