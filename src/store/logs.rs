//! Deploy logs: lines in the order in which they arrived, searchable, kept in monthly partitions.

mod search;

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

pub use self::search::{LogPage, LogPlace, LogSearch};
use super::{
    Store, StoreError,
    text::{at_most, storable},
};

/// Longest line in bytes; what is longer is cut. Far below what a full-text index can take.
const LONGEST_LINE: usize = 64 * 1024;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// For whoever looks closely.
    Debug,
    /// The course of things.
    Info,
    /// Odd, but it went on.
    Warn,
    /// Why it failed.
    Error,
}

impl LogLevel {
    /// The word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|level| level.word() == word)
            .ok_or_else(|| format!("`{word}` is not a log level: expected debug, info, warn or error"))
    }
}

/// A line to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// Where it comes from: `operator`, `pod/shop-web-0/web`, `hook/migrate`, `events`.
    pub source: String,
    /// Its number in its source: the same number again is the same line.
    pub seq: i64,
    /// How much it matters.
    pub level: LogLevel,
    /// The line.
    pub text: String,
}

/// A line that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// Order of arrival: give it to [`LogFilter::after`] to go on from here.
    pub position: i64,
    /// The deploy it belongs to.
    pub deploy: Uuid,
    /// The line.
    pub line: LogLine,
}

/// Which lines to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// The deploy.
    pub deploy: Uuid,
    /// Words that must occur, as in a web search: `connection refused`, `"exit code 1"`, `timeout -probe`.
    pub search: Option<String>,
    /// Only lines that arrived after this position; 0 from the start.
    pub after: i64,
    /// How many at most.
    pub limit: i64,
}

struct LineRow {
    position: i64,
    deploy_id: Uuid,
    at: SqlTimestamp,
    source: String,
    seq: i64,
    level: String,
    line: String,
}

impl TryFrom<LineRow> for StoredLine {
    type Error = StoreError;

    fn try_from(row: LineRow) -> Result<Self, StoreError> {
        let level = (row.level.parse()).map_err(|why: String| StoreError::corrupt("log line", &row.position, &why))?;
        Ok(Self {
            position: row.position,
            deploy: row.deploy_id,
            line: LogLine { at: row.at.to_jiff(), source: row.source, seq: row.seq, level, text: row.line },
        })
    }
}

impl Store {
    /// Appends lines in the order of their time and says how many were new. A line that is stored already, by source and
    /// number, is dropped: after a crash the whole batch may be sent again.
    pub async fn logs_append(&self, deploy: Uuid, lines: &[LogLine]) -> Result<u64, StoreError> {
        if lines.is_empty() {
            return Ok(0);
        }
        let at: Vec<SqlTimestamp> = lines.iter().map(|line| line.at.to_sqlx()).collect();
        let sources: Vec<String> = lines.iter().map(|line| storable(&line.source).into_owned()).collect();
        let seqs: Vec<i64> = lines.iter().map(|line| line.seq).collect();
        let levels: Vec<&str> = lines.iter().map(|line| line.level.word()).collect();
        let texts: Vec<String> =
            lines.iter().map(|line| at_most(storable(&line.text), LONGEST_LINE).into_owned()).collect();
        let stored = sqlx::query!(
            "INSERT INTO deploy_logs (deploy_id, at, source, seq, level, line)
             SELECT $1, new.at, new.source, new.seq, new.level, new.line
             FROM UNNEST($2::timestamptz[], $3::text[], $4::bigint[], $5::text[], $6::text[])
                 AS new (at, source, seq, level, line)
             WHERE (SELECT leads($7, $8)) AND NOT EXISTS (
                 SELECT FROM deploy_logs AS old
                 WHERE old.deploy_id = $1 AND old.source = new.source AND old.seq = new.seq)
             ORDER BY new.at, new.source, new.seq
             ON CONFLICT DO NOTHING",
            deploy,
            &at[..] as _,
            &sources[..],
            &seqs[..],
            &levels[..] as _,
            &texts[..],
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(stored.rows_affected())
    }

    /// The lines of a deploy in the order in which they arrived.
    pub async fn logs_list(&self, filter: &LogFilter) -> Result<Vec<StoredLine>, StoreError> {
        let search = filter.search.as_deref().map(storable);
        let rows = sqlx::query_as!(
            LineRow,
            r#"SELECT position, deploy_id, at AS "at: SqlTimestamp", source, seq, level, line
               FROM deploy_logs
               WHERE deploy_id = $1 AND position > $3
                   AND ($2::text IS NULL OR search @@ websearch_to_tsquery('simple', $2))
               ORDER BY position LIMIT $4"#,
            filter.deploy,
            search.as_deref(),
            filter.after,
            filter.limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredLine::try_from).collect()
    }

    /// Makes the partitions of this month and of `months_ahead` after it and says how many were missing. Reads only when
    /// none is.
    pub async fn partitions_ensure(&self, now: Timestamp, months_ahead: i32) -> Result<i32, StoreError> {
        sqlx::query_scalar!(
            r#"SELECT deploy_logs_partitions_ensure($1, $2) AS "made!" WHERE leads($3, $4)"#,
            now.to_sqlx() as SqlTimestamp,
            months_ahead,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Drops the months that ended before `before` and says how many.
    pub async fn logs_prune(&self, before: Timestamp) -> Result<i32, StoreError> {
        sqlx::query_scalar!(
            r#"SELECT deploy_logs_prune($1) AS "dropped!" WHERE leads($2, $3)"#,
            before.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }
}
