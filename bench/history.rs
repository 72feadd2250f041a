//! A page of one stage's history out of very many deploys, beside one row that is read by its primary key; what else is asked of
//! them (`lookups.rs`), how soon old ones go, and how much room they take.
//!
//! The rows are made by the server itself, as many years of a thousand stages would have left them: in the order of time, so
//! that neighbours in a stage's history are far from each other on the disk.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::{
    domain::clock::{Ids as _, SystemIds},
    store::{HistoryCursor, HistoryFilter, NewStage, Store},
};
use uuid::Uuid;

use crate::Failure;
use crate::lookups::{self, Known};

/// Stages that the deploys are spread over.
const STAGES: i64 = 1000;
/// Deploys of one release.
const EACH_RELEASE: i64 = 100;
/// Stages that are read. Their deploys have all their transitions; those of the others would only fill the disk.
const READ: i64 = 25;
/// Rows that one statement makes.
const BATCH: i64 = 250_000;
/// Deploys of a page, as many as nobody has to ask for: of the command line, and of the API.
const PAGE: i64 = 20;
const LONG_PAGE: i64 = 50;
/// Reads of each kind in a round.
const READS: u32 = 40;

/// Deploy number `g` is made 20 seconds after the one before. Images have only those that are read: of the others they would
/// take two gigabytes.
const DEPLOYS: &str = "
    INSERT INTO deploys (id, target_id, project_id, sequence, release_id, images, snapshot_hash, instance, state, since, version,
                         epoch, actor, cause, message, created_at, updated_at, finished_at)
    SELECT (lpad(to_hex((extract(epoch FROM made.at) * 1000)::bigint), 12, '0') || '7000' || '8' || lpad(to_hex(g), 15, '0'))::uuid,
           s.id, s.project_id, g / $3 + 1, r.id, CASE WHEN s.number < $5 THEN r.images ELSE '{}' END, 's' || r.number,
           'i' || left(r.id, 7), CASE WHEN g / $3 % 16 = 7 THEN 'rolled_back' ELSE 'success' END, made.at + interval '40 s', 6, 1,
           CASE WHEN g % 3 = 0 THEN 'policy' ELSE 'user:maria' END, 'image web changed',
           CASE WHEN g / $3 % 16 = 7 THEN 'web: 3 restarts within 60 s' END, made.at, made.at, made.at + interval '40 s'
    FROM generate_series($1::bigint, $2::bigint) AS g
    CROSS JOIN LATERAL (SELECT timestamptz '2020-01-01' + g * interval '20 s') AS made (at)
    JOIN bench_stages AS s ON s.number = g % $3
    JOIN bench_releases AS r ON r.number = (g / $3 * 7 + g) % $4
    ORDER BY g";

/// Indexes that go before the rows come and are built from all of them afterwards, which takes a fraction of time and disk.
const INDEXES: &str = "
    SELECT i.indexname, i.indexdef FROM pg_indexes AS i
    WHERE i.schemaname = 'public' AND i.tablename = 'deploys'
        AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conname = i.indexname)";

const TRANSITIONS: &str = "
    INSERT INTO deploy_transitions (deploy_id, version, step, from_state, to_state, actor, reason, message, at)
    SELECT d.id, way.version, 1, way.before, way.after, 'controller', 'Step', 'the step before was done',
           d.created_at + way.version * interval '6 s'
    FROM bench_stages AS s JOIN deploys AS d ON d.target_id = s.id,
         (VALUES (1, NULL, 'pending'), (2, 'pending', 'pulling'), (3, 'pulling', 'starting'),
                 (4, 'starting', 'configuring_proxy'), (5, 'configuring_proxy', 'health_checking'),
                 (6, 'health_checking', 'success')) AS way (version, before, after)
    WHERE s.number < $1";

#[derive(Args)]
pub struct History {
    /// A database without a schema, of which nothing is kept.
    #[arg(long)]
    database: String,
    /// Deploys in it.
    #[arg(long, default_value_t = 10_000_000)]
    rows: i64,
    /// How often pages and single rows take turns.
    #[arg(long, default_value_t = 25)]
    rounds: u32,
    /// Every deploy has its images and transitions, not only those that are read. Tells how much room a million takes.
    #[arg(long)]
    whole: bool,
}

/// Where a page begins that is deep in a stage's history.
struct Deep {
    stage: String,
    cursor: HistoryCursor,
}

impl History {
    pub async fn run(&self) -> Result<Value, Failure> {
        if self.rows < STAGES * LONG_PAGE * 4 {
            return Err(format!("{} deploys are less than a few pages for each of {STAGES} stages", self.rows).into());
        }
        let store = Store::connect(&self.database).await?;
        store.migrate_up().await?;
        let begun = Instant::now();
        let mut sql = PgConnection::connect(&self.database).await?;
        fill(&store, &mut sql, self.rows, if self.whole { STAGES } else { READ }).await?;
        let filled = begun.elapsed();
        let deep = deep(&mut sql, self.rows / STAGES / 2).await?;
        let ids = some_of(&mut sql, self.rows / STAGES).await?;
        let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(&mut sql).await?;
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            // The first one fills caches of every kind, and is not counted.
            let measured = one_round(&store, &deep, &ids, round).await?;
            if round > 0 {
                rounds.push(measured);
            }
        }
        let known = known(&mut sql, self.rows / STAGES).await?;
        let asked = lookups::measure(&store, &mut sql, &known).await?;
        let per_million = if self.whole { lookups::size(&mut sql, self.rows).await? } else { Value::Null };
        // Whatever was made in the first half is old.
        let old = deep.iter().map(|place| place.cursor.created_at).min().ok_or("no stage is read")?;
        let pruned = lookups::prune(&store, old).await?;
        Ok(json!({
            "kind": "history",
            "rows": self.rows,
            "pageOf": PAGE,
            "longPageOf": LONG_PAGE,
            "fillSeconds": filled.as_secs_f64(),
            "databaseMiB": bytes / (1 << 20),
            "rounds": rounds,
            "asked": asked,
            "pruneMillis": pruned,
            "isWhole": self.whole,
            "perMillion": per_million,
        }))
    }
}

/// Makes the stages, their releases and their deploys. What the schema checks row by row, the statements get right.
/// Those of the first `complete` stages have images and transitions. Gives the project.
pub async fn fill(store: &Store, sql: &mut PgConnection, rows: i64, complete: i64) -> Result<Uuid, Failure> {
    let ids = SystemIds;
    let releases = rows / EACH_RELEASE + 1;
    let project = store.project_upsert(ids.next(), "bench", "bench").await?;
    sqlx::raw_sql("CREATE TABLE bench_stages (number bigint PRIMARY KEY, id uuid NOT NULL, project_id uuid NOT NULL)")
        .execute(&mut *sql)
        .await?;
    for number in 0..STAGES {
        let name = format!("s{number:04}");
        let stage =
            NewStage { id: ids.next(), project_id: project.id, namespace: "bench".into(), uid: name.clone(), name };
        let id = store.stage_upsert(&stage).await?;
        sqlx::query("INSERT INTO bench_stages VALUES ($1, $2, $3)")
            .bind(number)
            .bind(id)
            .bind(project.id)
            .execute(&mut *sql)
            .await?;
    }
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE TABLE bench_releases AS
             SELECT n AS number, h.id, jsonb_build_object('web', jsonb_build_object(
                 'repository', 'registry.example/shop/web', 'tag', '1.' || n, 'digest', 'sha256:' || h.id)) AS images
             FROM generate_series(0, {releases} - 1) AS n
             CROSS JOIN LATERAL (SELECT encode(sha256(n::text::bytea), 'hex')) AS h (id);
         INSERT INTO releases (project_id, id, images) SELECT '{0}', id, images FROM bench_releases;
         INSERT INTO snapshots (project_id, hash, content) SELECT '{0}', 's' || number, images FROM bench_releases;
         CREATE UNIQUE INDEX ON bench_releases (number);
         ANALYZE bench_stages, bench_releases, releases;
         ALTER TABLE deploys DROP CONSTRAINT deploys_target_id_sequence_key;
         SET session_replication_role = replica;",
        project.id
    )))
    .execute(&mut *sql)
    .await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut *sql).await?;
    for (name, _) in &indexes {
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {name}"))).execute(&mut *sql).await?;
    }
    let mut first = 0;
    while first < rows {
        let last = (first + BATCH).min(rows) - 1;
        let batch = sqlx::query(DEPLOYS).bind(first).bind(last).bind(STAGES).bind(releases).bind(complete);
        batch.execute(&mut *sql).await?;
        first = last + 1;
        if first % (BATCH * 8) == 0 {
            eprintln!("  …     {first} of {rows} deploys");
        }
    }
    sqlx::raw_sql("ALTER TABLE deploys ADD UNIQUE (target_id, sequence)").execute(&mut *sql).await?;
    for (_, definition) in indexes {
        sqlx::raw_sql(AssertSqlSafe(definition)).execute(&mut *sql).await?;
    }
    sqlx::query(TRANSITIONS).bind(complete).execute(&mut *sql).await?;
    // What the server does by itself when there is time.
    for rest in
        ["SET session_replication_role = origin", "VACUUM (ANALYZE) deploys", "VACUUM (ANALYZE) deploy_transitions"]
    {
        sqlx::raw_sql(rest).execute(&mut *sql).await?;
    }
    Ok(project.id)
}

/// A place in the middle of the history of each stage that is read.
async fn deep(sql: &mut PgConnection, sequence: i64) -> Result<Vec<Deep>, Failure> {
    let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(
        "SELECT s.number, d.id, (extract(epoch FROM d.created_at) * 1000000)::bigint
         FROM bench_stages AS s JOIN deploys AS d ON d.target_id = s.id AND d.sequence = $2 WHERE s.number < $1",
    )
    .bind(READ)
    .bind(sequence)
    .fetch_all(sql)
    .await?;
    let place = |(number, id, micros): (i64, Uuid, i64)| {
        let cursor = HistoryCursor { created_at: Timestamp::from_microsecond(micros)?, id };
        Ok(Deep { stage: format!("s{number:04}"), cursor })
    };
    rows.into_iter().map(place).collect()
}

/// Deploys of the stages that are read, four of each: as many rows as stay in memory like their pages do.
async fn some_of(sql: &mut PgConnection, each: i64) -> Result<Vec<Uuid>, Failure> {
    let ids = sqlx::query_scalar(
        "SELECT d.id FROM bench_stages AS s CROSS JOIN generate_series(1, 4) AS n
         JOIN deploys AS d ON d.target_id = s.id AND d.sequence = 1 + (s.number + n * 7919) % $1
         WHERE s.number < $2 ORDER BY md5(s.number::text || n)",
    );
    Ok(ids.bind(each).bind(READ).fetch_all(sql).await?)
}

/// The same deploys, with what people know of them: their stage, their image, and when they were made.
async fn known(sql: &mut PgConnection, each: i64) -> Result<Vec<Known>, Failure> {
    let rows: Vec<(i64, Uuid, i64, String, String)> = sqlx::query_as(
        "SELECT s.number, d.id, (extract(epoch FROM d.created_at) * 1000000)::bigint, d.images #>> '{web,digest}',
                ':' || (d.images #>> '{web,tag}') || '@'
         FROM bench_stages AS s CROSS JOIN generate_series(1, 4) AS n
         JOIN deploys AS d ON d.target_id = s.id AND d.sequence = 1 + (s.number + n * 7919) % $1
         WHERE s.number < $2 ORDER BY md5(s.number::text || n)",
    )
    .bind(each)
    .bind(READ)
    .fetch_all(sql)
    .await?;
    let known = rows.into_iter().map(|(number, deploy, micros, digest, tag)| {
        let made_at = Timestamp::from_microsecond(micros)?;
        Ok(Known { stage: format!("s{number:04}"), deploy, made_at, digest, tag })
    });
    known.collect()
}

/// Milliseconds that the middle one of some reads of each kind took, by turns through one pool.
async fn one_round(store: &Store, deep: &[Deep], ids: &[Uuid], round: u32) -> Result<Value, Failure> {
    let [mut rows, mut first, mut further, mut long] = [const { Vec::new() }; 4];
    for number in 0..READS {
        let at = usize::try_from(round * READS + number)?;
        let place = &deep[at % deep.len()];
        let begun = Instant::now();
        let ended = store.deploy_ended(ids[at % ids.len()]).await?;
        rows.push(begun.elapsed());
        if !matches!(ended, Some(Some(_))) {
            return Err("a deploy that was made is not there".into());
        }
        for (after, limit, times) in
            [(None, PAGE, &mut first), (Some(place.cursor), PAGE, &mut further), (None, LONG_PAGE, &mut long)]
        {
            let filter = HistoryFilter {
                namespace: Some("bench".into()),
                project: Some("bench".into()),
                stage: Some(place.stage.clone()),
                after,
                limit,
                ..HistoryFilter::default()
            };
            let begun = Instant::now();
            let page = store.history_list(&filter).await?;
            times.push(begun.elapsed());
            let whole = page.entries.len() == usize::try_from(limit)? && page.next.is_some();
            if !whole || page.entries.iter().any(|entry| entry.transitions.len() != 6) {
                return Err(format!("a page of {} has {} deploys", place.stage, page.entries.len()).into());
            }
        }
    }
    Ok(json!({
        "rowMillis": middle(rows),
        "pageMillis": middle(first),
        "deepMillis": middle(further),
        "longMillis": middle(long),
    }))
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
