//! What the gates of a promoted stage base their answers on: how releases fared on the stages before it, and who agreed.

use std::{collections::BTreeMap, time::Duration};

use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Advance, Store, StoreError};
use crate::domain::{
    promotion::{Approval, Candidate, Upstream},
    release::{Release, ReleaseId},
};

/// How many of the last successes of each stage are looked at for candidates.
const RECENT: i64 = 20;

/// A stage that takes its releases from others.
#[derive(Debug, Clone, Copy)]
pub struct Crossing<'a> {
    /// The stage's row.
    pub target: Uuid,
    /// Its project's row.
    pub project: Uuid,
    /// Its namespace.
    pub namespace: &'a str,
    /// Names of the stages that it takes them from.
    pub from: &'a [String],
}

/// What is known of one release on its way to a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateFacts {
    /// How it fared on the stages before.
    pub upstreams: Vec<Upstream>,
    /// Who agreed to it on this stage, also long ago.
    pub approvals: Vec<Approval>,
    /// Why it is vetoed on this stage.
    pub veto: Option<String>,
}

/// A release that succeeded on a stage before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// What choosing needs to know.
    pub candidate: Candidate,
    /// Its images.
    pub release: Release,
    /// The last deploy that succeeded with it there.
    pub deploy: Uuid,
}

/// How leaving `pending` went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The row's new version.
    Moved(i64),
    /// A gate is closed: nothing has changed.
    Waits,
}

struct FareRow {
    stage: String,
    there: bool,
    release_id: String,
    first: Option<SqlTimestamp>,
    serving_since: Option<SqlTimestamp>,
    served: Option<f64>,
    went_back_to: Option<Json<Release>>,
    images: Option<Json<Release>>,
    deploy_id: Option<Uuid>,
    veto: Option<String>,
    veto_here: Option<String>,
}

impl Store {
    /// What the gates of a stage have to know of a release.
    pub async fn gate_facts(&self, crossing: Crossing<'_>, release: &ReleaseId) -> Result<GateFacts, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.fault(error))?;
        self.gate_facts_on(&mut connection, crossing, release).await
    }

    /// Takes a deploy out of `pending` if `open` says so of what is known in the same transaction.
    ///
    /// # Errors
    /// Those of [`Store::deploy_advance`].
    pub async fn deploy_begin(
        &self,
        advance: &Advance,
        crossing: Crossing<'_>,
        release: &ReleaseId,
        open: impl FnOnce(&GateFacts) -> bool + Send,
    ) -> Result<Begun, StoreError> {
        let mut view =
            self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.map_err(|error| self.fault(error))?;
        let facts = self.gate_facts_on(&mut view, crossing, release).await?;
        if !open(&facts) {
            view.rollback().await.map_err(|error| self.fault(error))?;
            return Ok(Begun::Waits);
        }
        let version = self.deploy_advance_on(&mut *view, advance).await?;
        view.commit().await.map_err(|error| self.fault(error))?;
        Ok(Begun::Moved(version))
    }

    async fn gate_facts_on(
        &self,
        connection: &mut PgConnection,
        crossing: Crossing<'_>,
        release: &ReleaseId,
    ) -> Result<GateFacts, StoreError> {
        let fares = self.fares(&mut *connection, crossing, std::slice::from_ref(release), 0).await?;
        let rows = sqlx::query!(
            r#"SELECT release_id, actor, groups, verified, at AS "at: SqlTimestamp", expires_at AS "expires_at: SqlTimestamp"
               FROM approvals WHERE target_id = $1 AND release_id = $2 AND withdrawn_at IS NULL ORDER BY at"#,
            crossing.target,
            release.0
        )
        .fetch_all(connection)
        .await
        .map_err(|error| self.fault(error))?;
        let approvals = rows.into_iter().map(|row| {
            Ok(Approval {
                release: ReleaseId(row.release_id),
                actor: row.actor.parse().map_err(|why| StoreError::corrupt("approval", &crossing.target, &why))?,
                groups: row.groups,
                verified: row.verified,
                at: row.at.to_jiff(),
                expires: row.expires_at.map(SqlTimestamp::to_jiff),
            })
        });
        let veto = fares.iter().find_map(|row| row.veto_here.clone());
        Ok(GateFacts {
            approvals: approvals.collect::<Result<_, StoreError>>()?,
            veto,
            upstreams: fares.into_iter().map(|row| upstream(&row)).collect(),
        })
    }

    /// The releases that succeeded last on the stages before.
    pub async fn candidates(&self, crossing: Crossing<'_>) -> Result<Vec<Proven>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.fault(error))?;
        let fares = self.fares(&mut connection, crossing, &[], RECENT).await?;
        let mut by_release: BTreeMap<String, Vec<FareRow>> = BTreeMap::new();
        for row in fares {
            by_release.entry(row.release_id.clone()).or_default().push(row);
        }
        let proven = by_release.into_iter().filter_map(|(release_id, rows)| {
            let (release, deploy) =
                rows.iter().find_map(|row| Some((row.images.as_ref()?.0.clone(), row.deploy_id?)))?;
            let candidate = Candidate {
                release: ReleaseId(release_id),
                summary: release.summary(),
                upstreams: rows.iter().map(upstream).collect(),
                veto: rows.iter().find_map(|row| row.veto_here.clone()),
            };
            Some(Proven { candidate, release, deploy })
        });
        Ok(proven.collect())
    }

    /// How `releases`, and the last `recent` of each stage before, fared there: by release and stage. A release
    /// serves from its success to the next one on the same stage.
    async fn fares(
        &self,
        connection: &mut PgConnection,
        crossing: Crossing<'_>,
        releases: &[ReleaseId],
        recent: i64,
    ) -> Result<Vec<FareRow>, StoreError> {
        let releases: Vec<&str> = releases.iter().map(|release| release.0.as_str()).collect();
        sqlx::query_as!(
            FareRow,
            r#"WITH up AS (
                   SELECT f.name, s.id
                   FROM UNNEST($3::text[]) AS f (name)
                   LEFT JOIN stages AS s ON s.project_id = $1 AND s.namespace = $2 AND s.name = f.name AND s.deleted_at IS NULL
               ), pick AS (
                   SELECT p.release_id FROM UNNEST($4::text[]) AS p (release_id)
                   UNION
                   SELECT last.release_id
                   FROM up CROSS JOIN LATERAL (
                       SELECT g.release_id FROM deploys AS g
                       WHERE g.target_id = up.id AND g.state = 'success' ORDER BY g.sequence DESC LIMIT $5) AS last
               )
               SELECT up.name AS "stage!", up.id IS NOT NULL AS "there!", pick.release_id AS "release_id!",
                      fare.first AS "first: _", fare.serving_since AS "serving_since: _", fare.served,
                      back.images AS "went_back_to: _", last.images AS "images: _", last.id AS "deploy_id?",
                      there.reason AS "veto?", here.reason AS "veto_here?"
               FROM up CROSS JOIN pick
               LEFT JOIN LATERAL (
                   SELECT min(d.finished_at) AS first,
                          max(d.finished_at) FILTER (WHERE n.finished_at IS NULL) AS serving_since,
                          sum(extract(epoch FROM n.finished_at - d.finished_at))::float8 AS served
                   FROM deploys AS d LEFT JOIN LATERAL (
                       SELECT after.finished_at FROM deploys AS after
                       WHERE after.target_id = d.target_id AND after.state = 'success' AND after.sequence > d.sequence
                       ORDER BY after.sequence LIMIT 1) AS n ON true
                   WHERE d.target_id = up.id AND d.release_id = pick.release_id AND d.state = 'success') AS fare ON true
               LEFT JOIN LATERAL (
                   SELECT d.id, d.images, d.sequence FROM deploys AS d
                   WHERE d.target_id = up.id AND d.release_id = pick.release_id AND d.state = 'success'
                   ORDER BY d.finished_at DESC LIMIT 1) AS last ON true
               LEFT JOIN LATERAL (
                   SELECT after.images, after.rollback_of FROM deploys AS after
                   WHERE after.target_id = up.id AND after.state = 'success' AND after.sequence > last.sequence
                   ORDER BY after.sequence LIMIT 1) AS back ON back.rollback_of IS NOT NULL
               LEFT JOIN vetoes AS there ON there.target_id = up.id AND there.release_id = pick.release_id
                   AND there.lifted_at IS NULL
               LEFT JOIN vetoes AS here ON here.target_id = $6 AND here.release_id = pick.release_id AND here.lifted_at IS NULL
               ORDER BY pick.release_id, up.name"#,
            crossing.project,
            crossing.namespace,
            crossing.from,
            &releases[..] as _,
            recent,
            crossing.target
        )
        .fetch_all(connection)
        .await
        .map_err(|error| self.fault(error))
    }
}

fn upstream(row: &FareRow) -> Upstream {
    Upstream {
        name: row.stage.clone(),
        exists: row.there,
        first: row.first.map(SqlTimestamp::to_jiff),
        served: row.served.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default(),
        serving_since: row.serving_since.map(SqlTimestamp::to_jiff),
        unready: None,
        veto: row.veto.clone(),
        went_back_to: row.went_back_to.as_ref().map(|release| release.0.summary()),
    }
}
