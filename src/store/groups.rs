//! Group actions: written down with the requests of all members, and begun for all of them in one transaction.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Advance, Asked, NewRequest, Proof, Store, StoreError, text::storable};
use crate::domain::{
    actor::{Actor, UnknownActor},
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

/// A group, and one of its members.
struct MemberRow {
    id: Uuid,
    namespace: String,
    action: Json<Action>,
    on_failure: String,
    actor: String,
    reason: String,
    at: SqlTimestamp,
    started_at: Option<SqlTimestamp>,
    stage: Option<String>,
    gone: bool,
    request: Option<String>,
    message: Option<String>,
    deploy: Option<Uuid>,
    deploy_state: Option<String>,
    deploy_message: Option<String>,
    finished: bool,
    undone: bool,
}

impl MemberRow {
    /// The member; none when its stage was purged with everything that it had.
    fn member(self) -> Result<Option<Member>, String> {
        let (Some(stage), Some(request)) = (self.stage, self.request) else {
            return Ok(None);
        };
        let deploy = match (self.deploy, self.deploy_state) {
            (Some(id), Some(state)) => Some(MemberDeploy {
                id,
                state: state.parse().map_err(|why: UnknownState| why.to_string())?,
                message: self.deploy_message,
                finished: self.finished,
                undone: self.undone,
            }),
            _ => None,
        };
        Ok(Some(Member { stage, gone: self.gone, request: request.parse()?, message: self.message, deploy }))
    }
}

/// Rows of one group after the other become groups.
fn stored(rows: Vec<MemberRow>) -> Result<Vec<StoredGroup>, StoreError> {
    let mut groups: Vec<StoredGroup> = Vec::new();
    for row in rows {
        let corrupt = |why: String| StoreError::corrupt("group", &row.id, &why);
        if groups.last().is_none_or(|last| last.id != row.id) {
            groups.push(StoredGroup {
                id: row.id,
                namespace: row.namespace.clone(),
                action: row.action.0.clone(),
                on_failure: row.on_failure.parse().map_err(corrupt)?,
                actor: row.actor.parse().map_err(|why: UnknownActor| corrupt(why.to_string()))?,
                reason: row.reason.clone(),
                at: row.at.to_jiff(),
                started_at: row.started_at.map(SqlTimestamp::to_jiff),
                members: Vec::new(),
            });
        }
        let id = row.id;
        let member = row.member().map_err(|why| StoreError::corrupt("group", &id, &why))?;
        groups.last_mut().into_iter().for_each(|group| group.members.extend(member.clone()));
    }
    Ok(groups)
}

/// `query_as!` for groups and their members: the text after the joins, then its arguments.
macro_rules! groups {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            MemberRow,
            r#"SELECT g.id, g.namespace, g.action AS "action: Json<Action>", g.on_failure, g.actor, g.reason,
                      g.at AS "at: SqlTimestamp", g.started_at AS "started_at: SqlTimestamp",
                      s.name AS "stage?", s.deleted_at IS NOT NULL AS "gone!", r.state AS "request?", r.message AS "message?",
                      d.id AS "deploy?", d.state AS "deploy_state?", d.message AS "deploy_message?",
                      d.finished_at IS NOT NULL AS "finished!",
                      EXISTS (SELECT FROM deploys AS back WHERE back.rollback_of = d.id) AS "undone!"
               FROM deploy_groups AS g
               LEFT JOIN requests AS r ON r.group_id = g.id
               LEFT JOIN stages AS s ON s.id = r.target_id
               LEFT JOIN deploys AS d ON d.id = r.deploy_id "# + $rest
            $(, $argument)*
        )
    };
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
            match self.request_create_on(&mut all, &request).await? {
                Asked::Made(_) => {}
                Asked::Repeated(_) | Asked::Reused => {
                    return Err(StoreError::Conflict(format!("request {id} was made before")));
                }
            }
        }
        all.commit().await.map_err(|error| self.fault(error))
    }

    /// A group and how far its members have come, all as of one instant. One read by key.
    pub async fn group_get(&self, id: Uuid) -> Result<Option<StoredGroup>, StoreError> {
        let rows = groups!("WHERE g.id = $1 ORDER BY s.name", id).fetch_all(&self.pool).await;
        Ok(stored(rows.map_err(|error| self.fault(error))?)?.pop())
    }

    /// What was asked of several stages of a namespace, newest first; `before` is the last of the page before. One read.
    pub async fn groups_list(
        &self,
        namespace: &str,
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<StoredGroup>, StoreError> {
        let rows = groups!(
            "JOIN (
                 SELECT id FROM deploy_groups
                 WHERE namespace = $1 AND (at, id) < (
                     coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
                 ORDER BY at DESC, id DESC LIMIT $4) AS page ON page.id = g.id
             ORDER BY g.at DESC, g.id DESC, s.name",
            namespace,
            before.map(|(at, _)| at.to_sqlx()) as Option<SqlTimestamp>,
            before.map(|(_, id)| id),
            limit
        )
        .fetch_all(&self.pool)
        .await;
        stored(rows.map_err(|error| self.fault(error))?)
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
