//! `stagekeeper stats`: how well delivery goes, by DORA's four numbers.

use std::io::{self, Write};

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{
    Context,
    failure::Failure,
    output::{self, Columns, Format},
    remote::Call,
    source::{Source, place, scoped},
    spans,
};
use crate::{config::settings::DatabaseArgs, http::api::stats::Stats, store::DoraFilter};

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

/// Prints the numbers of each stage, and of all together.
///
/// # Errors
/// The API or the database is away, or there is no such project or stage.
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
    let stats = context.source(&arguments.database).await?.stats(&filter).await?;
    match arguments.output {
        Format::Json => output::print_value(out, &stats, false),
        Format::Yaml => output::print_value(out, &stats, true),
        Format::Name => {
            let mut stages = stats.items.iter();
            Ok(stages.try_for_each(|one| writeln!(out, "stage/{}/{}", one.namespace, one.stage))?)
        }
        Format::Table | Format::Wide if stats.items.is_empty() => {
            Ok(writeln!(io::stderr(), "no deploy has ended since {since:.0}")?)
        }
        Format::Table | Format::Wide => Ok(write!(out, "{}", table(&stats, arguments.output == Format::Wide))?),
    }
}

impl Source {
    async fn stats(&self, filter: &DoraFilter) -> Result<Stats, Failure> {
        match self {
            Self::Database(store) => Ok(Stats::new(&store.dora_stats(filter).await?, filter)),
            Self::Api(remote) => {
                let path = scoped(filter.namespace.as_deref(), &["stats"]);
                let call = Call::new(&path, place(filter.namespace.as_deref()))
                    .with("since", filter.since)
                    .with_some("project", filter.project.as_ref())
                    .with_some("stage", filter.stage.as_ref());
                remote.get(call).await
            }
        }
    }
}

fn table(stats: &Stats, wide: bool) -> String {
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
    let total = (stats.items.len() > 1).then_some((all, &stats.total));
    let stages =
        stats.items.iter().map(|one| ([one.namespace.clone(), one.project.clone(), one.stage.clone()], &one.numbers));
    for (names, numbers) in stages.chain(total) {
        let rate = numbers.change_failure_rate.map(|rate| format!("{:.1}%", rate * 100.0)).unwrap_or_default();
        let mut cells: Vec<String> = names.into();
        cells.extend([
            numbers.succeeded.to_string(),
            format!("{:.2}", numbers.deploys_per_day),
            time(numbers.lead_time_seconds.map(|spread| spread.median)),
            format!("{} of {}", numbers.failed, numbers.changes),
            rate,
            time(numbers.time_to_restore_seconds.map(|spread| spread.median)),
        ]);
        if wide {
            cells.extend([
                time(numbers.lead_time_seconds.map(|spread| spread.p90)),
                time(numbers.time_to_restore_seconds.map(|spread| spread.p90)),
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
