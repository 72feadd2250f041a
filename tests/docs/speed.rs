//! The figures of the last benchmark run that was kept, as the README shows them.

use std::fmt::Write as _;

use serde_json::Value;

use super::markdown::root;

/// Title and name of each figure of a number of stages.
const MOVED: [(&str, &str); 9] = [
    ("all stages moved", "move"),
    ("old instances gone after that", "old-gone-after"),
    ("API writes per deploy, all in", "api-writes-per-deploy"),
    ("LIST and GET requests", "api-reads"),
    ("processor seconds per 1,000 deploys", "cpu-per-1000-deploys"),
    ("resident memory, settled", "memory-settled"),
    ("API writes in 60 s after that", "idle-api-writes"),
    ("rows written in 60 s after that", "idle-sql-rows"),
    ("restart, until all are observed", "restart-observed"),
];

/// Title and name of each figure of the real node.
const NODE: [(&str, &str); 2] = [
    ("per deploy on a real node, less pulling and readiness", "node-overhead"),
    ("the same with health checks", "node-overhead-probed"),
];

/// Title and name of each figure of scans.
const SCANNED: [(&str, &str); 5] = [
    ("200 repositories of 1,000 tags, scanned and chosen for", "scan-200x1000"),
    ("resident memory meanwhile, at most", "scan-memory-peak-200x1000"),
    ("processor seconds for 1,000 repositories of 100 tags", "scan-cpu-1000x100"),
    ("lists asked for, for each of them", "scan-lists-1000x100"),
    ("one choice among 100,000 tags", "choose-semver-100000"),
];

/// Title and name of each figure of promotions, and of what people ask.
const ASKED: [(&str, &str); 5] = [
    ("1,000 promotions asked for at once, until every status tells that it has begun", "promoted-1000"),
    ("writes of each stage's status meanwhile", "promoted-status-writes-1000"),
    ("POST until the first transition, 99 of 100", "post-transition-p99"),
    ("a page of one stage's history, of 10 million deploys", "history-page-10000000"),
    ("a page far back in it", "history-page-deep-10000000"),
];

/// The table, and when and where it was measured.
pub fn table() -> String {
    let file = root().join("bench/results/latest.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let run: Value = serde_json::from_str(&text).expect("JSON");
    let mut out = String::from("| | 100 stages | 1,000 stages | goal |\n|---|---|---|---|\n");
    for (title, name) in MOVED {
        let (few, many) = (figure(&run, &format!("{name}-100")), figure(&run, &format!("{name}-1000")));
        writeln!(out, "| {title} | {} | {} | {} |", shown(few), shown(many), goal(many)).unwrap();
    }
    out.push_str("\n| | one stage | goal |\n|---|---|---|\n");
    for (title, name) in NODE {
        let one = figure(&run, name);
        writeln!(out, "| {title} | {} | {} |", shown(one), goal(one)).unwrap();
    }
    // Runs that were kept before scans or requests were measured, and runs without them, have none of these.
    let has_scans = run["figures"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == SCANNED[0].1));
    if has_scans {
        out.push_str("\n| | scans | goal |\n|---|---|---|\n");
        for (title, name) in SCANNED {
            let one = figure(&run, name);
            writeln!(out, "| {title} | {} | {} |", shown(one), goal(one)).unwrap();
        }
    }
    let has_asked = run["figures"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == ASKED[0].1));
    if has_asked {
        out.push_str("\n| | asked for | goal |\n|---|---|---|\n");
        for (title, name) in ASKED {
            let one = figure(&run, name);
            writeln!(out, "| {title} | {} | {} |", shown(one), goal(one)).unwrap();
        }
    }
    let about = |key: &str| match &run["about"][key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (date, _) = about("date").split_once('T').map(|(day, rest)| (day.to_owned(), rest.to_owned())).expect("a time");
    writeln!(
        out,
        "\nMeasured on {date} at commit {}: {}, {} cores, {} GiB for everything, Kubernetes {}, Postgres {}; medians. \
         Figures that miss their goal are bold.",
        about("commit"),
        about("cpu"),
        about("cores"),
        about("memoryGiB"),
        about("kubernetes"),
        about("postgres"),
    )
    .unwrap();
    out
}

fn figure<'a>(run: &'a Value, name: &str) -> &'a Value {
    let figures = run["figures"].as_array().expect("figures");
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no figure {name}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// The value with its unit, the ratio to the floor where that is what counts, in bold where the goal is missed.
fn shown(figure: &Value) -> String {
    let (value, unit) = (number(&figure["value"]), figure["unit"].as_str().expect("a unit"));
    let digits = usize::from(value < 100.0 && value.fract() != 0.0);
    let mut text = format!("{value:.digits$} {unit}");
    let (limit, relative) = limit(figure);
    if relative {
        let ratio = number(&figure["ratio"]);
        write!(text, ", {ratio:.2} × floor").unwrap();
        return if ratio > limit { format!("**{text}**") } else { text };
    }
    if let Some(floor) = figure["floor"].as_f64().filter(|floor| *floor > 0.0) {
        write!(text, " (floor {floor:.digits$})").unwrap();
    }
    if value > limit { format!("**{text}**") } else { text }
}

fn goal(figure: &Value) -> String {
    let (limit, relative) = limit(figure);
    let unit = if relative { "× floor" } else { figure["unit"].as_str().expect("a unit") };
    format!("at most {limit} {unit}")
}

/// The goal, and whether it is a ratio to the floor.
fn limit(figure: &Value) -> (f64, bool) {
    let text = figure["goal"].as_str().and_then(|goal| goal.strip_prefix("<=")).expect("a goal");
    (text.trim_end_matches('x').parse().expect("a number"), text.ends_with('x'))
}
