//! Very many lines of output in the months that they were written in: searched, read, and dropped by the month.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::{Span, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use stagekeeper::store::{LogFilter, LogSearch, Store};
use uuid::Uuid;

use crate::Failure;
use crate::history::fill;
use crate::lookups;
use crate::report::{Figure, Goal};

/// Lines of one deploy.
const EACH: i64 = 1_000;
/// Lines that one statement makes.
const BATCH: i64 = 500_000;
/// Lines of a page of what was searched for, and of what is read.
const PAGE: i64 = 100;
/// Reads of each kind.
const READS: usize = 40;

/// Words to search for: in one line of a million, in one of a thousand, and in all.
const WORDS: [(&str, &str); 3] = [("rare", "needle"), ("some", "refused"), ("every", "handled")];

/// Line number `g` is of deploy `g / 1000`, and written so long after the first.
const LINES: &str = "
    INSERT INTO deploy_logs (deploy_id, at, source, seq, level, line)
    SELECT d.id, $3::timestamptz + g * ($4::bigint * interval '1 microsecond'), 'web/web-0', g % $5, CASE WHEN g % 1000 = 7 THEN 'error' ELSE 'info' END,
           CASE WHEN g % 1000 = 7 THEN 'worker ' || g % 50 || ' handled request ' || md5(g::text) || ': connection refused by upstream'
                WHEN g % 1000000 = 11 THEN 'worker ' || g % 50 || ' handled request ' || md5(g::text) || ' and found the needle'
                ELSE 'worker ' || g % 50 || ' handled request ' || md5(g::text) || ' in ' || g % 900 || ' ms' END
    FROM generate_series($1::bigint, $2::bigint) AS g JOIN bench_deploys AS d ON d.number = g / $5
    ORDER BY g";

#[derive(Args)]
pub struct Logs {
    /// A database without a schema, of which nothing is kept.
    #[arg(long)]
    database: String,
    /// Lines in it.
    #[arg(long, default_value_t = 10_000_000)]
    lines: i64,
    /// Months that they are spread over.
    #[arg(long, default_value_t = 12)]
    months: i64,
}

impl Logs {
    pub async fn run(&self) -> Result<Value, Failure> {
        let store = Store::connect(&self.database).await?;
        store.migrate_up().await?;
        let mut sql = PgConnection::connect(&self.database).await?;
        let project = fill(&store, &mut sql, self.lines / EACH, 0).await?;
        let begun = Instant::now();
        let ids = self.write(&store, &mut sql).await?;
        let filled = begun.elapsed();
        let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(&mut sql).await?;
        let some: Vec<Uuid> = (0..READS).map(|read| ids[read * 7919 % ids.len()]).collect();

        let mut searched = serde_json::Map::new();
        let mut given_up = 0;
        for (name, words) in WORDS {
            let (before, most) = (None, LogSearch::MOST);
            let search = LogSearch { project_id: project, words: words.to_owned(), before, limit: PAGE, most };
            let mut times = Vec::new();
            for _ in 0..READS {
                let begun = Instant::now();
                let found = store.logs_search(&search).await?;
                times.push(begun.elapsed());
                if found.lines.is_empty() {
                    return Err(format!("nothing is found of `{words}`").into());
                }
                given_up += u32::from(found.gave_up);
            }
            searched.insert(name.to_owned(), spread(times));
        }
        let plans = json!({
            "read": lookups::plan(&mut sql, "looked_at AS MATERIALIZED").await?,
            "index": lookups::plan(&mut sql, "known AS MATERIALIZED").await?,
        });
        let (mut read, mut rows) = (Vec::new(), Vec::new());
        for deploy in some {
            let begun = Instant::now();
            store.deploy_ended(deploy).await?;
            rows.push(begun.elapsed());
            let filter = LogFilter { deploy, after: 0, search: None, limit: PAGE };
            let begun = Instant::now();
            let found = store.logs_list(&filter).await?;
            read.push(begun.elapsed());
            if found.len() != usize::try_from(PAGE)? {
                return Err(format!("a page has {} lines", found.len()).into());
            }
        }
        let mut dropped = Vec::new();
        for month in 1..=self.months.min(6) {
            let begun = Instant::now();
            let count = store.logs_prune(later(first()?, month)?).await?;
            dropped.push(begun.elapsed());
            if count != 1 {
                return Err(format!("{count} months were dropped instead of one").into());
            }
        }
        Ok(json!({
            "kind": "logs",
            "lines": self.lines,
            "months": self.months,
            "fillSeconds": filled.as_secs_f64(),
            "databaseMiB": bytes / (1 << 20),
            "searchMillis": searched,
            "searchesGivenUp": given_up,
            "searchPlans": plans,
            "pageMillis": spread(read),
            "rowMillis": spread(rows),
            "dropMillis": spread(dropped),
        }))
    }

    /// Writes the lines; gives the deploys.
    async fn write(&self, store: &Store, sql: &mut PgConnection) -> Result<Vec<Uuid>, Failure> {
        let first = first()?;
        store.partitions_ensure(first, i32::try_from(self.months)?).await?;
        let length = later(first, self.months)?.as_microsecond() - first.as_microsecond();
        sqlx::raw_sql(
            "CREATE TABLE bench_deploys AS SELECT row_number() OVER (ORDER BY id) - 1 AS number, id FROM deploys;
             CREATE UNIQUE INDEX ON bench_deploys (number);
             ANALYZE bench_deploys;
             SET session_replication_role = replica",
        )
        .execute(&mut *sql)
        .await?;
        let mut next = 0;
        while next < self.lines {
            let last = (next + BATCH).min(self.lines) - 1;
            let batch = sqlx::query(LINES).bind(next).bind(last).bind(first.to_string());
            batch.bind(length / self.lines).bind(EACH).execute(&mut *sql).await?;
            next = last + 1;
            if next % (BATCH * 4) == 0 {
                eprintln!("  …     {next} of {} lines", self.lines);
            }
        }
        sqlx::raw_sql("SET session_replication_role = origin").execute(&mut *sql).await?;
        sqlx::raw_sql("VACUUM (ANALYZE) deploy_logs").execute(&mut *sql).await?;
        Ok(sqlx::query_scalar("SELECT id FROM bench_deploys ORDER BY number").fetch_all(&mut *sql).await?)
    }
}

/// When the first line is written.
fn first() -> Result<Timestamp, Failure> {
    Ok("2024-01-01T00:00:00Z".parse()?)
}

/// So many months later.
fn later(at: Timestamp, months: i64) -> Result<Timestamp, Failure> {
    Ok(at.to_zoned(TimeZone::UTC).checked_add(Span::new().months(months))?.timestamp())
}

/// Milliseconds: the middle one, the one that 99 of 100 do not exceed, and the worst.
pub fn spread(mut times: Vec<Duration>) -> Value {
    times.sort();
    let millis = |time: &Duration| time.as_secs_f64() * 1000.0;
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).map(millis);
    json!({"p50": at(50), "p99": at(99), "worst": times.last().map(millis), "count": times.len()})
}

/// What is told of it.
pub fn figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for run in measured.iter().filter(|one| one["kind"] == "logs") {
        let Some(lines) = run["lines"].as_u64() else { continue };
        let mut figure = |name: &str, times: &Value, floor: &Value| {
            for share in ["p50", "p99"] {
                let one = |times: &Value| times[share].as_f64().into_iter().collect();
                let name = format!("logs-{name}-{share}-{lines}");
                all.push(Figure { name, unit: "ms", values: one(times), floor: one(floor), goal: Goal::None });
            }
        };
        for (name, _) in WORDS {
            figure(&format!("search-{name}"), &run["searchMillis"][name], &run["rowMillis"]);
        }
        figure("page", &run["pageMillis"], &run["rowMillis"]);
        figure("drop-month", &run["dropMillis"], &Value::Null);
        let size = run["databaseMiB"].as_f64().into_iter().collect();
        let name = format!("logs-size-{lines}");
        all.push(Figure { name, unit: "MiB", values: size, floor: Vec::new(), goal: Goal::None });
    }
    all
}
