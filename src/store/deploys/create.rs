//! Making a deploy: one statement for the row, its release, its snapshot, its first transition, the updates that it is made
//! for and the audit entry.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    domain::{actor::Actor, release::Release, update::SeenUpdate},
    store::{
        NewHold, NewVeto, Settlement, Store, StoreError,
        text::storable,
        updates::{SeenRow, see},
    },
};

/// Where a deploy comes from, besides its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Provenance {
    /// The deploy that this one undoes.
    pub rollback_of: Option<Uuid>,
    /// The failed deploy that is tried again.
    pub retry_of: Option<Uuid>,
    /// The deploy of a stage before this one that proved the release.
    pub promoted_from: Option<Uuid>,
    /// The group action that it is part of.
    pub group: Option<Uuid>,
    /// Soak, approvals and windows are passed over.
    pub emergency: bool,
}

/// A deploy to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeploy {
    /// Identity, made by whoever asks: asking again with the same is asking once.
    pub id: Uuid,
    /// Where to.
    pub target: Uuid,
    /// Its place among the target's deploys: one more than the latest that was seen.
    pub sequence: i64,
    /// What is to run.
    pub release: Release,
    /// Content hash of `snapshot`.
    pub snapshot_hash: String,
    /// Everything it is rendered from.
    pub snapshot: Value,
    /// Name of the instance it makes or updates.
    pub instance: String,
    /// Who asks.
    pub actor: Actor,
    /// Why, in one sentence.
    pub cause: String,
    /// Token of an explicit request, which also lifts a veto of this release.
    pub request: Option<String>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// A veto of the release that it undoes, recorded with it.
    pub veto: Option<NewVeto>,
    /// The request that asked for it: settled with it. If it is settled already, nothing is made.
    pub settles: Option<Settlement>,
    /// A hold that begins with it, in the place of all others that a rollback made.
    pub hold: Option<NewHold>,
    /// Why all holds of the target that a rollback made end with it, where they do.
    pub lifts: Option<String>,
    /// The newer images that it is made for: they go on the update list with it.
    pub updates: Vec<SeenUpdate>,
    /// The time.
    pub now: Timestamp,
    /// The caller's leader epoch.
    pub epoch: i64,
}

/// What [`Store::deploy_create`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The deploy is there, pending and untouched: made now, or by an earlier call whose answer was lost.
    Created,
    /// The place is taken, the place before it is empty, or the deploy has moved on: read the target again.
    Conflict,
}

impl Store {
    /// Makes a deploy, or nothing at all. Errors: the target does not exist; a newer leader wrote the deploy before it.
    pub async fn deploy_create(&self, new: &NewDeploy) -> Result<Creation, StoreError> {
        let release = new.release.id();
        let details = json!({
            "target": new.target,
            "sequence": new.sequence,
            "release": release,
            "summary": new.release.summary(),
            "cause": storable(&new.cause),
            "after": new.release.digests(),
            "rollback_of": new.provenance.rollback_of,
            "retry_of": new.provenance.retry_of,
            "promoted_from": new.provenance.promoted_from,
            "request": new.settles.as_ref().map(|settles| settles.request),
            "held_by": new.hold.as_ref().map(|hold| &hold.owner),
        });
        let veto_reason = new.veto.as_ref().map(|veto| storable(&veto.reason));
        let hold = new.hold.as_ref();
        let row = see!(
            "WITH place AS (
                   SELECT t.id, t.project_id FROM targets AS t
                   WHERE t.id = $2 AND ($3::bigint = 1 OR EXISTS (
                       SELECT FROM deploys AS p
                       WHERE p.target_id = $2 AND p.sequence = $3 - 1 AND p.epoch <= $14))
                       AND leads($18, $19)
                       AND ($21::uuid IS NULL OR EXISTS (SELECT FROM requests WHERE id = $21 AND state = 'pending'))
               ), release AS (
                   INSERT INTO releases (project_id, id, images) SELECT project_id, $4, $5 FROM place
                   ON CONFLICT DO NOTHING
               ), snapshot AS (
                   INSERT INTO snapshots (project_id, hash, content) SELECT project_id, $6, $7 FROM place
                   ON CONFLICT DO NOTHING
               ), created AS (
                   INSERT INTO deploys (id, target_id, project_id, sequence, release_id, images, snapshot_hash,
                                        instance, actor, cause, request, rollback_of, state, since, created_at, epoch,
                                        retry_of, promoted_from, group_id, emergency)
                   SELECT $1, id, project_id, $3, $4, $5, $6, $8, $9, $10, $11, $12, 'pending', $13, $13, $14,
                          $23, $24, $25, $26
                   FROM place
                   ON CONFLICT DO NOTHING
                   RETURNING id, target_id
               ), transition AS (
                   INSERT INTO deploy_transitions (deploy_id, version, step, to_state, actor, reason, message, at)
                   SELECT id, 1, 1, 'pending', $9, 'Created', $10, $13 FROM created
               ), lifted AS (
                   UPDATE vetoes SET lifted_at = $13, lifted_by = $9 FROM created
                   WHERE $11::text IS NOT NULL AND vetoes.target_id = created.target_id
                       AND vetoes.release_id = $4 AND vetoes.lifted_at IS NULL
               ), vetoed AS (
                   INSERT INTO vetoes (id, target_id, release_id, deploy_id, reason, actor, at)
                   SELECT $15, created.target_id, bad.release_id, bad.id, $16, $9, $13
                   FROM created JOIN deploys AS bad ON bad.id = $12 WHERE $15::uuid IS NOT NULL
                   ON CONFLICT DO NOTHING
               ), settled AS (
                   UPDATE requests SET state = 'done', message = $22, deploy_id = created.id, settled_at = $13 FROM created
                   WHERE requests.id = $21
               ), ended AS (
                   UPDATE holds SET lifted_at = $13, lifted_by = $9, lifted_because = coalesce($27, 'another hold began')
                   FROM created
                   WHERE holds.target_id = created.target_id AND holds.lifted_at IS NULL
                       AND (holds.from_images IS NOT NULL OR holds.settled_on IS NOT NULL OR holds.declared IS NOT NULL)
                       AND ($27::text IS NOT NULL OR ($28::uuid IS NOT NULL AND holds.owner <> $29))
               ), held AS (
                   INSERT INTO holds (id, target_id, owner, actor, reason, at, expires_at, from_images, settled_on, declared)
                   SELECT $28, created.target_id, $29, $9, $30, $13, $31, $32, $33, $34 FROM created
                   WHERE $28::uuid IS NOT NULL
                   ON CONFLICT (target_id, owner) WHERE lifted_at IS NULL DO UPDATE
                   SET actor = excluded.actor, reason = excluded.reason, at = excluded.at,
                       expires_at = excluded.expires_at, from_images = excluded.from_images,
                       settled_on = excluded.settled_on, declared = excluded.declared
               ), ",
            "$20",
            "EXISTS (SELECT FROM created)",
            // The audit log is the last that is locked: whoever acknowledges updates locks those first too.
            r#", noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $13, $9, 'deploy.create', 'deploy/' || id, $17 || jsonb_build_object('before', (
                       SELECT jsonb_object_agg(i.service, i.image ->> 'digest')
                       FROM (SELECT images FROM deploys AS d WHERE d.target_id = created.target_id AND d.state = 'success'
                             ORDER BY d.sequence DESC LIMIT 1) AS good, jsonb_each(good.images) AS i (service, image)))
                   FROM created WHERE (SELECT count(*) FROM put) >= 0
               )
               SELECT EXISTS (SELECT FROM created) AS "created!",
                      EXISTS (SELECT FROM targets WHERE id = $2) AS "target_exists!",
                      EXISTS (SELECT FROM deploys WHERE id = $1 AND target_id = $2 AND sequence = $3 AND version = 1)
                          AS "untouched!",
                      (SELECT epoch FROM deploys WHERE target_id = $2 AND sequence = $3 - 1) AS epoch_before"#,
            new.id,
            new.target,
            new.sequence,
            release.0,
            Json(&new.release) as _,
            new.snapshot_hash,
            new.snapshot,
            new.instance,
            new.actor.to_string(),
            &*storable(&new.cause),
            new.request,
            new.provenance.rollback_of,
            new.now.to_sqlx() as SqlTimestamp,
            new.epoch,
            new.veto.as_ref().map(|veto| veto.id),
            veto_reason.as_deref(),
            details,
            self.lease(),
            self.epoch(),
            SeenRow::all(&new.updates),
            new.settles.as_ref().map(|settles| settles.request),
            new.settles.as_ref().map(|settles| storable(&settles.message).into_owned()),
            new.provenance.retry_of,
            new.provenance.promoted_from,
            new.provenance.group,
            new.provenance.emergency,
            new.lifts,
            hold.map(|hold| hold.id),
            hold.map(|hold| hold.owner.as_str()),
            hold.map(|hold| storable(&hold.reason).into_owned()),
            hold.and_then(|hold| hold.expires_at).map(Timestamp::to_sqlx) as Option<SqlTimestamp>,
            hold.and_then(|hold| hold.from.as_ref()).map(Json) as _,
            hold.and_then(|hold| hold.settled_on.as_deref()),
            hold.and_then(|hold| hold.declared.as_ref()).map(Json) as _
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        match row.epoch_before {
            _ if row.created || row.untouched => Ok(Creation::Created),
            _ if !row.target_exists => Err(StoreError::not_found("target", &new.target)),
            Some(theirs) if theirs > new.epoch => Err(StoreError::fenced(new.id, new.epoch, theirs)),
            _ => Ok(Creation::Conflict),
        }
    }
}
