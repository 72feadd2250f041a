//! `stagekeeper history [PROJECT[/STAGE]]`: what was deployed, when, why and by whom; what ran at an instant; which stages
//! ever ran an image.

mod at;
mod stages;
mod watch;

use std::io::{self, Write};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Context,
    deploys::{DeployView, ShortIds},
    failure::Failure,
    output::{self, Columns, Format},
    place::ProjectPath,
    remote::Call,
    source::{Source, place, scoped},
    spans,
};
use crate::{
    config::settings::DatabaseArgs,
    domain::{deploy::State, image::Digest},
    http::api::views::Deploy,
    store::{HistoryFilter, HistoryPage, ServedFilter, whole_digest},
};

/// Deploys that are listed when nobody says how many.
const LISTED: u16 = 20;

/// Stages that are listed when nobody says how many.
const STAGES: u16 = 1_000;

/// Longest explanation in a table that is not wide, in characters.
const EXPLAINED: usize = 80;

/// What `history` takes.
#[derive(Args)]
pub struct HistoryArgs {
    /// Only this project, or this stage of it.
    #[arg(value_name = "PROJECT[/STAGE]")]
    path: Option<ProjectPath>,
    /// In every namespace.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only deploys that were asked for since: 90m, 7d, or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only deploys in this state: pending, …, success, failed, `rolled_back`, superseded, aborted.
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only deploys with an image whose repository:tag@digest contains this. A whole digest is found at once.
    #[arg(long, value_name = "TEXT")]
    image: Option<String>,
    /// The stages that ever ran the image of --image, which is a whole digest: since when, until when, how often.
    #[arg(long, requires = "image", conflicts_with_all = ["since", "state", "limit"])]
    stages: bool,
    /// What each stage ran at this time: 90m (ago), 7d, or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "state", "stages"])]
    at: Option<String>,
    /// How many at most, the newest ones [default: 20; with --at 1000 stages].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: Option<u16>,
    /// Go on with deploys that are new or have changed, each in a line of its own.
    #[arg(short, long, conflicts_with_all = ["stages", "at"])]
    watch: bool,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Prints the deploys that the filter leaves, newest first.
///
/// # Errors
/// The database is away, or there is no such project or stage.
pub async fn list(
    context: &Context,
    arguments: &HistoryArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let instant = |flag: &str, text: &Option<String>| {
        let instant = text.as_deref().map(|text| spans::since(text, now)).transpose();
        instant.map_err(|what| Failure::usage(format!("{flag}: {what}"), ""))
    };
    let since = instant("--since", &arguments.since)?;
    let at = instant("--at", &arguments.at)?;
    let digest = arguments.stages.then(|| digest(arguments)).transpose()?;
    let namespace = if arguments.all_namespaces { None } else { Some(context.namespace().await?) };
    let path = arguments.path.as_ref();
    let limit = arguments.limit.unwrap_or(LISTED);
    let filter = HistoryFilter {
        namespace,
        project: path.map(|path| path.project.clone()),
        stage: path.and_then(|path| path.stage.clone()),
        since,
        state: arguments.state,
        image: arguments.image.clone(),
        after: None,
        limit: limit.into(),
    };
    let source = context.source(&arguments.database).await?;
    if let Some(digest) = digest {
        return stages::print(&source, &digest, &filter, arguments.output, out).await;
    }
    if let Some(at) = at {
        let HistoryFilter { namespace, project, stage, image, .. } = filter;
        let limit = arguments.limit.unwrap_or(STAGES).into();
        let filter = ServedFilter { at, namespace, project, stage, image, after: None, limit };
        return at::print(&source, &filter, arguments.output, now, out).await;
    }
    let (deploys, more) = source.history(&filter, now).await?;
    if arguments.watch {
        return watch::follow(&source, &filter, deploys, arguments.output, now, out).await;
    }
    print(&deploys, &filter, arguments.output, now, out)?;
    if matches!(arguments.output, Format::Table | Format::Wide) {
        let note = if deploys.is_empty() {
            Some("no deploys found".to_owned())
        } else {
            more.then(|| format!("there are older ones: raise --limit (now {limit})"))
        };
        if let Some(note) = note {
            writeln!(io::stderr(), "{note}")?;
        }
    }
    Ok(())
}

impl Source {
    /// The deploys that the filter leaves, and whether there are older ones.
    async fn history(&self, filter: &HistoryFilter, now: Timestamp) -> Result<(Vec<DeployView>, bool), Failure> {
        let remote = match self {
            Self::Database(store) => {
                let HistoryPage { entries, next } = store.history_list(filter).await?;
                return Ok((entries.iter().map(|entry| DeployView::new(entry, now)).collect(), next.is_some()));
            }
            Self::Api(remote) => remote,
        };
        let path = scoped(filter.namespace.as_deref(), &["deploys"]);
        let call = Call::new(&path, place(filter.namespace.as_deref()))
            .with_some("project", filter.project.as_ref())
            .with_some("stage", filter.stage.as_ref())
            .with_some("since", filter.since)
            .with_some("state", filter.state)
            .with_some("image", filter.image.as_ref())
            .with("transitions", true);
        let most = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let (deploys, more) = remote.list::<Deploy>(call, most).await?;
        Ok((deploys.into_iter().map(DeployView::from).collect(), more))
    }
}

/// The digest whose stages are asked for.
fn digest(arguments: &HistoryArgs) -> Result<Digest, Failure> {
    whole_digest(arguments.image.as_deref().unwrap_or_default()).ok_or_else(|| {
        Failure::usage(
            "--stages needs a whole digest in --image: sha256: and 64 hexadecimal digits",
            "`stagekeeper get deploy ID` and `stagekeeper history -o json` tell the digests of a deploy",
        )
    })
}

#[derive(Serialize)]
struct List<'a> {
    items: &'a [DeployView],
}

fn print(
    deploys: &[DeployView],
    filter: &HistoryFilter,
    format: Format,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_value(out, &List { items: deploys }, false),
        Format::Yaml => output::print_value(out, &List { items: deploys }, true),
        Format::Name => {
            for deploy in deploys {
                writeln!(out, "deploy/{}", deploy.id)?;
            }
            Ok(())
        }
        Format::Table | Format::Wide if deploys.is_empty() => Ok(()),
        Format::Table => Ok(write!(out, "{}", table(deploys, filter, false, now))?),
        Format::Wide => Ok(write!(out, "{}", table(deploys, filter, true, now))?),
    }
}

/// Columns that the filter makes the same for every row are left out.
fn table(deploys: &[DeployView], filter: &HistoryFilter, wide: bool, now: Timestamp) -> String {
    type Cell<'a> = Box<dyn Fn(&DeployView) -> String + 'a>;
    let ids: Vec<_> = deploys.iter().map(|deploy| deploy.id).collect();
    let short = ShortIds::among(&ids);
    let mut columns: Vec<(&str, Cell<'_>)> = Vec::new();
    if filter.namespace.is_none() {
        columns.push(("NAMESPACE", Box::new(|deploy| deploy.namespace.clone())));
    }
    if filter.project.is_none() {
        columns.push(("PROJECT", Box::new(|deploy| deploy.project.clone())));
    }
    if filter.stage.is_none() {
        columns.push(("STAGE", Box::new(|deploy| deploy.stage.clone())));
    }
    if wide {
        columns.push(("DEPLOY", Box::new(|deploy| deploy.id.to_string())));
    } else {
        columns.push(("DEPLOY", Box::new(move |deploy| short.of(&deploy.id))));
    }
    columns.push(("STATE", Box::new(|deploy| deploy.state.to_string())));
    columns.push(("IMAGES", Box::new(|deploy| deploy.summary.clone())));
    columns.push(("AGE", Box::new(move |deploy| ago(deploy.created_at, now))));
    columns.push(("TOOK", Box::new(took)));
    columns.push(("ACTOR", Box::new(|deploy| deploy.actor.clone())));
    if wide {
        columns.push(("WAITED", Box::new(|deploy| seconds(deploy.waited_seconds))));
        columns.push(("INSTANCE", Box::new(|deploy| deploy.instance.clone())));
        columns.push(("RELEASE", Box::new(|deploy| deploy.release.clone())));
        columns.push(("WHY", Box::new(|deploy| deploy.why().to_owned())));
    } else {
        columns.push(("WHY", Box::new(|deploy| explained(deploy.why()))));
    }
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut rows = Columns::new(&headings);
    for deploy in deploys {
        rows.row(columns.iter().map(|(_, cell)| cell(deploy)));
    }
    rows.render()
}

/// How long ago something was.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    spans::short(now.duration_since(at))
}

/// How long a deploy worked; nothing for one that has not begun.
pub fn took(deploy: &DeployView) -> String {
    if deploy.state == State::Pending {
        return String::new();
    }
    seconds(deploy.worked_seconds)
}

/// Seconds as people read them.
pub fn seconds(seconds: f64) -> String {
    SignedDuration::try_from_secs_f64(seconds).map_or_else(|_| String::new(), spans::short)
}

/// A text, cut to what a table has room for.
pub fn explained(text: &str) -> String {
    if text.chars().count() <= EXPLAINED {
        return text.to_owned();
    }
    let head: String = text.chars().take(EXPLAINED - 1).collect();
    format!("{}…", head.trim_end())
}
