//! What people ask of a very long history besides its pages: where an image was deployed, and what served at an instant. Each
//! beside one row that is read by its primary key, by turns through the same pool, with the plan by which the server answers.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use stagekeeper::store::{HistoryFilter, ServedFilter, Store};
use uuid::Uuid;

use crate::Failure;
use crate::logs::spread;
use crate::report::{Figure, Goal};

/// Reads of each kind.
const READS: usize = 400;
/// Deploys of a page, as many as the command line asks for; stages of a page of what served, as many as the API gives.
const PAGE: i64 = 20;
const STAGES: i64 = 50;
/// Deploys that go at once, and how often.
const PRUNED: i64 = 1000;
const PRUNES: usize = 20;

/// What is asked, and words of the one statement that does the work.
const ASKED: [(&str, &str); 6] = [
    ("image", "image_digests(r.images) @> ARRAY[$7::text]"),
    ("image-stage", "image_digests(r.images) @> ARRAY[$7::text]"),
    ("image-text", "FROM UNNEST($7::uuid[]) AS t (id)"),
    ("image-where", "WITH runs AS"),
    ("at", "d.state = 'success' AND d.finished_at <= $1"),
    ("at-stage", "d.state = 'success' AND d.finished_at <= $1"),
];

/// A stage that is read, with a release that it had.
pub struct Known {
    /// The stage's name.
    pub stage: String,
    /// A deploy of it.
    pub deploy: Uuid,
    /// When that was made.
    pub made_at: Timestamp,
    /// Its image's digest.
    pub digest: String,
    /// Its image's tag, with what is around it.
    pub tag: String,
}

/// Times of every kind of question, of rows, and plans.
pub async fn measure(store: &Store, sql: &mut PgConnection, known: &[Known]) -> Result<Value, Failure> {
    let mut all = Map::new();
    for (name, words) in ASKED {
        let (mut times, mut rows) = (Vec::new(), Vec::new());
        for read in 0..READS {
            let one = &known[read * 7 % known.len()];
            let begun = Instant::now();
            let ended = store.deploy_ended(known[read * 13 % known.len()].deploy).await?;
            rows.push(begun.elapsed());
            if !matches!(ended, Some(Some(_))) {
                return Err("a deploy that was made is not there".into());
            }
            let begun = Instant::now();
            let found = ask(store, name, one).await?;
            times.push(begun.elapsed());
            if found == 0 {
                return Err(format!("{name} finds nothing of {}", one.stage).into());
            }
        }
        let answer = json!({"millis": spread(times), "rowMillis": spread(rows), "plan": plan(sql, words).await?});
        all.insert(name.to_owned(), answer);
    }
    Ok(Value::Object(all))
}

/// Asks one question; says how many answers there are.
async fn ask(store: &Store, name: &str, known: &Known) -> Result<usize, Failure> {
    let stage = name.ends_with("-stage").then(|| known.stage.clone());
    let history = HistoryFilter {
        namespace: Some("bench".into()),
        project: Some("bench".into()),
        stage: stage.clone(),
        image: Some(known.digest.clone()),
        limit: PAGE,
        ..HistoryFilter::default()
    };
    Ok(match name {
        "image" | "image-stage" => store.history_list(&history).await?.entries.len(),
        "image-text" => {
            let stage = Some(known.stage.clone());
            let history = HistoryFilter { stage, image: Some(known.tag.clone()), ..history };
            store.history_list(&history).await?.entries.len()
        }
        "image-where" => store.image_runs(&known.digest.parse()?, &history).await?.len(),
        _ => {
            let served = ServedFilter {
                at: known.made_at + SignedDuration::from_mins(2),
                namespace: Some("bench".into()),
                project: Some("bench".into()),
                stage,
                image: None,
                after: None,
                limit: STAGES,
            };
            store.history_at(&served).await?.entries.len()
        }
    })
}

/// How the server carries out the statement of the program with these words: its nodes from the top, with what each reads.
/// The program's connections ask for one plan for any arguments, so there is no other.
pub async fn plan(sql: &mut PgConnection, words: &str) -> Result<Value, Failure> {
    let mut queries = Vec::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx"))? {
        let described: Value = serde_json::from_str(&std::fs::read_to_string(file?.path())?)?;
        queries.extend(described["query"].as_str().filter(|query| query.contains(words)).map(str::to_owned));
    }
    let [query] = queries.as_slice() else {
        return Err(format!("{} statements of the program have `{words}`, instead of one", queries.len()).into());
    };
    let prepare = format!("SET plan_cache_mode = force_generic_plan; PREPARE asked AS {query}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *sql).await?;
    let count = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'asked'";
    let arguments: i32 = sqlx::query_scalar(count).fetch_one(&mut *sql).await?;
    let arguments = vec!["NULL"; usize::try_from(arguments)?].join(", ");
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE asked({arguments})");
    let explained = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(&mut *sql).await?.try_get::<Value, _>(0)?;
    sqlx::raw_sql("DEALLOCATE asked").execute(&mut *sql).await?;
    let mut nodes = Vec::new();
    walk(&explained, 0, &mut nodes);
    Ok(nodes.into())
}

fn walk(plan: &Value, depth: usize, nodes: &mut Vec<String>) {
    match plan {
        Value::Array(plans) => plans.iter().for_each(|plan| walk(plan, depth, nodes)),
        Value::Object(node) => {
            let word = |key: &str| node.get(key).and_then(Value::as_str);
            let mut below = depth;
            if let Some(kind) = word("Node Type") {
                let parts = [Some(kind), word("Index Name").or_else(|| word("Relation Name"))];
                let told: Vec<&str> = parts.into_iter().flatten().collect();
                nodes.push(format!("{}{}", "  ".repeat(depth), told.join(" ")));
                below += 1;
            }
            for key in ["Plan", "Plans"] {
                node.get(key).into_iter().for_each(|plan| walk(plan, below, nodes));
            }
        }
        _ => {}
    }
}

/// Milliseconds in which the oldest thousand deploys go, several times.
pub async fn prune(store: &Store, before: Timestamp) -> Result<Value, Failure> {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..PRUNES {
        let begun = Instant::now();
        let gone = store.deploys_prune(before, PRUNED).await?;
        times.push(begun.elapsed());
        if i64::try_from(gone)? != PRUNED {
            return Err(format!("{gone} deploys were deleted instead of {PRUNED}").into());
        }
    }
    Ok(spread(times))
}

/// Bytes that a million deploys take in every table and index of the program, and what their rows alone have.
pub async fn size(sql: &mut PgConnection, rows: i64) -> Result<Value, Failure> {
    let tables = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                  WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname !~ '^bench_'";
    let stored: i64 = sqlx::query_scalar(tables).fetch_one(&mut *sql).await?;
    let bare = "SELECT ((SELECT sum(pg_column_size(d.*)) FROM deploys AS d)
                        + (SELECT sum(pg_column_size(t.*)) FROM deploy_transitions AS t))::bigint";
    let bare: i64 = sqlx::query_scalar(bare).fetch_one(sql).await?;
    let per_million = |bytes: i64| bytes / (1 << 10) * 1_000_000 / rows / (1 << 10);
    Ok(json!({"storedMiB": per_million(stored), "bareMiB": per_million(bare)}))
}

/// What is told of it.
pub fn figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for run in measured.iter().filter(|one| one["kind"] == "history") {
        let Some(rows) = run["rows"].as_u64() else { continue };
        let mut figure = |name: String, unit, value: &Value, floor: &Value| {
            let one = |value: &Value| value.as_f64().into_iter().collect();
            all.push(Figure { name, unit, values: one(value), floor: one(floor), goal: Goal::None });
        };
        for share in ["p50", "p99"] {
            for (name, _) in ASKED {
                let asked = &run["asked"][name];
                if !asked.is_null() {
                    let name = format!("history-{name}-{share}-{rows}");
                    figure(name, "ms", &asked["millis"][share], &asked["rowMillis"][share]);
                }
            }
            let name = format!("history-prune-1000-{share}-{rows}");
            figure(name, "ms", &run["pruneMillis"][share], &Value::Null);
        }
        if run["isWhole"] == true {
            let size = &run["perMillion"];
            figure("history-size-per-million".into(), "MiB", &size["storedMiB"], &size["bareMiB"]);
        }
    }
    all
}
