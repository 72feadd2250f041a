//! Writing down a deploy that the cluster serves and whose row was lost: with a failover, with a restore.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::Creation;
use crate::{
    domain::{actor::Actor, release::Release},
    store::{Store, StoreError, text::storable},
};

/// A deploy that was found to serve.
#[derive(Debug, Clone, PartialEq)]
pub struct Adopted {
    /// Its identity, as the cluster tells it.
    pub id: Uuid,
    /// Where it serves.
    pub target: Uuid,
    /// Its place among the target's deploys: one more than the latest that is known.
    pub sequence: i64,
    /// What runs.
    pub release: Release,
    /// Content hash of `snapshot`.
    pub snapshot_hash: String,
    /// Everything it is rendered from.
    pub snapshot: Value,
    /// Name of the instance.
    pub instance: String,
    /// Names of its `afterSuccess` hooks, which are not run again.
    pub hooks: Vec<String>,
    /// What was found, in one sentence.
    pub cause: String,
    /// The time.
    pub now: Timestamp,
    /// The caller's leader epoch.
    pub epoch: i64,
}

impl Store {
    /// Records the deploy as a success, its instance as running, and both in the audit log; a veto of its release is
    /// lifted, because it serves. Doing it twice is doing it once. Errors: the target does not exist.
    pub async fn deploy_adopt(&self, found: &Adopted) -> Result<Creation, StoreError> {
        let release = found.release.id();
        let details = json!({
            "target": found.target,
            "sequence": found.sequence,
            "release": release,
            "summary": found.release.summary(),
            "cause": storable(&found.cause),
        });
        let row = sqlx::query!(
            r#"WITH place AS (
                   SELECT t.id, t.project_id FROM targets AS t
                   WHERE t.id = $2 AND ($3::bigint = 1 OR EXISTS (
                       SELECT FROM deploys AS p
                       WHERE p.target_id = $2 AND p.sequence = $3 - 1 AND p.epoch <= $12))
                       AND leads($15, $16)
               ), release AS (
                   INSERT INTO releases (project_id, id, images) SELECT project_id, $4, $5 FROM place
                   ON CONFLICT DO NOTHING
               ), snapshot AS (
                   INSERT INTO snapshots (project_id, hash, content) SELECT project_id, $6, $7 FROM place
                   ON CONFLICT DO NOTHING
               ), adopted AS (
                   INSERT INTO deploys (id, target_id, project_id, sequence, release_id, images, snapshot_hash,
                                        instance, actor, cause, state, since, created_at, finished_at, epoch)
                   SELECT $1, id, project_id, $3, $4, $5, $6, $8, $9, $10, 'success', $11, $11, $11, $12 FROM place
                   ON CONFLICT DO NOTHING
                   RETURNING id, target_id
               ), transition AS (
                   INSERT INTO deploy_transitions (deploy_id, version, step, to_state, actor, reason, message, at)
                   SELECT id, 1, 1, 'success', $9, 'Adopted', $10, $11 FROM adopted
               ), held AS (
                   INSERT INTO instances (target_id, name, deploy_id, status)
                   SELECT target_id, $8, id, 'running' FROM adopted
                   ON CONFLICT (target_id, name) DO UPDATE
                   SET deploy_id = excluded.deploy_id, status = excluded.status, deleted_at = NULL
               ), hooks AS (
                   INSERT INTO hook_runs (deploy_id, phase, name, started_at, finished_at, ok, message)
                   SELECT adopted.id, 'afterSuccess', hook.name, $11, $11, true, 'not run again: the deploy was adopted'
                   FROM adopted, UNNEST($13::text[]) AS hook (name)
               ), lifted AS (
                   UPDATE vetoes SET lifted_at = $11, lifted_by = $9 FROM adopted
                   WHERE vetoes.target_id = adopted.target_id AND vetoes.release_id = $4 AND vetoes.lifted_at IS NULL
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $11, $9, 'deploy.adopt', 'deploy/' || id, $14 FROM adopted
               )
               SELECT EXISTS (SELECT FROM adopted) AS "adopted!",
                      EXISTS (SELECT FROM targets WHERE id = $2) AS "target_exists!",
                      EXISTS (SELECT FROM deploys WHERE id = $1 AND target_id = $2 AND sequence = $3) AS "there!""#,
            found.id,
            found.target,
            found.sequence,
            release.0,
            Json(&found.release) as _,
            found.snapshot_hash,
            found.snapshot,
            found.instance,
            Actor::Controller.to_string(),
            &*storable(&found.cause),
            found.now.to_sqlx() as SqlTimestamp,
            found.epoch,
            &found.hooks[..],
            details,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if row.adopted || row.there {
            Ok(Creation::Created)
        } else if row.target_exists {
            Ok(Creation::Conflict)
        } else {
            Err(StoreError::not_found("target", &found.target))
        }
    }
}
