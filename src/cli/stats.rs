//! `stagekeeper stats`: how well delivery goes, by DORA's four numbers.

use std::io::{self, Write};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Context, database,
    failure::Failure,
    output::{self, Columns, Format},
    spans,
};
use crate::{
    config::settings::DatabaseArgs,
    store::{DoraFilter, DoraNumbers, DoraStats, Place, Spread},
};

/// What `stats` takes.
#[derive(Args)]
pub struct StatsArgs {
    /// Only this project.
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Only stages of this name.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// In every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// What ended since: 30d, 12w, or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    since: String,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// The answer as programs read it.
#[derive(Serialize)]
struct StatsView<'a> {
    since: Timestamp,
    until: Timestamp,
    items: Vec<StageView<'a>>,
    total: NumbersView,
}

#[derive(Serialize)]
struct StageView<'a> {
    namespace: &'a str,
    project: &'a str,
    stage: &'a str,
    #[serde(flatten)]
    numbers: NumbersView,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NumbersView {
    changes: i64,
    succeeded: i64,
    failed: i64,
    unrestored: i64,
    deploys_per_day: f64,
    change_failure_rate: Option<f64>,
    lead_time_seconds: Option<SpreadView>,
    time_to_restore_seconds: Option<SpreadView>,
}

#[derive(Serialize)]
struct SpreadView {
    median: f64,
    p90: f64,
}

/// Prints the numbers of each stage, and of all together.
///
/// # Errors
/// The database is away, or there is no such project or stage.
pub async fn print(
    context: &Context,
    arguments: &StatsArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let since = spans::since(&arguments.since, now).ok().filter(|since| *since < now).ok_or_else(|| {
        Failure::usage(format!("--since: `{}` is no time before now", arguments.since), "90d, for example")
    })?;
    let namespace = if arguments.all_namespaces { None } else { Some(context.namespace().await?) };
    let filter =
        DoraFilter { namespace, project: arguments.project.clone(), stage: arguments.stage.clone(), since, until: now };
    let store = database::connect(&arguments.database).await?;
    let stats = store.dora_stats(&filter).await?;
    match arguments.output {
        Format::Json => output::print_value(out, &view(&stats, &filter), false),
        Format::Yaml => output::print_value(out, &view(&stats, &filter), true),
        Format::Name => {
            let mut places = stats.stages.iter().map(|(place, _)| place);
            Ok(places.try_for_each(|place| writeln!(out, "stage/{}/{}", place.namespace, place.stage))?)
        }
        Format::Table | Format::Wide if stats.stages.is_empty() => {
            Ok(writeln!(io::stderr(), "no deploy has ended since {since:.0}")?)
        }
        Format::Table | Format::Wide => {
            Ok(write!(out, "{}", table(&stats, &filter, arguments.output == Format::Wide))?)
        }
    }
}

fn view<'a>(stats: &'a DoraStats, filter: &DoraFilter) -> StatsView<'a> {
    let days = days(filter);
    let stage = |(place, numbers): &'a (Place, DoraNumbers)| StageView {
        namespace: &place.namespace,
        project: &place.project,
        stage: &place.stage,
        numbers: NumbersView::new(numbers, days),
    };
    StatsView {
        since: filter.since,
        until: filter.until,
        items: stats.stages.iter().map(stage).collect(),
        total: NumbersView::new(&stats.total, days),
    }
}

impl NumbersView {
    fn new(numbers: &DoraNumbers, days: f64) -> Self {
        let spread = |spread: Option<Spread>| spread.map(|Spread { median, p90 }| SpreadView { median, p90 });
        Self {
            changes: numbers.changes,
            succeeded: numbers.succeeded,
            failed: numbers.failed,
            unrestored: numbers.unrestored,
            deploys_per_day: per_day(numbers, days),
            change_failure_rate: numbers.failure_rate(),
            lead_time_seconds: spread(numbers.lead),
            time_to_restore_seconds: spread(numbers.restore),
        }
    }
}

/// The length of the time that is looked at.
fn days(filter: &DoraFilter) -> f64 {
    filter.until.duration_since(filter.since).as_secs_f64() / 86_400.0
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts so many deploys")]
fn per_day(numbers: &DoraNumbers, days: f64) -> f64 {
    numbers.succeeded as f64 / days
}

fn table(stats: &DoraStats, filter: &DoraFilter, wide: bool) -> String {
    let days = days(filter);
    let mut headings = vec![
        "NAMESPACE",
        "PROJECT",
        "STAGE",
        "DEPLOYS",
        "PER DAY",
        "LEAD TIME",
        "FAILED",
        "FAILURE RATE",
        "RESTORE TIME",
    ];
    if wide {
        headings.extend(["LEAD TIME P90", "RESTORE TIME P90", "NOT RESTORED"]);
    }
    let mut columns = Columns::new(&headings);
    let all = ["all", "", ""].map(str::to_owned);
    let total = (stats.stages.len() > 1).then_some((all, &stats.total));
    let stages = stats
        .stages
        .iter()
        .map(|(place, numbers)| ([place.namespace.clone(), place.project.clone(), place.stage.clone()], numbers));
    for (names, numbers) in stages.chain(total) {
        let rate = numbers.failure_rate().map(|rate| format!("{:.1}%", rate * 100.0)).unwrap_or_default();
        let mut cells: Vec<String> = names.into();
        cells.extend([
            numbers.succeeded.to_string(),
            format!("{:.2}", per_day(numbers, days)),
            time(numbers.lead.map(|spread| spread.median)),
            format!("{} of {}", numbers.failed, numbers.changes),
            rate,
            time(numbers.restore.map(|spread| spread.median)),
        ]);
        if wide {
            cells.extend([
                time(numbers.lead.map(|spread| spread.p90)),
                time(numbers.restore.map(|spread| spread.p90)),
                numbers.unrestored.to_string(),
            ]);
        }
        columns.row(cells);
    }
    columns.render()
}

fn time(seconds: Option<f64>) -> String {
    let duration = seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
    duration.map(spans::short).unwrap_or_default()
}
