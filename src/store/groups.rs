//! Group actions: written down with the requests of all members, and begun for all of them in one transaction.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Advance, Asked, NewRequest, Proof, Store, StoreError, text::storable};
use crate::domain::{
    actor::Actor,
    deploy::UnknownState,
    group::{Member, MemberDeploy, OnFailure},
    release::ReleaseId,
    request::{Action, Origin},
};

/// Something that is asked of several stages at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    /// Identity.
    pub id: Uuid,
    /// Kubernetes namespace of all its stages.
    pub namespace: String,
    /// What is asked of each.
    pub action: Action,
    /// What becomes of the others when one does not succeed.
    pub on_failure: OnFailure,
    /// Who asks, as authentication says.
    pub actor: Actor,
    /// Their groups.
    pub groups: Vec<String>,
    /// Why, in their words.
    pub reason: String,
    /// How it came.
    pub origin: Origin,
    /// Its stages, each with the identity of its request.
    pub stages: Vec<(String, Uuid)>,
    /// When.
    pub at: Timestamp,
}

/// A group action as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGroup {
    /// Identity.
    pub id: Uuid,
    /// Kubernetes namespace of all its stages.
    pub namespace: String,
    /// What was asked of each.
    pub action: Action,
    /// What becomes of the others when one does not succeed.
    pub on_failure: OnFailure,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// When its deploys left pending.
    pub started_at: Option<Timestamp>,
    /// Its stages, by name.
    pub members: Vec<Member>,
}

/// A deploy of a group that leaves pending.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// Its step.
    pub advance: Advance,
    /// Its stage's row.
    pub target: Uuid,
    /// The stages that its release comes from.
    pub from: &'a [String],
    /// Its release.
    pub release: ReleaseId,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BegunTogether {
    /// The new versions of the rows, in the order in which they were given.
    Moved(Vec<i64>),
    /// A gate is closed: nothing has changed.
    Waits,
}

impl Store {
    /// Writes down what is asked of all stages of a group, with an audit entry for each; the leader hears of it. All of it
    /// or nothing.
    ///
    /// # Errors
    /// One of the stages does not exist.
    pub async fn group_create(&self, new: &NewGroup) -> Result<(), StoreError> {
        let mut all = self.pool.begin().await.map_err(|error| self.fault(error))?;
        sqlx::query!(
            "INSERT INTO deploy_groups (id, namespace, action, actor, reason, on_failure, size, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            new.id,
            new.namespace,
            Json(&new.action) as _,
            new.actor.to_string(),
            &*storable(&new.reason),
            new.on_failure.word(),
            i32::try_from(new.stages.len()).unwrap_or(i32::MAX),
            new.at.to_sqlx() as SqlTimestamp,
        )
        .execute(&mut *all)
        .await
        .map_err(|error| self.fault(error))?;
        for (stage, id) in &new.stages {
            let request = NewRequest {
                id: *id,
                namespace: new.namespace.clone(),
                stage: stage.clone(),
                action: new.action.clone(),
                actor: new.actor.clone(),
                groups: new.groups.clone(),
                reason: new.reason.clone(),
                origin: new.origin.clone(),
                idempotency_key: None,
                group: Some(new.id),
                at: new.at,
            };
            match self.request_create_on(&mut *all, &request).await? {
                Asked::Made(_) => {}
                Asked::Repeated(_) | Asked::Reused => {
                    return Err(StoreError::Conflict(format!("request {id} was made before")));
                }
            }
        }
        all.commit().await.map_err(|error| self.fault(error))
    }

    /// A group and how far its members have come. Three reads by key.
    pub async fn group_get(&self, id: Uuid) -> Result<Option<StoredGroup>, StoreError> {
        let found = sqlx::query!(
            r#"SELECT namespace, action AS "action: Json<Action>", on_failure, actor, reason, at AS "at: SqlTimestamp",
                      started_at AS "started_at: SqlTimestamp"
               FROM deploy_groups WHERE id = $1"#,
            id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let Some(row) = found else {
            return Ok(None);
        };
        let corrupt = |why: String| StoreError::corrupt("group", &id, &why);
        Ok(Some(StoredGroup {
            id,
            namespace: row.namespace,
            action: row.action.0,
            on_failure: row.on_failure.parse().map_err(corrupt)?,
            actor: row.actor.parse().map_err(|why| StoreError::corrupt("group", &id, &why))?,
            reason: row.reason,
            at: row.at.to_jiff(),
            started_at: row.started_at.map(SqlTimestamp::to_jiff),
            members: self.members(id).await?,
        }))
    }

    async fn members(&self, group: Uuid) -> Result<Vec<Member>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT s.name, s.deleted_at IS NOT NULL AS "gone!", r.state, r.message, d.id AS "deploy?", d.state AS "deploy_state?",
                      d.message AS "deploy_message?",
                      EXISTS (SELECT FROM deploys AS back WHERE back.rollback_of = d.id) AS "undone!"
               FROM requests AS r JOIN stages AS s ON s.id = r.target_id
               LEFT JOIN deploys AS d ON d.id = r.deploy_id
               WHERE r.group_id = $1 ORDER BY s.name"#,
            group
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let members = rows.into_iter().map(|row| {
            let corrupt = |why: String| StoreError::corrupt("group", &group, &why);
            let unknown = |why: UnknownState| StoreError::corrupt("group", &group, &why.to_string());
            let deploy = match (row.deploy, row.deploy_state) {
                (Some(id), Some(state)) => Some(MemberDeploy {
                    id,
                    state: state.parse().map_err(unknown)?,
                    message: row.deploy_message,
                    undone: row.undone,
                }),
                _ => None,
            };
            Ok(Member {
                stage: row.name,
                gone: row.gone,
                request: row.state.parse().map_err(corrupt)?,
                message: row.message,
                deploy,
            })
        });
        members.collect()
    }

    /// What was asked of several stages of a namespace, newest first; `before` is the last of the page before.
    pub async fn groups_list(
        &self,
        namespace: &str,
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query_scalar!(
            "SELECT id FROM deploy_groups
             WHERE namespace = $1 AND (at, id) < (
                 coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
             ORDER BY at DESC, id DESC LIMIT $4",
            namespace,
            before.map(|(at, _)| at.to_sqlx()) as Option<SqlTimestamp>,
            before.map(|(_, id)| id),
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Takes all deploys of a group out of `pending`, if `open` says so of each by what is known of its release in the same
    /// transaction: all of them or none.
    ///
    /// # Errors
    /// Those of [`Store::deploy_advance`]; a conflict if the group has begun already, or has other members than these.
    pub async fn group_begin(
        &self,
        group: Uuid,
        members: &[Beginning<'_>],
        at: Timestamp,
        mut open: impl FnMut(usize, &Proof) -> bool + Send,
    ) -> Result<BegunTogether, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        let mut all = self.pool.begin_with(begin).await.map_err(|error| self.fault(error))?;
        for (place, member) in members.iter().enumerate() {
            let release = std::slice::from_ref(&member.release);
            let mut found = self.proofs_on(&mut *all, member.target, member.from, release).await?;
            let proof = found.pop().unwrap_or_else(|| Proof::none(member.release.clone()));
            if !open(place, &proof) {
                all.rollback().await.map_err(|error| self.fault(error))?;
                return Ok(BegunTogether::Waits);
            }
        }
        let ids: Vec<Uuid> = members.iter().map(|member| member.advance.id).collect();
        let begun = sqlx::query!(
            "UPDATE deploy_groups SET started_at = $3
             WHERE id = $1 AND started_at IS NULL AND size = cardinality($2::uuid[]) AND leads($4, $5)
                 AND size = (SELECT count(*) FROM requests WHERE group_id = $1 AND deploy_id = ANY ($2))",
            group,
            &ids,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&mut *all)
        .await
        .map_err(|error| self.fault(error))?;
        if begun.rows_affected() == 0 {
            return Err(StoreError::Conflict(format!("group {group} has begun, or has changed")));
        }
        let mut versions = Vec::with_capacity(members.len());
        for member in members {
            versions.push(self.deploy_advance_on(&mut *all, &member.advance).await?);
        }
        all.commit().await.map_err(|error| self.fault(error))?;
        Ok(BegunTogether::Moved(versions))
    }
}
