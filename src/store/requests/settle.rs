//! Settling requests: each in one statement with its effect, so that both are true or neither.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

use crate::{
    domain::{
        actor::Actor,
        release::{Release, ReleaseId},
    },
    store::{Store, StoreError, text::storable},
};

/// A request that is settled together with something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The request.
    pub request: Uuid,
    /// What became of it, in one sentence.
    pub message: String,
}

/// A hold to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHold {
    /// Identity.
    pub id: Uuid,
    /// Whose it is: it takes the place of an earlier one of the same owner.
    pub owner: String,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// Until when; none is until somebody resumes.
    pub expires_at: Option<Timestamp>,
    /// The release that was left, where going back made the hold.
    pub from: Option<Release>,
    /// Hash of the snapshot that the declarations make of the release gone back to.
    pub settled_on: Option<String>,
    /// Tags and digests that are declared for services.
    pub declared: Option<BTreeMap<String, String>>,
}

/// What a request changes in the life of an environment; what is none stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LifeChange {
    /// When somebody asked that it wakes.
    pub wake_asked: Option<Timestamp>,
    /// When somebody asked that it sleeps.
    pub sleep_asked: Option<Timestamp>,
    /// Until when it is extended.
    pub extended: Option<Timestamp>,
    /// Whether it ends by itself.
    pub pinned: Option<bool>,
    /// Since when its end is decided.
    pub ending: Option<Timestamp>,
}

impl Store {
    /// Changes the life of an environment as it was asked for. False if the request was settled before.
    pub async fn request_life(
        &self,
        settlement: &Settlement,
        change: LifeChange,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = |at: Option<Timestamp>| at.map(Timestamp::to_sqlx);
        sqlx::query_scalar!(
            r#"WITH settled AS (
                   UPDATE requests SET state = 'done', message = $2, settled_at = $3
                   WHERE id = $1 AND state = 'pending' AND leads($9, $10)
                   RETURNING target_id, actor
               ), changed AS (
                   UPDATE environments AS e
                   SET wake_asked_at = coalesce($4, wake_asked_at),
                       sleep_asked_at = coalesce($5, sleep_asked_at),
                       extended_until = greatest(extended_until, $6),
                       pinned = coalesce($7, pinned),
                       ending_since = coalesce(ending_since, $8),
                       ending_because = CASE WHEN ending_since IS NULL AND $8 IS NOT NULL
                                             THEN 'asked for by ' || settled.actor ELSE ending_because END
                   FROM settled WHERE e.id = settled.target_id
               )
               SELECT EXISTS (SELECT FROM settled) AS "settled!""#,
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            sql(change.wake_asked) as Option<SqlTimestamp>,
            sql(change.sleep_asked) as Option<SqlTimestamp>,
            sql(change.extended) as Option<SqlTimestamp>,
            change.pinned,
            sql(change.ending) as Option<SqlTimestamp>,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Says that a request cannot be done, and why. False if it was settled before.
    pub async fn request_refuse(&self, settlement: &Settlement, at: Timestamp) -> Result<bool, StoreError> {
        let refused = sqlx::query!(
            "UPDATE requests SET state = 'refused', message = $2, settled_at = $3
             WHERE id = $1 AND state = 'pending' AND leads($4, $5)",
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(refused.rows_affected() > 0)
    }

    /// Records that whoever asked agrees to a release. False if the request was settled before.
    pub async fn request_approve(
        &self,
        settlement: &Settlement,
        approval: Uuid,
        release: &ReleaseId,
        expires_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"WITH settled AS (
                   UPDATE requests SET state = 'done', message = $2, settled_at = $3
                   WHERE id = $1 AND state = 'pending' AND leads($7, $8)
                   RETURNING target_id, actor, groups, verified, reason
               ), given AS (
                   INSERT INTO approvals (id, target_id, release_id, actor, groups, verified, reason, at, expires_at)
                   SELECT $4, target_id, $5, actor, groups, verified, reason, $3, $6 FROM settled
                   ON CONFLICT (target_id, release_id, actor) WHERE withdrawn_at IS NULL DO UPDATE
                   SET groups = excluded.groups, verified = excluded.verified, reason = excluded.reason,
                       at = excluded.at, expires_at = excluded.expires_at
               )
               SELECT EXISTS (SELECT FROM settled) AS "settled!""#,
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            approval,
            release.0,
            expires_at.map(Timestamp::to_sqlx) as Option<SqlTimestamp>,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Records the hold that was asked for. False if the request was settled before.
    pub async fn request_hold(
        &self,
        settlement: &Settlement,
        hold: &NewHold,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"WITH settled AS (
                   UPDATE requests SET state = 'done', message = $2, settled_at = $3
                   WHERE id = $1 AND state = 'pending' AND leads($12, $13)
                   RETURNING target_id
               ), held AS (
                   INSERT INTO holds (id, target_id, owner, actor, reason, at, expires_at, from_images, settled_on, declared)
                   SELECT $4, target_id, $5, $6, $7, $3, $8, $9, $10, $11 FROM settled
                   ON CONFLICT (target_id, owner) WHERE lifted_at IS NULL DO UPDATE
                   SET actor = excluded.actor, reason = excluded.reason, at = excluded.at,
                       expires_at = excluded.expires_at, from_images = excluded.from_images,
                       settled_on = excluded.settled_on, declared = excluded.declared
               )
               SELECT EXISTS (SELECT FROM settled) AS "settled!""#,
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            hold.id,
            hold.owner,
            hold.actor.to_string(),
            &*storable(&hold.reason),
            hold.expires_at.map(Timestamp::to_sqlx) as Option<SqlTimestamp>,
            hold.from.as_ref().map(Json) as _,
            hold.settled_on,
            hold.declared.as_ref().map(Json) as _,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Ends the holds of one owner, or all. False if the request was settled before.
    pub async fn request_resume(
        &self,
        settlement: &Settlement,
        owner: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"WITH settled AS (
                   UPDATE requests SET state = 'done', message = $2, settled_at = $3
                   WHERE id = $1 AND state = 'pending' AND leads($5, $6)
                   RETURNING target_id, actor, reason
               ), lifted AS (
                   UPDATE holds SET lifted_at = $3, lifted_by = settled.actor, lifted_because = settled.reason
                   FROM settled
                   WHERE holds.target_id = settled.target_id AND holds.lifted_at IS NULL
                       AND ($4::text IS NULL OR holds.owner = $4)
               )
               SELECT EXISTS (SELECT FROM settled) AS "settled!""#,
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            owner,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Keeps a release away from the stage. False if the request was settled before.
    pub async fn request_veto(
        &self,
        settlement: &Settlement,
        veto: Uuid,
        release: &ReleaseId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"WITH settled AS (
                   UPDATE requests SET state = 'done', message = $2, settled_at = $3
                   WHERE id = $1 AND state = 'pending' AND leads($6, $7)
                   RETURNING target_id, actor, reason
               ), vetoed AS (
                   INSERT INTO vetoes (id, target_id, release_id, deploy_id, reason, actor, at)
                   SELECT $4, settled.target_id, $5,
                          (SELECT d.id FROM deploys AS d
                           WHERE d.target_id = settled.target_id AND d.state = 'success' AND d.release_id = $5
                           ORDER BY d.finished_at DESC LIMIT 1),
                          settled.reason, settled.actor, $3
                   FROM settled
                   ON CONFLICT (target_id, release_id) WHERE lifted_at IS NULL DO NOTHING
               )
               SELECT EXISTS (SELECT FROM settled) AS "settled!""#,
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            veto,
            release.0,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Lifts the veto of a release on the stage. False if the request was settled before.
    pub async fn request_unveto(
        &self,
        settlement: &Settlement,
        release: &ReleaseId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"WITH settled AS (
                   UPDATE requests SET state = 'done', message = $2, settled_at = $3
                   WHERE id = $1 AND state = 'pending' AND leads($5, $6)
                   RETURNING target_id, actor
               ), lifted AS (
                   UPDATE vetoes SET lifted_at = $3, lifted_by = settled.actor FROM settled
                   WHERE vetoes.target_id = settled.target_id AND vetoes.release_id = $4 AND vetoes.lifted_at IS NULL
               )
               SELECT EXISTS (SELECT FROM settled) AS "settled!""#,
            settlement.request,
            &*storable(&settlement.message),
            at.to_sqlx() as SqlTimestamp,
            release.0,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }
}
