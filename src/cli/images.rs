//! `stagekeeper images explain|list|accept`: what registries answered, what follows from it, and why.
//!
//! Read from the custom resources and from what the operator stored; no registry is asked, so that what is told is what
//! the operator decides from.

mod explain;
mod seen;

use std::io::Write;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use self::{
    explain::{Explanation, explain},
    seen::Seen,
};
use super::{
    Context, database,
    failure::Failure,
    history::ago,
    output::{self, Columns, Format},
    owner::person,
    place::ProjectPath,
};
use crate::{
    config::settings::DatabaseArgs,
    controllers::{
        images::{About, Answer},
        stage::sources::Source,
    },
};

/// What `images` takes.
#[derive(Args)]
pub struct ImagesArgs {
    #[command(subcommand)]
    command: ImagesCommand,
}

#[derive(Subcommand)]
enum ImagesCommand {
    /// Tell which image each service of a stage is to have, and why each other tag is not chosen.
    Explain(ExplainArgs),
    /// List the repositories of a project: how many tags they have, when they were asked, what went wrong.
    List(ListArgs),
    /// Believe a listing from which too many tags are gone: images are chosen from it again.
    Accept(AcceptArgs),
}

#[derive(Args)]
struct ExplainArgs {
    /// The stage, as PROJECT/STAGE.
    #[arg(value_name = "PROJECT/STAGE")]
    stage: ProjectPath,
    /// One of its services; all when none is named.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Show every tag, not only the first twenty.
    #[arg(long)]
    all: bool,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct ListArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct AcceptArgs {
    /// The stage, as PROJECT/STAGE.
    #[arg(value_name = "PROJECT/STAGE")]
    stage: ProjectPath,
    /// The service whose repository it is.
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs an `images` command.
///
/// # Errors
/// There is no such stage, project or service, or the cluster or the database is away.
pub async fn images(
    context: &Context,
    arguments: &ImagesArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &arguments.command {
        ImagesCommand::Explain(arguments) => tell(context, arguments, now, out).await,
        ImagesCommand::List(arguments) => list(context, arguments, now, out).await,
        ImagesCommand::Accept(arguments) => accept(context, arguments, now, out).await,
    }
}

async fn tell(context: &Context, arguments: &ExplainArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let stage = stage_of(&arguments.stage)?;
    let mut seen = Seen::of_stage(context, &arguments.stage.project, stage).await?;
    if let Some(service) = &arguments.service {
        let one = seen.source(service)?.clone();
        seen.sources = vec![one];
    }
    let store = database::connect(&arguments.database).await?;
    seen.remember(&store).await?;
    let place = format!("{}/{stage}", arguments.stage.project);
    let all: Vec<Explanation> =
        seen.sources.iter().map(|source| explain(source, &seen, &place, arguments.all)).collect();
    match arguments.output {
        Format::Json | Format::Yaml => output::print_value(out, &all, arguments.output == Format::Yaml),
        Format::Name => Ok(all.iter().try_for_each(|one| writeln!(out, "service/{}", one.service))?),
        Format::Table | Format::Wide => {
            for (number, one) in all.iter().enumerate() {
                if number > 0 {
                    writeln!(out)?;
                }
                write!(out, "{}", one.describe(now))?;
            }
            Ok(())
        }
    }
}

/// A repository that a project watches.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Watched {
    service: String,
    repository: String,
    tags: Option<usize>,
    frozen: bool,
    scanned_at: Option<Timestamp>,
    reason: Option<String>,
    error: Option<String>,
}

impl Watched {
    fn of(source: &Source, seen: &Seen) -> Self {
        let question = source.question(About::Tags);
        let known = seen.known(&question);
        let listing = match &known.answer {
            Some(Answer::Tags(listing)) => Some(listing),
            _ => None,
        };
        Self {
            service: source.service.clone(),
            repository: source.repository.to_string(),
            tags: listing.map(|listing| listing.tags().len()),
            frozen: listing.is_some_and(|listing| listing.loss().exceeds(source.max_tag_loss)),
            scanned_at: seen.scanned_at(&question),
            reason: known.refusal.as_ref().map(|refusal| refusal.reason.to_owned()),
            error: known.refusal.map(|refusal| refusal.message),
        }
    }
}

async fn list(context: &Context, arguments: &ListArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let mut seen = Seen::of_project(context, &arguments.project).await?;
    let store = database::connect(&arguments.database).await?;
    seen.remember(&store).await?;
    let all: Vec<Watched> = seen.sources.iter().map(|source| Watched::of(source, &seen)).collect();
    match arguments.output {
        Format::Json | Format::Yaml => output::print_value(out, &all, arguments.output == Format::Yaml),
        Format::Name => Ok(all.iter().try_for_each(|one| writeln!(out, "repository/{}", one.repository))?),
        Format::Table | Format::Wide => {
            let mut columns = Columns::new(&["SERVICE", "REPOSITORY", "TAGS", "FROZEN", "SCANNED", "ERROR"]);
            for one in all {
                let tags = one.tags.map_or_else(|| "-".into(), |tags| tags.to_string());
                let scanned = one.scanned_at.map_or_else(|| "-".into(), |at| format!("{} ago", ago(at, now)));
                let frozen = if one.frozen { "yes" } else { "no" };
                columns.row([
                    one.service,
                    one.repository,
                    tags,
                    frozen.into(),
                    scanned,
                    one.reason.unwrap_or_default(),
                ]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

async fn accept(context: &Context, arguments: &AcceptArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let AcceptArgs { stage: path, service, database } = arguments;
    let stage = stage_of(path)?;
    let mut seen = Seen::of_stage(context, &path.project, stage).await?;
    let source = seen.source(service)?.clone();
    let store = database::connect(database).await?;
    seen.remember(&store).await?;
    let explained = format!("see `stagekeeper images explain {}/{stage} {service}`", path.project);
    let Some(scan) =
        seen.scan(&source.question(About::Tags)).filter(|scan| scan.accepted.is_some() && scan.accepted != scan.tags)
    else {
        return Err(Failure::failed(
            format!("there is nothing to accept: the listing of {} is believed as it is", source.repository),
            explained,
        ));
    };
    let subject = format!("stage/{}/{stage}/{service}", seen.namespace);
    if !store.image_scan_accept(scan, &subject, &person(), now).await? {
        return Err(Failure::failed(
            format!("{} lists something else by now, and nothing was accepted", source.repository),
            explained,
        ));
    }
    let count = |text: Option<&String>| text.map_or(0, |text| text.lines().count());
    writeln!(
        out,
        "accepted: {} has {} tags, and had {}; whoever follows it chooses from these from now on",
        source.repository,
        count(scan.tags.as_ref()),
        count(scan.accepted.as_ref())
    )?;
    Ok(())
}

fn stage_of(path: &ProjectPath) -> Result<&str, Failure> {
    path.stage
        .as_deref()
        .ok_or_else(|| Failure::usage(format!("{} names no stage", path.project), "expected PROJECT/STAGE"))
}
