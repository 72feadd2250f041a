//! Sums up the measurements of a run: one line per figure, and the same as JSON.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::Failure;

#[derive(Args)]
pub struct Report {
    /// Directory of the measurements.
    #[arg(long)]
    dir: PathBuf,
    /// JSON object that describes machine and versions.
    #[arg(long)]
    about: String,
    /// Where to write everything.
    #[arg(long)]
    out: PathBuf,
}

/// One figure: the least and the median over the rounds, beside the floor's of the same rounds.
pub struct Figure {
    /// What it is called.
    pub name: String,
    /// What it is counted in.
    pub unit: &'static str,
    /// One for each round.
    pub values: Vec<f64>,
    /// The floor's, likewise.
    pub floor: Vec<f64>,
    /// What it should not exceed.
    pub goal: Goal,
}

/// What a figure should not exceed.
#[derive(Clone, Copy)]
pub enum Goal {
    /// A value.
    AtMost(f64),
    /// A multiple of the floor.
    TimesFloor(f64),
    /// It only tells.
    None,
}

impl Figure {
    fn print(&self) -> Option<Value> {
        let value = median(&self.values).or_else(|| median(&self.floor))?;
        let floor = median(&self.floor);
        let ratio = floor.filter(|floor| *floor > 0.0).map(|floor| value / floor);
        let least = self.values.iter().copied().reduce(f64::min);
        let least_floor = self.floor.iter().copied().reduce(f64::min);
        let (goal, met) = match self.goal {
            Goal::AtMost(limit) => (format!("<={limit}"), Some(value <= limit)),
            Goal::TimesFloor(limit) => (format!("<={limit}x"), ratio.map(|ratio| ratio <= limit)),
            Goal::None => ("-".to_owned(), None),
        };
        println!(
            "bench {} value={} unit={} floor={} ratio={} min={} floor-min={} rounds={} goal={goal}{}",
            self.name,
            short(Some(value)),
            self.unit,
            short(floor),
            short(ratio),
            short(least),
            short(least_floor),
            self.values.len().max(self.floor.len()),
            if met == Some(false) && !self.values.is_empty() { " MISSED" } else { "" },
        );
        Some(json!({
            "name": self.name,
            "unit": self.unit,
            "value": value,
            "floor": floor,
            "ratio": ratio,
            "values": self.values,
            "floors": self.floor,
            "goal": goal,
        }))
    }
}

impl Report {
    /// Prints and writes the figures.
    pub fn print(&self) -> Result<(), Failure> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&self.dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        let mut measured: Vec<Value> = Vec::new();
        for file in files {
            measured.push(serde_json::from_str(&std::fs::read_to_string(file)?)?);
        }
        let sizes: BTreeSet<u64> = measured.iter().filter_map(|one| one["stages"].as_u64()).collect();
        let figures: Vec<Value> = sizes
            .into_iter()
            .flat_map(|stages| figures(&measured, stages))
            .chain(node_figures(&measured))
            .chain(seal_figures(&measured))
            .chain(scan_figures(&measured))
            .chain(choose_figures(&measured))
            .chain(promotion_figures(&measured))
            .chain(post_figures(&measured))
            .chain(environment_figures(&measured))
            .chain(history_figures(&measured))
            .chain(crate::lookups::figures(&measured))
            .chain(crate::crowd::figures(&measured))
            .chain(crate::replicas::figures(&measured))
            .chain(crate::logs::figures(&measured))
            .filter_map(|figure| figure.print())
            .collect();
        let all = json!({
            "about": serde_json::from_str::<Value>(&self.about)?,
            "figures": figures,
            "measurements": measured,
        });
        std::fs::write(&self.out, serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(())
    }
}

fn figures(measured: &[Value], stages: u64) -> Vec<Figure> {
    let of = |kind: &'static str| measured.iter().filter(move |one| one["kind"] == kind && one["stages"] == stages);
    let moves = |side: &'static str, variant: &'static str| {
        of("move").filter(move |one| one["side"] == side && one["variant"] == variant && one["round"] != 0)
    };
    let count = stages.to_string().parse().unwrap_or(1.0_f64);
    let mut all = Vec::new();
    for variant in ["project", "pin"] {
        let named = |name: &str| match variant {
            "project" => format!("{name}-{stages}"),
            _ => format!("{name}-{variant}-{stages}"),
        };
        let mut compare = |name: &str, unit: &'static str, goal: Goal, read: &dyn Fn(&Value) -> Option<f64>| {
            all.push(Figure {
                name: named(name),
                unit,
                values: moves("operator", variant).filter_map(read).collect(),
                floor: moves("floor", variant).filter_map(read).collect(),
                goal,
            });
        };
        compare("move", "s", Goal::TimesFloor(1.3), &|one| one["movedSeconds"].as_f64());
        compare("old-gone-after", "s", Goal::AtMost(5.0), &|one| {
            Some(one["goneSeconds"].as_f64()? - one["movedSeconds"].as_f64()?)
        });
        compare("old-pods-gone-after", "s", Goal::None, &|one| {
            Some(one["podsGoneSeconds"].as_f64()? - one["movedSeconds"].as_f64()?)
        });
        compare("move-until-gone", "s", Goal::None, &|one| one["goneSeconds"].as_f64());
        compare("api-writes-per-deploy", "writes", Goal::AtMost(10.0), &|one| {
            Some(one["requests"]["writes"].as_f64()? / count)
        });
        compare("api-reads", "reads", Goal::AtMost(0.0), &|one| {
            let requests = &one["requests"];
            Some(requests["gets"].as_f64()? + requests["lists"].as_f64()?)
        });
        compare("sql-transactions-per-deploy", "transactions", Goal::None, &|one| {
            Some(one["sql"]["transactions"].as_f64()? / count)
        });
        compare("cpu-per-1000-deploys", "s", Goal::AtMost(5.0), &|one| {
            let spent = &one["cpuUntilSettled"]["each"];
            let side = if spent["floor"].is_null() { "operator" } else { "floor" };
            Some(spent[side].as_f64()? / count * 1000.0)
        });
        compare("cpu-elsewhere", "s", Goal::None, &|one| one["cpuUntilGone"]["elsewhere"].as_f64());
    }
    let mut single =
        |name: &str, unit: &'static str, limit: f64, kind: &'static str, read: &dyn Fn(&Value) -> Option<f64>| {
            all.push(Figure {
                name: format!("{name}-{stages}"),
                unit,
                values: of(kind).filter(|one| one["side"] != "floor").filter_map(read).collect(),
                floor: Vec::new(),
                goal: Goal::AtMost(limit),
            });
        };
    single("memory-peak", "MiB", 60.0, "move", &|one| one["memory"]["peak"].as_f64());
    single("memory-settled", "MiB", 60.0, "idle", &|one| one["memory"]["resident"].as_f64());
    single("idle-api-writes", "writes", 0.0, "idle", &|one| one["requests"]["writes"].as_f64());
    single("idle-sql-rows", "rows", 0.0, "idle", &|one| one["sql"]["rowsWritten"].as_f64());
    single("restart-observed", "s", 5.0, "start", &|one| restart(one)?["observedSeconds"].as_f64());
    single("restart-api-writes", "writes", 0.0, "start", &|one| restart(one)?["requests"]["writes"].as_f64());
    // The one row is the claim of the term's epoch.
    single("restart-sql-rows", "rows", 1.0, "start", &|one| restart(one)?["sql"]["rowsWritten"].as_f64());
    all
}

/// What a deploy on the real node takes, with health checks and without.
fn node_figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for (suffix, probed) in [("", false), ("-probed", true)] {
        let of = |key: &'static str| -> Vec<f64> {
            let runs = measured.iter().filter(|one| one["kind"] == "node");
            runs.filter(|one| (one["probeIntervalMillis"] != 0) == probed)
                .flat_map(|one| one["deploys"].as_array().into_iter().flatten())
                .filter_map(|deploy| deploy[key].as_f64())
                .map(|seconds| seconds * 1000.0)
                .collect()
        };
        let mut single = |name: &str, goal, values| {
            all.push(Figure { name: format!("{name}{suffix}"), unit: "ms", values, floor: Vec::new(), goal });
        };
        single("node-overhead", Goal::AtMost(300.0), of("overheadSeconds"));
        single("node-readiness", Goal::None, of("readinessSeconds"));
        single("node-total", Goal::None, of("totalSeconds"));
    }
    all
}

/// What sealing takes beside the bare cipher, and how fast keys rotate.
fn seal_figures(measured: &[Value]) -> Vec<Figure> {
    let runs = || measured.iter().filter(|one| one["kind"] == "seal");
    let of = |key: &str| -> Vec<f64> {
        let rounds = runs().flat_map(|one| one["rounds"].as_array().into_iter().flatten());
        rounds.filter_map(|round| Some(round[key].as_f64()? / 1000.0)).collect()
    };
    let beside = |name: &str, ours: &str, bare: &str| Figure {
        name: name.to_owned(),
        unit: "us",
        values: of(ours),
        floor: of(bare),
        goal: Goal::TimesFloor(3.0),
    };
    let rate = |one: &Value| Some(one["rotation"]["rows"].as_f64()? / one["rotation"]["seconds"].as_f64()?);
    vec![
        beside("seal-1k", "sealNanos", "bareSealNanos"),
        beside("open-1k", "openNanos", "bareOpenNanos"),
        Figure {
            name: "rotation".into(),
            unit: "rows/s",
            values: runs().filter_map(rate).collect(),
            floor: Vec::new(),
            goal: Goal::None,
        },
    ]
}

/// What it takes to know the newest image of many repositories, beside a client that gets every list once.
fn scan_figures(measured: &[Value]) -> Vec<Figure> {
    let runs = || measured.iter().filter(|one| one["kind"] == "scan");
    let sizes: BTreeSet<(u64, u64)> =
        runs().filter_map(|one| Some((one["repositories"].as_u64()?, one["tags"].as_u64()?))).collect();
    let mut all = Vec::new();
    for (repositories, tags) in sizes {
        let count = repositories.to_string().parse().unwrap_or(1.0_f64);
        let of = |read: &dyn Fn(&Value) -> Option<f64>| -> Vec<f64> {
            runs().filter(|one| one["repositories"] == repositories && one["tags"] == tags).filter_map(read).collect()
        };
        // Each goal is for one of the two sizes, so that either has one that is hard for it.
        let (wide, deep) = if repositories < 1000 { (Goal::None, true) } else { (Goal::AtMost(5.0), false) };
        let only_deep = |limit| if deep { Goal::AtMost(limit) } else { Goal::None };
        let mut figure = |name: &str, unit, goal, values, floor| {
            all.push(Figure { name: format!("{name}-{repositories}x{tags}"), unit, values, floor, goal });
        };
        let floor = |key: &'static str| of(&|one| one["floor"][key].as_f64());
        figure("scan", "s", only_deep(5.0), of(&|one| one["afterMadeSeconds"].as_f64()), floor("seconds"));
        figure("scan-from-first", "s", Goal::None, of(&|one| one["chosenSeconds"].as_f64()), Vec::new());
        figure("scan-cpu", "s", wide, of(&|one| one["cpu"]["each"]["operator"].as_f64()), floor("cpuSeconds"));
        figure("scan-memory-peak", "MiB", only_deep(60.0), of(&|one| one["memory"]["peak"].as_f64()), Vec::new());
        let each = |value: &Value| Some(value.as_f64()? / count);
        figure("scan-lists", "requests", Goal::AtMost(1.0), of(&|one| each(&one["asked"]["lists"])), Vec::new());
        figure("scan-pages", "requests", Goal::None, of(&|one| each(&one["asked"]["pages"])), Vec::new());
        figure("scan-others", "requests", Goal::None, of(&|one| each(&one["asked"]["others"])), Vec::new());
        let again = |one: &Value| {
            let asked = &one["again"]["asked"];
            Some((asked["pages"].as_f64()? + asked["others"].as_f64()?) / asked["lists"].as_f64()?)
        };
        figure("rescan-requests", "requests", Goal::None, of(&again), Vec::new());
        figure(
            "rescan-cpu",
            "s",
            Goal::None,
            of(&|one| one["again"]["cpu"]["each"]["operator"].as_f64()),
            floor("cpuSeconds"),
        );
    }
    all
}

/// What choosing among the tags of a large repository takes.
fn choose_figures(measured: &[Value]) -> Vec<Figure> {
    let numbers = |list: &Value| list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let runs = measured.iter().filter(|one| one["kind"] == "choose");
    let rules = runs.filter_map(|one| Some((one["tags"].as_u64()?, one["rules"].as_object()?, &one["floor"])));
    let figures =
        rules.flat_map(|(tags, rules, floor)| rules.iter().map(move |(rule, times)| (tags, rule, times, floor)));
    let figures = figures.map(|(tags, rule, times, floor)| Figure {
        name: format!("choose-{rule}-{tags}"),
        unit: "ms",
        values: numbers(times),
        floor: numbers(floor),
        goal: Goal::AtMost(50.0),
    });
    figures.collect()
}

/// What very many promotions at once take until every status says that its gates were open, and what follows.
fn promotion_figures(measured: &[Value]) -> Vec<Figure> {
    // In the first round nothing served yet.
    let runs = || measured.iter().filter(|one| one["kind"] == "promotions" && one["round"] != 0);
    let sizes: BTreeSet<u64> = runs().filter_map(|one| one["promotions"].as_u64()).collect();
    let mut all = Vec::new();
    for size in sizes {
        let count = size.to_string().parse().unwrap_or(1.0_f64);
        let of = |read: &dyn Fn(&Value) -> Option<f64>| -> Vec<f64> {
            runs().filter(|one| one["promotions"] == size).filter_map(read).collect()
        };
        let mut figure = |name: &str, unit, goal, values, floor| {
            all.push(Figure { name: format!("{name}-{size}"), unit, values, floor, goal });
        };
        let seconds = |key: &'static str| of(&|one| one[key].as_f64());
        let writes = |part: &'static str, kind: &'static str| {
            of(&|one| Some(one[part]["requests"]["byKind"][kind]["count"].as_f64().unwrap_or_default() / count))
        };
        let cpu = |part: &'static str, who: &'static str| of(&|one| one[part]["cpu"]["each"][who].as_f64());
        let goal = if size > 1000 { Goal::None } else { Goal::AtMost(10.0) };
        figure("promoted", "s", goal, seconds("acceptedSeconds"), seconds("floorSeconds"));
        figure("promoted-asked", "s", Goal::None, seconds("askedSeconds"), Vec::new());
        figure("promoted-left-pending", "s", Goal::None, seconds("leftPendingSeconds"), Vec::new());
        figure("promoted-served", "s", Goal::None, seconds("servedSeconds"), Vec::new());
        let status = "patch stages/status";
        figure("promoted-status-writes", "writes", Goal::AtMost(2.0), writes("untilAccepted", status), Vec::new());
        figure("promoted-served-status-writes", "writes", Goal::None, writes("untilServed", status), Vec::new());
        figure("promoted-cpu", "s", Goal::None, cpu("untilAccepted", "operator"), Vec::new());
        figure("promoted-apiserver-cpu", "s", Goal::None, cpu("untilAccepted", "apiserver"), Vec::new());
        figure("promoted-database-cpu", "s", Goal::None, cpu("untilAccepted", "postgres"), Vec::new());
        figure(
            "promoted-cpu-elsewhere",
            "s",
            Goal::None,
            of(&|one| one["untilAccepted"]["cpu"]["elsewhere"].as_f64()),
            Vec::new(),
        );
        let transactions = of(&|one| Some(one["sql"]["transactions"].as_f64()? / count));
        figure("promoted-served-transactions", "transactions", Goal::None, transactions, Vec::new());
    }
    all
}

/// How soon a promotion that is asked for begins, beside a row that tells of itself.
fn post_figures(measured: &[Value]) -> Vec<Figure> {
    let of = |key: &'static str, share: &'static str| -> Vec<f64> {
        let runs = measured.iter().filter(|one| one["kind"] == "posts");
        runs.filter_map(|one| one[key][share].as_f64()).collect()
    };
    let figure = |name: &str, key, share, goal| Figure {
        name: format!("{name}-{share}"),
        unit: "ms",
        values: of(key, share),
        floor: of("bareMillis", share),
        goal,
    };
    vec![
        figure("post-transition", "beganMillis", "p50", Goal::None),
        figure("post-transition", "beganMillis", "p99", Goal::AtMost(100.0)),
        figure("post-deploy", "madeMillis", "p50", Goal::None),
        figure("post-deploy", "madeMillis", "p99", Goal::None),
        figure("post-answer", "answeredMillis", "p50", Goal::None),
        figure("post-answer", "answeredMillis", "p99", Goal::None),
    ]
}

/// What the steps of the lives of very many environments cost: each as API writes of one environment, and altogether as time.
fn environment_figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for run in measured.iter().filter(|one| one["kind"] == "environments") {
        let Some(count) = run["environments"].as_u64() else { continue };
        let each = count.to_string().parse().unwrap_or(1.0_f64);
        let mut figure = |name: String, unit, goal, value: Option<f64>| {
            all.push(Figure { name, unit, values: value.into_iter().collect(), floor: Vec::new(), goal });
        };
        for (step, most) in [("create", 12.0), ("sleep", 3.0), ("wake", 4.0), ("delete", 4.0)] {
            let one = &run[step];
            figure(format!("environment-{step}-{count}"), "s", Goal::None, one["seconds"].as_f64());
            let writes = written(&one["requests"]["byKind"]).map(|writes| writes / each);
            figure(format!("environment-{step}-writes"), "writes", Goal::AtMost(most), writes);
            let cpu = one["cpu"]["each"]["operator"].as_f64().map(|cpu| cpu * 1000.0 / each);
            figure(format!("environment-{step}-cpu"), "ms", Goal::None, cpu);
            let rows = one["sql"]["rowsWritten"].as_f64().map(|rows| rows / each);
            figure(format!("environment-{step}-rows"), "rows", Goal::None, rows);
        }
        let idle = &run["idle"];
        figure(
            format!("environment-idle-writes-{count}"),
            "writes",
            Goal::AtMost(0.0),
            idle["requests"]["writes"].as_f64(),
        );
        figure(
            format!("environment-idle-rows-{count}"),
            "rows",
            Goal::AtMost(0.0),
            idle["sql"]["rowsWritten"].as_f64(),
        );
    }
    all
}

/// Writes of objects: neither reads, nor the Lease, nor questions about who may do what, which are sent as writes.
fn written(by_kind: &Value) -> Option<f64> {
    let writes = |name: &str| {
        ["create ", "update ", "patch ", "delete ", "deletecollection "].iter().any(|verb| name.starts_with(verb))
            && !name.ends_with("reviews")
            && !name.ends_with(" leases")
    };
    let counts =
        by_kind.as_object()?.iter().filter(|(name, _)| writes(name)).filter_map(|(_, one)| one["count"].as_f64());
    Some(counts.sum())
}

/// What a page of history takes beside a row that is read by its primary key.
fn history_figures(measured: &[Value]) -> Vec<Figure> {
    let runs = || measured.iter().filter(|one| one["kind"] == "history");
    let sizes: BTreeSet<u64> = runs().filter_map(|one| one["rows"].as_u64()).collect();
    let mut all = Vec::new();
    for rows in sizes {
        let of = |key: &str| -> Vec<f64> {
            let runs = runs().filter(|one| one["rows"] == rows);
            let rounds = runs.flat_map(|one| one["rounds"].as_array().into_iter().flatten());
            rounds.filter_map(|round| round[key].as_f64()).collect()
        };
        let goal = Goal::TimesFloor(10.0);
        for (name, key, goal) in [
            ("history-page", "pageMillis", goal),
            ("history-page-deep", "deepMillis", goal),
            ("history-page-long", "longMillis", Goal::None),
        ] {
            all.push(Figure {
                name: format!("{name}-{rows}"),
                unit: "ms",
                values: of(key),
                floor: of("rowMillis"),
                goal,
            });
        }
    }
    all
}

/// A start over stages that are already what they should be; the first start of a run is none.
fn restart(one: &Value) -> Option<&Value> {
    (one["round"] != 0).then_some(one)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(*sorted.get(middle - 1)?, upper)) }
}

fn short(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |value| {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        },
    )
}
