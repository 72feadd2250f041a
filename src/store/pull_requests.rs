//! What git providers said of pull requests, and which environments were made for them.

use std::str::FromStr;

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Store, StoreError, text::storable};
use crate::domain::{
    pull_request::{Known, Made, PullRequest},
    share::Share,
};

/// A pull request that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPull {
    /// Its identity.
    pub id: Uuid,
    /// Counts its changes: writing it again needs that.
    pub version: i64,
    /// What the provider calls our comment in it.
    pub comment: Option<String>,
    /// What is known of it.
    pub known: Known,
}

struct Row {
    id: Uuid,
    provider: String,
    repository: String,
    number: i64,
    title: String,
    author: String,
    branch: String,
    target: String,
    head: String,
    head_repository: String,
    fork: bool,
    labels: Vec<String>,
    vouched: Vec<String>,
    state: String,
    told_at: SqlTimestamp,
    absences: i32,
    environment: Option<String>,
    environment_uid: Option<String>,
    environment_commit: Option<String>,
    comment: Option<String>,
    version: i64,
}

impl TryFrom<Row> for StoredPull {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        fn word<T: FromStr<Err = String>>(id: &Uuid, text: &str) -> Result<T, StoreError> {
            text.parse().map_err(|why| StoreError::corrupt("pull request", id, &why))
        }
        let made = row.environment.zip(row.environment_commit);
        let facts = PullRequest {
            number: row.number,
            title: row.title,
            author: row.author,
            branch: row.branch,
            target: row.target,
            head: row.head,
            head_repository: row.head_repository,
            fork: row.fork,
            labels: row.labels.into_iter().collect(),
            vouched: row.vouched.into_iter().collect(),
            state: word(&row.id, &row.state)?,
            updated_at: row.told_at.to_jiff(),
        };
        let known = Known {
            provider: word(&row.id, &row.provider)?,
            repository: row.repository,
            facts,
            absences: u32::try_from(row.absences).unwrap_or_default(),
            made: made.map(|(name, commit)| Made { name, uid: row.environment_uid, commit }),
        };
        Ok(Self { id: row.id, version: row.version, comment: row.comment, known })
    }
}

impl Store {
    /// The pull requests of a project that are open or have an environment, by repository and number.
    pub async fn pull_requests_live(&self, project: Uuid) -> Result<Vec<StoredPull>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT id, provider, repository, number, title, author, branch, target, head, head_repository, fork, labels,
                      vouched, state, told_at AS "told_at: SqlTimestamp", absences, environment, environment_uid,
                      environment_commit, comment, version
               FROM pull_requests
               WHERE project_id = $1 AND (state = 'open' OR environment IS NOT NULL)
               ORDER BY repository, number"#,
            project
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredPull::try_from).collect()
    }

    /// What is stored of these pull requests of a repository, by number: also of those that are closed.
    pub async fn pull_requests_get(
        &self,
        project: Uuid,
        provider: &str,
        repository: &str,
        numbers: &[i64],
    ) -> Result<Vec<StoredPull>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT id, provider, repository, number, title, author, branch, target, head, head_repository, fork, labels,
                      vouched, state, told_at AS "told_at: SqlTimestamp", absences, environment, environment_uid,
                      environment_commit, comment, version
               FROM pull_requests
               WHERE project_id = $1 AND provider = $2 AND repository = $3 AND number = ANY($4)
               ORDER BY number"#,
            project,
            provider,
            repository,
            numbers
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredPull::try_from).collect()
    }

    /// Stores what is known of a pull request: as new, or in the place of the `seen` version of it. False when somebody else
    /// was faster: then it has to be read again.
    pub async fn pull_request_put(
        &self,
        id: Uuid,
        project: Uuid,
        known: &Known,
        seen: Option<i64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Known { provider, repository, facts, absences, made } = known;
        let texts = |all: &std::collections::BTreeSet<String>| -> Vec<String> {
            all.iter().map(|one| storable(one).into_owned()).collect()
        };
        let made = made.as_ref();
        let [title, author] = [storable(&facts.title), storable(&facts.author)];
        let [branch, target] = [storable(&facts.branch), storable(&facts.target)];
        let head_repository = storable(&facts.head_repository);
        let done = sqlx::query!(
            "WITH new AS (
                 SELECT $1::uuid AS id, $2::uuid AS project_id, $3::text AS provider, $4::text AS repository,
                        $5::bigint AS number, $6::text AS title, $7::text AS author, $8::text AS branch, $9::text AS target,
                        $10::text AS head, $11::text AS head_repository, $12::boolean AS fork, $13::text[] AS labels,
                        $14::text[] AS vouched, $15::text AS state, $16::timestamptz AS told_at, $17::integer AS absences,
                        $18::text AS environment, $19::text AS environment_uid, $20::text AS environment_commit,
                        $21::timestamptz AS heard_at
                 WHERE leads($23, $24)
             ), changed AS (
                 UPDATE pull_requests AS known
                 SET (title, author, branch, target, head, head_repository, fork, labels, vouched, state, told_at, absences,
                      environment, environment_uid, environment_commit, heard_at, version) =
                     (new.title, new.author, new.branch, new.target, new.head, new.head_repository, new.fork, new.labels,
                      new.vouched, new.state, new.told_at, new.absences, new.environment, new.environment_uid,
                      new.environment_commit, new.heard_at, known.version + 1)
                 FROM new WHERE known.id = new.id AND known.version = $22::bigint
                 RETURNING known.id
             ), made AS (
                 INSERT INTO pull_requests (id, project_id, provider, repository, number, title, author, branch, target, head,
                                            head_repository, fork, labels, vouched, state, told_at, absences, environment,
                                            environment_uid, environment_commit, heard_at)
                 SELECT * FROM new WHERE $22::bigint IS NULL
                 ON CONFLICT DO NOTHING RETURNING id
             )
             SELECT id FROM changed UNION ALL SELECT id FROM made",
            id,
            project,
            provider.word(),
            repository,
            facts.number,
            title.as_ref(),
            author.as_ref(),
            branch.as_ref(),
            target.as_ref(),
            facts.head,
            head_repository.as_ref(),
            facts.fork,
            &texts(&facts.labels),
            &texts(&facts.vouched),
            facts.state.word(),
            facts.updated_at.to_sqlx() as SqlTimestamp,
            i32::try_from(*absences).unwrap_or(i32::MAX),
            made.map(|made| made.name.as_str()),
            made.and_then(|made| made.uid.as_deref()),
            made.map(|made| made.commit.as_str()),
            now.to_sqlx() as SqlTimestamp,
            seen,
            self.lease(),
            self.epoch()
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.is_some())
    }

    /// Remembers what the provider calls our comment in a pull request, or that there is none.
    pub async fn pull_request_commented(&self, id: Uuid, comment: Option<&str>) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE pull_requests SET comment = $2, version = version + 1
             WHERE id = $1 AND comment IS DISTINCT FROM $2 AND leads($3, $4)",
            id,
            comment,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Namespace and name of the projects of this share that have open pull requests or environments of
    /// some.
    pub async fn pull_requests_projects(&self, share: &Share) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT namespace, name FROM projects
             WHERE deleted_at IS NULL AND in_share(namespace, $1, $2, $3)
                 AND EXISTS (SELECT FROM pull_requests AS pull
                             WHERE pull.project_id = projects.id AND (pull.state = 'open' OR pull.environment IS NOT NULL))
             ORDER BY namespace, name",
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|row| (row.namespace, row.name)).collect())
    }

    /// Deletes at most `limit` closed pull requests without an environment of which nothing was heard since `before`, the
    /// oldest first; says how many went.
    pub async fn pull_requests_prune(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM pull_requests WHERE id = ANY(ARRAY(
                 SELECT id FROM pull_requests
                 WHERE heard_at < $1 AND state <> 'open' AND environment IS NULL AND (SELECT leads($3, $4))
                 ORDER BY heard_at, id LIMIT $2))",
            before.to_sqlx() as SqlTimestamp,
            limit,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }
}
