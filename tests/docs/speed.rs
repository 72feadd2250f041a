//! The figures of the benchmark runs that were kept, as the pages show them: none is typed in by hand.

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

/// Title and name of each figure of a whole company in one cluster.
const CROWD: [(&str, &str); 12] = [
    ("resident memory, left alone", "memory"),
    ("the operator's share of a core, left alone", "idle-cpu"),
    ("API writes meanwhile", "idle-api-writes"),
    ("rows written meanwhile", "idle-sql-rows"),
    ("restart, until all are observed", "restart-observed"),
    ("API writes of a restart", "restart-api-writes"),
    ("resident memory after it", "memory-started"),
    ("20 deploys a second asked for by webhooks: until one is pulling, in the middle", "webhook-pulling-p50"),
    ("the same, 99 of 100", "webhook-pulling-p99"),
    (
        "one Project has N / 10 deploys waiting: until those of others are pulling, against without",
        "beside-greedy-pulling",
    ),
    ("the same, until they have succeeded", "beside-greedy-success"),
    ("made and deployed", "grow"),
];

/// The table, and when and where it was measured.
pub fn table() -> String {
    let run = run("latest");
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
    out.push_str(&measured(&run));
    out
}

/// What people ask, of a run of its own.
pub fn asked() -> String {
    let run = run("promotions");
    let mut out = String::from("| | asked for | goal |\n|---|---|---|\n");
    for (title, name) in ASKED {
        let one = figure(&run, name);
        writeln!(out, "| {title} | {} | {} |", shown(one), goal(one)).unwrap();
    }
    out + &measured(&run)
}

/// Each figure at each size, and the power of the number of Stages with which it grows.
pub fn crowd() -> String {
    let run = run("scale");
    let sizes = ["100", "1000", "10000"];
    let mut out = String::from(
        "| | 100 stages | 1,000 stages | 10,000 stages | grows with N to the | goal |\n|---|---|---|---|---|---|\n",
    );
    for (title, name) in CROWD {
        let all = sizes.map(|size| figure(&run, &format!("crowd-{name}-{size}")));
        let [few, many, most] = all.map(|one| if one["goal"] == "-" { plain(one) } else { shown(one) });
        let goal = if all[2]["goal"] == "-" { String::new() } else { goal(all[2]) };
        let exponent =
            run["figures"].as_array().unwrap().iter().find(|one| one["name"] == format!("crowd-{name}-exponent"));
        let exponent = exponent.map(|one| format!("{:.2}", number(&one["value"]))).unwrap_or_default();
        writeln!(out, "| {title} | {few} | {many} | {most} | {exponent} | {goal} |").unwrap();
    }
    out + &measured(&run).replace("; medians. Figures", ". Figures")
}

/// The edge beside others.
pub fn edge() -> String {
    let run = run("edge");
    let mut out = String::from("| | 1 KiB | added | 1 MiB | added | memory |\n|---|---|---|---|---|---|\n");
    for (title, name) in [
        ("nginx", "nginx"),
        ("HAProxy", "haproxy"),
        ("the edge, 10 hosts", "edge"),
        ("the edge, 10,000 hosts", "edge-many"),
    ] {
        write!(out, "| {title} |").unwrap();
        for size in ["1k", "1m"] {
            let one = figure(&run, &format!("edge-{size}-{name}"));
            let added = number(&one["added_p99_us"]) / 1000.0;
            let (rate, ratio) = (number(&one["value"]), number(&one["ratio"]));
            write!(out, " {rate} requests/s, {ratio:.2} of the better | {added:.1} ms |").unwrap();
        }
        let memory = format!("edge-memory-{name}");
        let memory = run["figures"].as_array().unwrap().iter().find(|one| one["name"] == *memory);
        writeln!(out, " {} |", memory.map(|one| format!("{} MiB", one["hwm"])).unwrap_or_default()).unwrap();
    }
    let about = |key: &str| run["about"][key].as_str().expect("text");
    let day = about("date").split('T').next().unwrap();
    let (cpu, setting) = (about("cpu"), about("setting"));
    writeln!(
        out,
        "\nMeasured on {day} at commit {}: {cpu}, {} cores; {setting}; medians.",
        about("commit"),
        run["about"]["cores"]
    )
    .unwrap();
    out
}

/// What the steps of an environment's life take of the API server and the database.
pub fn environments() -> String {
    let run = run("environments");
    let mut out = String::from("| | writes of the operator, each | rows written, each |\n|---|---|---|\n");
    for (title, step) in
        [("made and deployed", "create"), ("put to sleep", "sleep"), ("woken", "wake"), ("deleted", "delete")]
    {
        let of = |what: &str| number(&figure(&run, &format!("environment-{step}-{what}"))["value"]);
        writeln!(out, "| {title} | {:.1} | {:.1} |", of("writes"), of("rows")).unwrap();
    }
    let of = |what: &str| number(&figure(&run, &format!("environment-idle-{what}-500"))["value"]);
    writeln!(out, "| all 500 for a minute asleep, together | {} | {} |", of("writes"), of("rows")).unwrap();
    out + &measured(&run).replace("; medians. Figures that miss their goal are bold.", ".")
}

/// A run that was kept.
fn run(name: &str) -> Value {
    let file = root().join(format!("bench/results/{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// When and where.
fn measured(run: &Value) -> String {
    let about = |key: &str| match &run["about"][key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (date, _) = about("date").split_once('T').map(|(day, rest)| (day.to_owned(), rest.to_owned())).expect("a time");
    format!(
        "\nMeasured on {date} at commit {}: {}, {} cores, {} GiB for everything, Kubernetes {}, Postgres {}; medians. \
         Figures that miss their goal are bold.\n",
        about("commit"),
        about("cpu"),
        about("cores"),
        about("memoryGiB"),
        about("kubernetes"),
        about("postgres"),
    )
}

fn figure<'a>(run: &'a Value, name: &str) -> &'a Value {
    let figures = run["figures"].as_array().expect("figures");
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no figure {name}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// The value with its unit.
fn plain(figure: &Value) -> String {
    let (value, unit) = (number(&figure["value"]), figure["unit"].as_str().expect("a unit"));
    let digits = usize::from(value < 100.0 && value.fract() != 0.0);
    format!("{value:.digits$} {unit}")
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
