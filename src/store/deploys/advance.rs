//! Moving a deploy: compare-and-set with all its transitions, instance changes, vetoes and met updates in one statement.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{
    domain::{
        actor::Actor,
        deploy::{State, Transition},
    },
    store::{InstanceChange, NewVeto, Settlement, Store, StoreError, instances::ChangeColumns, text::storable},
};

/// Steps of a deploy, and what is true with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The deploy.
    pub id: Uuid,
    /// The version that the decision is based on.
    pub version: i64,
    /// The caller's leader epoch.
    pub epoch: i64,
    /// One step or several that follow each other at once.
    pub steps: Vec<Transition>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// Ends a failed deploy that is not rolled back, and says why not.
    pub close: Option<String>,
    /// The evidence of its failure is in the log.
    pub evidence: bool,
    /// What becomes of instances with it.
    pub instances: Vec<InstanceChange>,
    /// A veto of its release on its target.
    pub veto: Option<NewVeto>,
    /// The newer deploy that takes its place.
    pub superseded_by: Option<Uuid>,
    /// The request that asked for it: settled with it. If it is settled already, nothing moves.
    pub settles: Option<Settlement>,
}

/// A compare-and-set of one row, with or without steps.
struct Write<'a> {
    id: Uuid,
    from: State,
    to: State,
    version: i64,
    epoch: i64,
    at: Timestamp,
    actor: &'a Actor,
    steps: &'a [Transition],
    close: Option<&'a str>,
    evidence: bool,
    instances: &'a [InstanceChange],
    veto: Option<&'a NewVeto>,
    superseded_by: Option<Uuid>,
    settles: Option<&'a Settlement>,
}

impl Store {
    /// Takes the steps and returns the row's new version. The reason and message of the deploy become those of the last
    /// step into `failed`, `aborted` or `superseded`; a rollback leaves them, so that the row says why it was needed.
    /// Terminal states set `finished_at`. A success acknowledges the updates that it brings, and those of the same images on
    /// this stage that were seen before them.
    ///
    /// Errors: somebody else moved the deploy, or another deploy of the target is past pending (both conflicts: observe
    /// again); a newer leader wrote it; it does not exist.
    pub async fn deploy_advance(&self, advance: &Advance) -> Result<i64, StoreError> {
        self.deploy_advance_on(&self.pool, advance).await
    }

    /// [`Store::deploy_advance`] within a transaction.
    pub(in crate::store) async fn deploy_advance_on(
        &self,
        executor: impl PgExecutor<'_>,
        advance: &Advance,
    ) -> Result<i64, StoreError> {
        let (Some(first), Some(last)) = (advance.steps.first(), advance.steps.last()) else {
            return Err(StoreError::Other(format!("deploy {}: an advance without a step", advance.id)));
        };
        let broken = advance.steps.windows(2).find(|pair| match pair {
            [before, after] => before.to != after.from,
            _ => false,
        });
        if let Some([before, after]) = broken {
            return Err(StoreError::Other(format!(
                "deploy {}: a step from {} cannot follow one to {}",
                advance.id, after.from, before.to
            )));
        }
        let write = Write {
            id: advance.id,
            from: first.from,
            to: last.to,
            version: advance.version,
            epoch: advance.epoch,
            at: advance.at,
            actor: &advance.actor,
            steps: &advance.steps,
            close: advance.close.as_deref(),
            evidence: advance.evidence,
            instances: &advance.instances,
            veto: advance.veto.as_ref(),
            superseded_by: advance.superseded_by,
            settles: advance.settles.as_ref(),
        };
        self.deploy_write(executor, &write).await
    }

    /// Ends a failed deploy that is not rolled back: it stays failed, and `why` is added to its message.
    pub async fn deploy_close(
        &self,
        id: Uuid,
        version: i64,
        epoch: i64,
        why: &str,
        at: Timestamp,
    ) -> Result<i64, StoreError> {
        self.deploy_write(&self.pool, &Write { close: Some(why), ..Write::on_failed(id, version, epoch, at) }).await
    }

    /// Records that the evidence of a failed deploy is in the log.
    pub async fn deploy_evidence_done(
        &self,
        id: Uuid,
        version: i64,
        epoch: i64,
        at: Timestamp,
    ) -> Result<i64, StoreError> {
        self.deploy_write(&self.pool, &Write { evidence: true, ..Write::on_failed(id, version, epoch, at) }).await
    }

    async fn deploy_write(&self, executor: impl PgExecutor<'_>, write: &Write<'_>) -> Result<i64, StoreError> {
        let explained =
            write.steps.iter().rev().find(|step| matches!(step.to, State::Failed | State::Aborted | State::Superseded));
        let steps = StepColumns::from(write.steps);
        let instances = ChangeColumns::from(write.instances);
        let message = explained.map(|step| storable(&step.message));
        let close = write.close.map(storable);
        let veto_reason = write.veto.map(|veto| storable(&veto.reason));
        let row = sqlx::query!(
            r#"WITH moved AS (
                   UPDATE deploys SET
                       state = $5,
                       since = CASE WHEN cardinality($9::text[]) > 0 THEN $6 ELSE since END,
                       version = version + 1,
                       epoch = $4,
                       reason = coalesce($13, reason),
                       message = nullif(concat_ws('; ', coalesce($14, message), $15::text), ''),
                       evidence_at = CASE WHEN $16 THEN coalesce(evidence_at, $6) ELSE evidence_at END,
                       finished_at = CASE WHEN $8 OR $15::text IS NOT NULL THEN $6 END,
                       superseded_by = coalesce($24, superseded_by)
                   WHERE id = $1 AND state = $2 AND version = $3 AND epoch <= $4 AND finished_at IS NULL
                       AND leads($22, $23)
                       AND ($25::uuid IS NULL OR EXISTS (SELECT FROM requests WHERE requests.id = $25 AND requests.state = 'pending'))
                   RETURNING id, target_id, release_id, images, version
               ), transitions AS (
                   INSERT INTO deploy_transitions
                       (deploy_id, version, step, from_state, to_state, actor, reason, message, at)
                   SELECT moved.id, moved.version, s.step, s.from_state, s.to_state, $7, s.reason, s.message, $6
                   FROM moved, UNNEST($9::text[], $10::text[], $11::text[], $12::text[])
                       WITH ORDINALITY AS s (from_state, to_state, reason, message, step)
               ), change AS (
                   SELECT c.name, c.deploy_id, c.status
                   FROM UNNEST($17::text[], $18::uuid[], $19::text[]) AS c (name, deploy_id, status)
               ), held AS (
                   INSERT INTO instances (target_id, name, deploy_id, status)
                   SELECT moved.target_id, change.name, change.deploy_id, change.status
                   FROM moved, change WHERE change.deploy_id IS NOT NULL AND change.status <> 'removed'
                   ON CONFLICT (target_id, name) DO UPDATE
                   SET deploy_id = excluded.deploy_id, status = excluded.status, deleted_at = NULL
                   WHERE instances.deleted_at IS NOT NULL
                       OR (instances.deploy_id, instances.status) <> (excluded.deploy_id, excluded.status)
               ), told AS (
                   UPDATE instances
                   SET status = CASE change.status WHEN 'removed' THEN 'removing' ELSE change.status END,
                       deleted_at = CASE change.status WHEN 'removed' THEN $6 END
                   FROM moved, change
                   WHERE instances.target_id = moved.target_id AND instances.name = change.name
                       AND instances.deleted_at IS NULL
                       AND (change.deploy_id IS NULL OR change.status = 'removed')
                       AND instances.status <> change.status
               ), vetoed AS (
                   INSERT INTO vetoes (id, target_id, release_id, deploy_id, reason, actor, at)
                   SELECT $20, target_id, release_id, id, $21, $7, $6 FROM moved WHERE $20::uuid IS NOT NULL
                   ON CONFLICT DO NOTHING
               ), settled AS (
                   UPDATE requests SET state = 'done', message = $26, deploy_id = moved.id, settled_at = $6 FROM moved
                   WHERE requests.id = $25
               ), shipped AS (
                   SELECT s.namespace || '/' || s.name AS host, i.image ->> 'repository' AS repository,
                          i.image ->> 'tag' AS tag, i.image ->> 'digest' AS digest
                   FROM moved JOIN stages AS s ON s.id = moved.target_id, jsonb_each(moved.images) AS i (service, image)
                   WHERE $5 = 'success'
               ), met AS (
                   SELECT u.id
                   FROM shipped
                   JOIN image_updates AS u ON u.host = shipped.host
                       AND u.image IN (shipped.repository, shipped.repository || ':' || shipped.tag)
                   WHERE u.pending AND u.first_seen_at <= (
                       SELECT max(same.first_seen_at) FROM image_updates AS same
                       WHERE same.host = u.host AND same.image = u.image AND same.new_digest = shipped.digest)
                   ORDER BY u.image, u.host, u.platform FOR UPDATE OF u
               ), acknowledged AS (
                   UPDATE image_updates AS u
                   SET acknowledged_digest = u.new_digest, acknowledged_by = $7, acknowledged_at = $6
                   FROM met WHERE u.id = met.id
               )
               SELECT moved.version AS "version?", d.epoch
               FROM deploys AS d LEFT JOIN moved ON moved.id = d.id WHERE d.id = $1"#,
            write.id,
            write.from.word(),
            write.version,
            write.epoch,
            write.to.word(),
            write.at.to_sqlx() as SqlTimestamp,
            write.actor.to_string(),
            write.to.is_terminal(),
            &steps.from[..] as _,
            &steps.to[..] as _,
            &steps.reasons[..] as _,
            &steps.messages[..],
            explained.map(|step| step.reason),
            message.as_deref(),
            close.as_deref(),
            write.evidence,
            &instances.names[..] as _,
            &instances.deploys[..] as _,
            &instances.statuses[..] as _,
            write.veto.map(|veto| veto.id),
            veto_reason.as_deref(),
            self.lease(),
            self.epoch(),
            write.superseded_by,
            write.settles.map(|settles| settles.request),
            write.settles.map(|settles| storable(&settles.message).into_owned())
        )
        .fetch_optional(executor)
        .await
        .map_err(|error| self.fault(error))?
        .ok_or_else(|| StoreError::not_found("deploy", &write.id))?;
        match row.version {
            Some(version) => Ok(version),
            None if row.epoch > write.epoch => Err(StoreError::fenced(write.id, write.epoch, row.epoch)),
            None => Err(StoreError::Conflict(format!(
                "deploy {} is no longer {} in version {}: observe it again",
                write.id, write.from, write.version
            ))),
        }
    }
}

impl Write<'_> {
    /// A write that leaves a failed deploy failed.
    fn on_failed(id: Uuid, version: i64, epoch: i64, at: Timestamp) -> Self {
        Self {
            id,
            from: State::Failed,
            to: State::Failed,
            version,
            epoch,
            at,
            actor: &Actor::Controller,
            steps: &[],
            close: None,
            evidence: false,
            instances: &[],
            veto: None,
            superseded_by: None,
            settles: None,
        }
    }
}

/// Steps as columns, for `UNNEST`.
struct StepColumns {
    from: Vec<&'static str>,
    to: Vec<&'static str>,
    reasons: Vec<&'static str>,
    messages: Vec<String>,
}

impl From<&[Transition]> for StepColumns {
    fn from(steps: &[Transition]) -> Self {
        Self {
            from: steps.iter().map(|step| step.from.word()).collect(),
            to: steps.iter().map(|step| step.to.word()).collect(),
            reasons: steps.iter().map(|step| step.reason).collect(),
            messages: steps.iter().map(|step| storable(&step.message).into_owned()).collect(),
        }
    }
}
