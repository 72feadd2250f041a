//! What ran where: the releases that served at an instant, and the stages that ever ran an image.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::{HistoryEntry, HistoryFilter, Place};
use crate::{
    domain::image::Digest,
    store::{Store, StoreError, text::containing},
};

/// Which stages to look at, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedFilter {
    /// The instant.
    pub at: Timestamp,
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Only of projects of this name.
    pub project: Option<String>,
    /// Only stages of this name.
    pub stage: Option<String>,
    /// Only where an image's `repository:tag@digest` contains this, in any case of letters.
    pub image: Option<String>,
    /// The last stage of the page before.
    pub after: Option<Place>,
    /// How many at most, at least 1.
    pub limit: i64,
}

/// What served at an instant, by namespace, project and stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedPage {
    /// For each stage that served anything: the last deploy that had succeeded by then.
    pub entries: Vec<HistoryEntry>,
    /// The stage after which the next page begins, if there is one.
    pub next: Option<Place>,
}

/// A stage that had to do with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRun {
    /// The stage.
    pub place: Place,
    /// Deploys of releases with the image, however they ended.
    pub deploys: i64,
    /// Those among them that succeeded.
    pub succeeded: i64,
    /// When it first served the image; `None` when it never did.
    pub first: Option<Timestamp>,
    /// When a deploy with it succeeded last.
    pub last: Option<Timestamp>,
    /// When the next success without it took its place. `None` while it serves, and where it never did.
    pub until: Option<Timestamp>,
}

impl ImageRun {
    /// Whether the stage serves the image now.
    pub const fn serves(&self) -> bool {
        self.last.is_some() && self.until.is_none()
    }
}

impl Store {
    /// What served at an instant. Naming a project or stage that does not exist is an error. A stage that was deleted by
    /// then has nothing; one that was deleted and made again counts as if it had been there all the time.
    pub async fn history_at(&self, filter: &ServedFilter) -> Result<ServedPage, StoreError> {
        let ServedFilter { namespace, project, stage, .. } = filter.clone();
        self.names_exist(&HistoryFilter { namespace, project, stage, ..HistoryFilter::default() }).await?;
        let after = filter.after.as_ref();
        // Stages are brought into order first: deploys of those that come after the page are not looked for.
        let rows = super::deploys!(
            "(
                 SELECT s.id, s.namespace, p.name AS project, s.name FROM stages AS s JOIN projects AS p ON p.id = s.project_id
                 WHERE (s.deleted_at IS NULL OR s.deleted_at > $1)
                     AND ($2::text IS NULL OR s.namespace = $2) AND ($3::text IS NULL OR p.name = $3)
                     AND ($4::text IS NULL OR s.name = $4)
                     AND ($6::text IS NULL OR (s.namespace, p.name, s.name) > ($6, $7, $8))
                 ORDER BY s.namespace, p.name, s.name, s.id OFFSET 0
             ) AS s CROSS JOIN LATERAL (
                 SELECT * FROM deploys AS d
                 WHERE d.target_id = s.id AND d.state = 'success' AND d.finished_at <= $1
                 ORDER BY d.finished_at DESC, d.sequence DESC LIMIT 1) AS d
             WHERE $5::text IS NULL OR EXISTS (
                 SELECT FROM jsonb_each(d.images) AS i (service, image)
                 WHERE concat(image ->> 'repository', ':' || (image ->> 'tag'), '@' || (image ->> 'digest')) ILIKE $5)
             ORDER BY s.namespace, s.project, s.name, s.id LIMIT $9",
            filter.at.to_sqlx() as SqlTimestamp,
            filter.namespace,
            filter.project,
            filter.stage,
            filter.image.as_deref().map(containing),
            after.map(|place| place.namespace.as_str()),
            after.map(|place| place.project.as_str()),
            after.map(|place| place.stage.as_str()),
            // One more than asked for tells whether there is a next page.
            filter.limit.max(1) + 1
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let mut entries = self.entries_of(rows).await?;
        let limit = usize::try_from(filter.limit.max(1)).unwrap_or(usize::MAX);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|last| last.place.clone());
        Ok(ServedPage { entries, next })
    }

    /// Every stage that a release with this image was ever deployed to, by namespace, project and stage; of the deploys
    /// that `filter` leaves, whose `image`, `since`, `state` and page are not looked at. Naming a project or stage that does
    /// not exist is an error.
    pub async fn image_runs(&self, digest: &Digest, filter: &HistoryFilter) -> Result<Vec<ImageRun>, StoreError> {
        self.names_exist(filter).await?;
        // A stage is looked up by its key, once for each that had the image: the LIMIT keeps the server from counting the runs
        // anew for each stage that there is.
        let rows = sqlx::query!(
            r#"WITH runs AS MATERIALIZED (
                   SELECT d.target_id, count(*) AS deploys, count(*) FILTER (WHERE d.state = 'success') AS succeeded,
                          min(d.finished_at) FILTER (WHERE d.state = 'success') AS first,
                          max(d.finished_at) FILTER (WHERE d.state = 'success') AS last,
                          max(d.sequence) FILTER (WHERE d.state = 'success') AS sequence
                   FROM releases AS r JOIN deploys AS d ON d.project_id = r.project_id AND d.release_id = r.id
                   WHERE image_digests(r.images) @> ARRAY[$1::text]
                   GROUP BY d.target_id
               )
               SELECT s.namespace, p.name AS project, s.name AS stage, runs.deploys AS "deploys!",
                      runs.succeeded AS "succeeded!", runs.first AS "first: SqlTimestamp", runs.last AS "last: SqlTimestamp",
                      coalesce((
                          SELECT next.finished_at FROM deploys AS next
                          WHERE next.target_id = s.id AND next.state = 'success' AND next.sequence > runs.sequence
                          ORDER BY next.sequence LIMIT 1), CASE WHEN runs.last IS NOT NULL THEN s.deleted_at END)
                          AS "until: SqlTimestamp"
               FROM runs CROSS JOIN LATERAL (SELECT * FROM stages WHERE id = runs.target_id LIMIT 1) AS s
               JOIN projects AS p ON p.id = s.project_id
               WHERE ($2::text IS NULL OR s.namespace = $2) AND ($3::text IS NULL OR p.name = $3)
                   AND ($4::text IS NULL OR s.name = $4)
               ORDER BY s.namespace, p.name, s.name, s.id"#,
            digest.to_string(),
            filter.namespace,
            filter.project,
            filter.stage
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let instant = |at: Option<SqlTimestamp>| at.map(SqlTimestamp::to_jiff);
        let runs = rows.into_iter().map(|row| ImageRun {
            place: Place { namespace: row.namespace, project: row.project, stage: row.stage },
            deploys: row.deploys,
            succeeded: row.succeeded,
            first: instant(row.first),
            last: instant(row.last),
            until: instant(row.until),
        });
        Ok(runs.collect())
    }

    /// Errors: there is no such project, or no such stage.
    pub(in crate::store) async fn names_exist(&self, filter: &HistoryFilter) -> Result<(), StoreError> {
        if filter.stage.is_some() {
            self.history_targets(filter).await?;
        } else if filter.project.is_some() {
            self.history_projects(filter).await?;
        }
        Ok(())
    }
}
