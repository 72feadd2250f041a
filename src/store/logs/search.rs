//! Words in the output of a whole project: the newest lines that have them, however common the words are, however many
//! lines there are, and however few of them are the project's.
//!
//! Lines are found newest deploy first, and in a deploy last line first. Two ways lead there, and neither is short for all
//! words. Reading the project's lines in that order soon fills a page with a word that many lines have; the index of words
//! soon has all lines with a word that few have, but gives them in no order. Which word is which is found out by trying:
//! some lines are read; if few of them have the words, the index is asked, for so many lines at most; if it knows more,
//! reading goes on. Each statement has a bound. What all of them may cost has one too, and a search that ends there says
//! from where it can go on.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{Acquire as _, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::{LineRow, StoredLine};
use crate::store::{Store, StoreError, text::storable};

/// Lines that the first statement reads, and the most that one reads; each reads four times as many as the one before.
const STRETCHES: [i64; 2] = [500, 20_000];

/// Deploys that one statement reads lines of, at most.
const DEPLOYS: i64 = 256;

/// A deploy without a line costs as much as so many lines.
const DEPLOY: i64 = 10;

/// While one line in so many has the words, reading is the shorter way.
const COMMON: i64 = 100;

/// The index of words is given up when it knows more lines than this. The query says it too.
const RARE: i64 = 10_000;

/// The index of words is given up after this: with words that are common each, and never next to each other where that is
/// asked for, it has to look at every line.
const INDEX_LIMIT: Duration = Duration::from_secs(1);

/// No further statement is begun after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to search for in a project's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSearch {
    /// The project.
    pub project_id: Uuid,
    /// Words that must occur, as in a web search: `connection refused`, `"exit code 1"`, `timeout -probe`.
    pub words: String,
    /// Where the page before ended.
    pub before: Option<LogPlace>,
    /// How many lines at most.
    pub limit: i64,
    /// How many lines to read for them at most, give or take a statement's: [`LogSearch::MOST`] unless there is a reason.
    pub most: i64,
}

impl LogSearch {
    /// Bounds what one search costs.
    pub const MOST: i64 = 1_000_000;
}

/// A place in a project's lines, newest deploy first and in a deploy last line first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    /// When the deploy was made.
    pub made_at: Timestamp,
    /// The deploy.
    pub deploy: Uuid,
    /// The line's position. What comes next are this deploy's lines before it, and then the deploys before this one.
    pub position: i64,
}

/// A page of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The newest lines with the words: all of them down to `next`.
    pub lines: Vec<StoredLine>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<LogPlace>,
    /// Whether the page is not full because finding more takes too long: everything after `next` was searched, nothing
    /// before it.
    pub gave_up: bool,
}

/// A line with the words, and where it is.
struct Hit {
    place: LogPlace,
    line: StoredLine,
}

/// What reading some lines brought.
struct Stretch {
    hits: Vec<Hit>,
    /// Lines that were read.
    lines: i64,
    /// Deploys that were asked for lines.
    deploys: i64,
    /// Up to here; `None` when there is no more.
    end: Option<LogPlace>,
}

/// A line with the words, or the last one that was read.
struct ReadRow {
    lines: i64,
    nth: i64,
    is_end: bool,
    position: i64,
    deploy_id: Uuid,
    at: SqlTimestamp,
    source: String,
    seq: i64,
    level: String,
    line: String,
}

/// A line that the index of words knows, if there is any.
struct KnownRow {
    known: i64,
    made_at: Option<SqlTimestamp>,
    position: Option<i64>,
    deploy_id: Option<Uuid>,
    at: Option<SqlTimestamp>,
    source: Option<String>,
    seq: Option<i64>,
    level: Option<String>,
    line: Option<String>,
}

impl Store {
    /// The newest lines of a project in which the words occur: of its newest deploys first, and of each its last lines first.
    pub async fn logs_search(&self, search: &LogSearch) -> Result<LogPage, StoreError> {
        let limit = search.limit.max(1);
        let (began, mut all) = (Instant::now(), self.pool.begin().await.map_err(|error| self.fault(error))?);
        self.search_settings(&mut all).await?;
        let mut found: Vec<Hit> = Vec::new();
        let mut place = search.before;
        let mut gave_up = false;
        let (mut lines, mut cost, mut is_indexed) = (STRETCHES[0].min(search.most).max(1), 0, false);
        // One more than asked for tells whether there is a next page.
        let missing = |found: &[Hit]| limit + 1 - i64::try_from(found.len()).unwrap_or(i64::MAX);
        while missing(&found) > 0 {
            let read = self.search_read(&mut all, search, place, lines, missing(&found)).await?;
            let is_common = i64::try_from(read.hits.len()).unwrap_or(i64::MAX) > read.lines / COMMON;
            found.extend(read.hits);
            place = read.end;
            if place.is_none() || missing(&found) <= 0 {
                break;
            }
            if !is_common && !is_indexed {
                is_indexed = true;
                if let Some(rest) = self.search_index(&mut all, search, place, missing(&found)).await? {
                    found.extend(rest);
                    place = None;
                    break;
                }
            }
            cost += read.lines + read.deploys * DEPLOY;
            if cost >= search.most || began.elapsed() >= PATIENCE {
                gave_up = true;
                break;
            }
            lines = STRETCHES[1].min(lines * 4).min(search.most - cost).max(1);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if found.len() > limit {
            found.truncate(limit);
            place = found.last().map(|last| last.place);
        }
        let gave_up = gave_up && found.len() < limit;
        Ok(LogPage { lines: found.into_iter().map(|hit| hit.line).collect(), next: place, gave_up })
    }

    /// The plans of a search are what they are for any words; compiling them takes longer than running them. Reading in order
    /// must not become reading all and sorting.
    async fn search_settings(&self, all: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query!("SELECT set_config('jit', 'off', true) AS jit, set_config('enable_sort', 'off', true) AS sort")
            .fetch_one(all)
            .await
            .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Reads at most `lines` lines of the project's deploys before `place` and takes those with the words, at most `limit`.
    async fn search_read(
        &self,
        all: &mut PgConnection,
        search: &LogSearch,
        place: Option<LogPlace>,
        lines: i64,
        limit: i64,
    ) -> Result<Stretch, StoreError> {
        let deploys = sqlx::query!(
            r#"SELECT id, created_at AS "created_at: SqlTimestamp" FROM deploys
               WHERE project_id = $1 AND (created_at, id) <= (
                   coalesce($2, 'infinity'::timestamptz), coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
               ORDER BY created_at DESC, id DESC LIMIT $4"#,
            search.project_id,
            place.map(|place| place.made_at.to_sqlx()) as Option<SqlTimestamp>,
            place.map(|place| place.deploy),
            DEPLOYS
        )
        .fetch_all(&mut *all)
        .await
        .map_err(|error| self.fault(error))?;
        let ids: Vec<Uuid> = deploys.iter().map(|deploy| deploy.id).collect();
        // The deploy in which the page before ended may be gone.
        let above = place.filter(|place| ids.first() == Some(&place.deploy)).map(|place| place.position);
        let rows = sqlx::query_as!(
            ReadRow,
            r#"WITH looked_at AS MATERIALIZED (
                   SELECT d.nth, l.* FROM UNNEST($1::uuid[]) WITH ORDINALITY AS d (id, nth)
                   CROSS JOIN LATERAL (
                       SELECT position, deploy_id, at, source, seq, level, has_words,
                              CASE WHEN has_words THEN line ELSE '' END AS line
                       FROM deploy_logs, LATERAL (SELECT search @@ websearch_to_tsquery('simple', $2)) AS matched (has_words)
                       WHERE deploy_id = d.id
                           AND position < CASE WHEN d.nth = 1 THEN coalesce($3, 9223372036854775807) ELSE 9223372036854775807 END
                       ORDER BY position DESC LIMIT $5
                   ) AS l
                   ORDER BY d.nth, l.position DESC LIMIT $5
               )
               SELECT (SELECT count(*) FROM looked_at) AS "lines!", nth AS "nth!", is_end AS "is_end!",
                      position AS "position!", deploy_id AS "deploy_id!", at AS "at!: SqlTimestamp", source AS "source!",
                      seq AS "seq!", level AS "level!", line AS "line!"
               FROM (
                   (SELECT false AS is_end, * FROM looked_at WHERE has_words ORDER BY nth, position DESC LIMIT $4)
                   UNION ALL
                   (SELECT true, * FROM looked_at ORDER BY nth DESC, position LIMIT 1)
               ) AS told
               ORDER BY is_end, nth, position DESC"#,
            &ids,
            &*storable(&search.words),
            above,
            limit,
            lines
        )
        .fetch_all(&mut *all)
        .await
        .map_err(|error| self.fault(error))?;
        let made_at = |nth: i64| -> Result<Timestamp, StoreError> {
            let deploy = usize::try_from(nth - 1).ok().and_then(|nth| deploys.get(nth));
            deploy
                .map(|deploy| deploy.created_at.to_jiff())
                .ok_or_else(|| StoreError::corrupt("deploy", &nth, "it has lines, and was not asked for"))
        };
        let read = rows.first().map_or(0, |row| row.lines);
        let mut stretch = Stretch { hits: Vec::new(), lines: read, deploys: 0, end: None };
        for row in rows {
            let place = LogPlace { made_at: made_at(row.nth)?, deploy: row.deploy_id, position: row.position };
            if row.is_end {
                (stretch.deploys, stretch.end) = (row.nth, Some(place));
            } else {
                stretch.hits.push(Hit { place, line: row.try_into()? });
            }
        }
        if read < lines {
            // All of these deploys' lines were read. There are further deploys if there were as many as asked for.
            let is_more = i64::try_from(deploys.len()).unwrap_or(DEPLOYS) == DEPLOYS;
            let last = deploys.last().filter(|_| is_more);
            stretch.deploys = i64::try_from(deploys.len()).unwrap_or(DEPLOYS);
            stretch.end =
                last.map(|last| LogPlace { made_at: last.created_at.to_jiff(), deploy: last.id, position: 0 });
        }
        Ok(stretch)
    }

    /// The first lines with the words before `place`, at most `limit`, when the index of words knows few enough altogether;
    /// else `None`.
    async fn search_index(
        &self,
        all: &mut PgConnection,
        search: &LogSearch,
        place: Option<LogPlace>,
        limit: i64,
    ) -> Result<Option<Vec<Hit>>, StoreError> {
        // A part of the transaction that is taken back, with the limit that it sets.
        let mut part = all.begin().await.map_err(|error| self.fault(error))?;
        let longest = INDEX_LIMIT.as_millis().to_string();
        sqlx::query!("SELECT set_config('statement_timeout', $1, true) AS longest", longest)
            .fetch_one(&mut *part)
            .await
            .map_err(|error| self.fault(error))?;
        // Each deploy is looked up by its key, and each line of the page: a LIMIT of one keeps the server from reading all.
        let known = sqlx::query_as!(
            KnownRow,
            r#"WITH known AS MATERIALIZED (
                   SELECT deploy_id, position FROM deploy_logs
                   WHERE search @@ websearch_to_tsquery('simple', $2) LIMIT 10001
               )
               SELECT (SELECT count(*) FROM known) AS "known!", hit.created_at AS "made_at?: SqlTimestamp",
                      hit.position AS "position?", hit.deploy_id AS "deploy_id?", l.at AS "at?: SqlTimestamp",
                      l.source AS "source?", l.seq AS "seq?", l.level AS "level?", l.line AS "line?"
               FROM (SELECT) AS one LEFT JOIN LATERAL (
                   SELECT d.created_at, k.deploy_id, k.position FROM known AS k
                   CROSS JOIN LATERAL (SELECT created_at, project_id FROM deploys WHERE id = k.deploy_id LIMIT 1) AS d
                   WHERE (SELECT count(*) FROM known) <= 10000 AND d.project_id = $1
                       AND (d.created_at, k.deploy_id, k.position) < (
                           coalesce($3, 'infinity'::timestamptz), coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid),
                           coalesce($5, 9223372036854775807))
                   ORDER BY d.created_at DESC, k.deploy_id DESC, k.position DESC LIMIT $6
               ) AS hit ON true LEFT JOIN LATERAL (
                   SELECT at, source, seq, level, line FROM deploy_logs
                   WHERE deploy_id = hit.deploy_id AND position = hit.position LIMIT 1
               ) AS l ON true
               ORDER BY hit.created_at DESC, hit.deploy_id DESC, hit.position DESC"#,
            search.project_id,
            &*storable(&search.words),
            place.map(|place| place.made_at.to_sqlx()) as Option<SqlTimestamp>,
            place.map(|place| place.deploy),
            place.map(|place| place.position),
            limit
        )
        .fetch_all(&mut *part)
        .await;
        let took_too_long =
            |error: &sqlx::Error| error.as_database_error().and_then(|error| error.code()).as_deref() == Some("57014");
        let known = match known {
            Ok(rows) if rows.first().is_none_or(|row| row.known > RARE) => None,
            Ok(rows) => Some(rows.into_iter().filter_map(KnownRow::hit).collect::<Result<_, _>>()?),
            Err(error) if took_too_long(&error) => None,
            Err(error) => return Err(self.fault(error)),
        };
        part.rollback().await.map_err(|error| self.fault(error))?;
        Ok(known)
    }
}

impl TryFrom<ReadRow> for StoredLine {
    type Error = StoreError;

    fn try_from(row: ReadRow) -> Result<Self, StoreError> {
        let ReadRow { position, deploy_id, at, source, seq, level, line, .. } = row;
        LineRow { position, deploy_id, at, source, seq, level, line }.try_into()
    }
}

impl KnownRow {
    fn hit(self) -> Option<Result<Hit, StoreError>> {
        let (position, deploy_id) = (self.position?, self.deploy_id?);
        let place = LogPlace { made_at: self.made_at?.to_jiff(), deploy: deploy_id, position };
        let (at, source, seq) = (self.at?, self.source?, self.seq?);
        let row = LineRow { position, deploy_id, at, source, seq, level: self.level?, line: self.line? };
        Some(StoredLine::try_from(row).map(|line| Hit { place, line }))
    }
}
