//! What the gates of a promoted stage need to know: how releases fared on the stages before it, and who agreed to them.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::Deserialize;
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{Advance, Store, StoreError};
use crate::domain::{
    actor::Actor,
    promotion::{Approval, Candidate, Upstream},
    release::{Release, ReleaseId},
};

/// A release, as the stages before a target and people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The release.
    pub release: ReleaseId,
    /// Its images with the tags under which it came, from where it succeeded last; none if it never did.
    pub images: Option<Release>,
    /// The deploy by which it succeeded last on one of these stages.
    pub deploy: Option<Uuid>,
    /// How it fared on each of them, in the order in which they were asked for. What is wrong with it there now is not
    /// known here.
    pub upstreams: Vec<Upstream>,
    /// Who agreed that it comes to the target, and has not taken that back. Whether it still counts is for the gates.
    pub approvals: Vec<Approval>,
    /// Why it is vetoed on the target.
    pub veto: Option<String>,
}

/// How leaving `pending` went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The row's new version.
    Moved(i64),
    /// A gate is closed: nothing has changed.
    Waits,
}

impl Proof {
    /// Of a release that nothing is known of.
    pub fn none(release: ReleaseId) -> Self {
        Self { release, images: None, deploy: None, upstreams: Vec::new(), approvals: Vec::new(), veto: None }
    }

    /// What a choice is made from, if it ever succeeded on one of the stages.
    pub fn candidate(&self) -> Option<Candidate> {
        Some(Candidate {
            release: self.release.clone(),
            summary: self.images.as_ref()?.summary(),
            upstreams: self.upstreams.clone(),
            veto: self.veto.clone(),
        })
    }
}

/// One release on one stage.
struct ProofRow {
    release_id: String,
    stage: String,
    known: bool,
    first: Option<SqlTimestamp>,
    served_us: i64,
    serving_since: Option<SqlTimestamp>,
    unready_since: Option<SqlTimestamp>,
    recovered: Option<SqlTimestamp>,
    last_at: Option<SqlTimestamp>,
    deploy_id: Option<Uuid>,
    images: Option<Json<Release>>,
    back_to: Option<Json<Release>>,
    veto: Option<String>,
    veto_here: Option<String>,
    approvals: Json<Vec<ApprovalRow>>,
}

#[derive(Deserialize)]
struct ApprovalRow {
    actor: Actor,
    verified: bool,
    groups: Vec<String>,
    at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// The rows of releases (`wanted`) on the stages with the names `$2` of the project of target `$1`. A release serves on a
/// stage from each success until the next success of any release there; what was before it lost its readiness for the last
/// time does not count, nor the time without it. It was gone back from if the release that came after it there had succeeded
/// before it.
macro_rules! proofs {
    ($wanted:literal $(, $argument:expr)*) => {
        ::sqlx::query_as!(
            ProofRow,
            r#"WITH upstream AS (
                   SELECT asked.name, asked.place, s.id
                   FROM unnest($2::text[]) WITH ORDINALITY AS asked (name, place)
                   LEFT JOIN stages AS s ON s.name = asked.name AND s.deleted_at IS NULL
                       AND s.project_id = (SELECT project_id FROM targets WHERE id = $1)
               ), wanted (release_id) AS ("# + $wanted + r#")
               SELECT w.release_id AS "release_id!", u.name AS "stage!", u.id IS NOT NULL AS "known!",
                      p.first AS "first: SqlTimestamp",
                      coalesce((extract(epoch FROM p.served) * 1000000)::bigint, 0) AS "served_us!",
                      p.serving_since AS "serving_since: SqlTimestamp",
                      p.unready_since AS "unready_since: SqlTimestamp", p.recovered AS "recovered: SqlTimestamp",
                      l.finished_at AS "last_at?: SqlTimestamp", l.id AS "deploy_id?", l.images AS "images?: Json<Release>",
                      CASE WHEN e.first < p.first THEN n.images END AS "back_to: Json<Release>",
                      v.reason AS "veto?", h.reason AS "veto_here?",
                      coalesce(
                          (SELECT jsonb_agg(to_jsonb(a) ORDER BY a.at, a.id) FROM approvals AS a
                           WHERE a.target_id = $1 AND a.release_id = w.release_id AND a.withdrawn_at IS NULL),
                          '[]') AS "approvals!: Json<Vec<ApprovalRow>>"
               FROM wanted AS w
               CROSS JOIN upstream AS u
               CROSS JOIN LATERAL (
                   SELECT min(time.finished_at) AS first, max(time.sequence) AS last,
                          sum(greatest(time.ended - time.began, interval '0')) FILTER (
                              WHERE time.sequence >= coalesce(time.broken, 0)) AS served,
                          max(time.began) FILTER (WHERE time.ended IS NULL) AS serving_since,
                          max(time.lost) FILTER (WHERE time.ended IS NULL AND time.back IS NULL) AS unready_since,
                          max(time.back) AS recovered
                   FROM (
                       SELECT d.sequence, d.finished_at, next.finished_at AS ended, x.since AS lost, x.until AS back,
                              coalesce(x.until, CASE WHEN x.since IS NOT NULL THEN next.finished_at END, d.finished_at)
                                  AS began,
                              max(d.sequence) FILTER (WHERE x.since IS NOT NULL) OVER () AS broken
                       FROM deploys AS d
                       LEFT JOIN unready AS x ON x.deploy_id = d.id
                       LEFT JOIN LATERAL (
                           SELECT after.finished_at FROM deploys AS after
                           WHERE after.target_id = d.target_id AND after.state = 'success' AND after.sequence > d.sequence
                           ORDER BY after.sequence LIMIT 1) AS next ON true
                       WHERE d.target_id = u.id AND d.release_id = w.release_id AND d.state = 'success') AS time) AS p
               LEFT JOIN deploys AS l ON l.target_id = u.id AND l.sequence = p.last
               LEFT JOIN LATERAL (
                   SELECT after.release_id, after.images FROM deploys AS after
                   WHERE after.target_id = u.id AND after.state = 'success' AND after.sequence > p.last
                   ORDER BY after.sequence LIMIT 1) AS n ON true
               LEFT JOIN LATERAL (
                   SELECT min(earlier.finished_at) AS first FROM deploys AS earlier
                   WHERE earlier.target_id = u.id AND earlier.release_id = n.release_id AND earlier.state = 'success') AS e
                   ON true
               LEFT JOIN vetoes AS v ON v.target_id = u.id AND v.release_id = w.release_id AND v.lifted_at IS NULL
               LEFT JOIN vetoes AS h ON h.target_id = $1 AND h.release_id = w.release_id AND h.lifted_at IS NULL
               ORDER BY w.release_id, u.place"#
            $(, $argument)*
        )
    };
}

impl Store {
    /// What is known of these releases, one proof for each in the order of their hashes: for the gates of a deploy that
    /// waits. One query. Without names there is nothing to know, and the list is empty.
    pub async fn proofs_list(
        &self,
        target: Uuid,
        from: &[String],
        releases: &[ReleaseId],
    ) -> Result<Vec<Proof>, StoreError> {
        self.proofs_on(&self.pool, target, from, releases).await
    }

    /// Takes a deploy out of `pending`, if `open` says so of what is known of its release in the same transaction.
    ///
    /// # Errors
    /// Those of [`Store::deploy_advance`].
    pub async fn deploy_begin(
        &self,
        advance: &Advance,
        target: Uuid,
        from: &[String],
        release: &ReleaseId,
        open: impl FnOnce(&Proof) -> bool + Send,
    ) -> Result<Begun, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        let mut all = self.pool.begin_with(begin).await.map_err(|error| self.fault(error))?;
        let mut found = self.proofs_on(&mut *all, target, from, std::slice::from_ref(release)).await?;
        let proof = found.pop().unwrap_or_else(|| Proof::none(release.clone()));
        if !open(&proof) {
            all.rollback().await.map_err(|error| self.fault(error))?;
            return Ok(Begun::Waits);
        }
        let version = self.deploy_advance_on(&mut *all, advance).await?;
        all.commit().await.map_err(|error| self.fault(error))?;
        Ok(Begun::Moved(version))
    }

    pub(super) async fn proofs_on(
        &self,
        executor: impl PgExecutor<'_>,
        target: Uuid,
        from: &[String],
        releases: &[ReleaseId],
    ) -> Result<Vec<Proof>, StoreError> {
        let releases: Vec<String> = releases.iter().map(|release| release.0.clone()).collect();
        let rows = proofs!("SELECT DISTINCT unnest($3::text[])", target, from, &releases)
            .fetch_all(executor)
            .await
            .map_err(|error| self.fault(error))?;
        Ok(proofs_of(rows))
    }

    /// The releases of the last successes on these stages, `limit` of each, and `also` what serves on the target and what a
    /// hold left: for the choice of the newest. One query.
    pub async fn candidates_list(
        &self,
        target: Uuid,
        from: &[String],
        also: &[ReleaseId],
        limit: i64,
    ) -> Result<Vec<Proof>, StoreError> {
        let also: Vec<String> = also.iter().map(|release| release.0.clone()).collect();
        let rows = proofs!(
            "SELECT recent.release_id FROM upstream AS u
             CROSS JOIN LATERAL (
                 SELECT d.release_id FROM deploys AS d WHERE d.target_id = u.id AND d.state = 'success'
                 ORDER BY d.sequence DESC LIMIT $4) AS recent
             UNION SELECT unnest($3::text[])",
            target,
            from,
            &also,
            limit.max(1)
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(proofs_of(rows))
    }
}

/// Rows of one release after the other become its proof.
fn proofs_of(rows: Vec<ProofRow>) -> Vec<Proof> {
    let mut proofs: Vec<(Proof, Option<Timestamp>)> = Vec::new();
    for row in rows {
        if proofs.last().is_none_or(|(last, _)| last.release.0 != row.release_id) {
            let release = ReleaseId(row.release_id.clone());
            let approvals = row.approvals.0.into_iter().map(|approval| approval.of(&release)).collect();
            let veto = row.veto_here.clone();
            let proof = Proof { release, images: None, deploy: None, upstreams: Vec::new(), approvals, veto };
            proofs.push((proof, None));
        }
        let Some((proof, last)) = proofs.last_mut() else { continue };
        let last_at = row.last_at.map(SqlTimestamp::to_jiff);
        if last_at > *last {
            *last = last_at;
            proof.images = row.images.map(|images| images.0);
            proof.deploy = row.deploy_id;
        }
        let unready = row.unready_since.map(SqlTimestamp::to_jiff);
        proof.upstreams.push(Upstream {
            name: row.stage,
            exists: row.known,
            first: row.first.map(SqlTimestamp::to_jiff),
            served: Duration::from_micros(row.served_us.try_into().unwrap_or_default()),
            serving_since: row.serving_since.map(SqlTimestamp::to_jiff),
            unready: unready.map(|since| format!("its pods are not all ready since {since}")),
            recovered: row.recovered.map(SqlTimestamp::to_jiff),
            veto: row.veto,
            went_back_to: row.back_to.map(|release| release.0.summary()),
        });
    }
    proofs.into_iter().map(|(proof, _)| proof).collect()
}

impl ApprovalRow {
    fn of(self, release: &ReleaseId) -> Approval {
        Approval {
            release: release.clone(),
            actor: self.actor,
            verified: self.verified,
            groups: self.groups,
            at: self.at,
            expires: self.expires_at,
        }
    }
}
