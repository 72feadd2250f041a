//! `stagekeeper updates list|ack|unack|tag`: what is newer than what runs, and who knows of it.

mod tags;
mod view;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::{
    Context,
    failure::Failure,
    output::Format,
    owner::person,
    remote::{Call, Remote},
    source::{self, Source, scoped},
};
use crate::{
    config::settings::DatabaseArgs,
    http::api::updates::{Changed, Update},
    store::{StoreError, UpdateChoice, UpdateFilter},
};

/// What `updates` takes.
#[derive(Args)]
pub struct UpdatesArgs {
    #[command(subcommand)]
    command: UpdatesCommand,
}

#[derive(Subcommand)]
enum UpdatesCommand {
    /// List newer images than what runs, what was seen last at the top.
    List(ListArgs),
    /// Acknowledge updates: they are no longer pending, until something newer is seen.
    Ack(ChosenArgs),
    /// Open acknowledged updates again.
    Unack(ChosenArgs),
    /// Group updates by words of your own.
    Tag(tags::TagArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only what nobody has acknowledged or deployed.
    #[arg(long)]
    pending: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// How many at most, the newest ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Which updates: what is said must all be so.
#[derive(Args)]
struct FilterArgs {
    /// Only with this tag.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Only of this image, as the list shows it. `*` stands for any letters, `?` for one: 'ghcr.io/acme/*'.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Only where it runs: NAMESPACE/STAGE, or the name of a host.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only where image, tag, host, platform, provider or digest contain this.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Through the API: in every namespace, and of other hosts. The database is always asked about all of them.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Updates by their numbers, or by a filter.
#[derive(Args)]
struct Chosen {
    /// Numbers of updates, as the list shows them.
    #[arg(value_name = "ID", value_parser = id, conflicts_with_all = ["tag", "image", "host", "search", "all"])]
    ids: Vec<i64>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All of them, where nothing else is said.
    #[arg(long, conflicts_with_all = ["tag", "image", "host", "search"])]
    all: bool,
}

#[derive(Args)]
struct ChosenArgs {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl FilterArgs {
    /// The namespace whose updates are asked about through the API; none is all of them, and those of other hosts.
    fn place<'a>(&self, remote: &'a Remote) -> Option<&'a str> {
        (!self.all_namespaces).then_some(remote.namespace.as_str())
    }

    fn filter(&self, pending: Option<bool>) -> UpdateFilter {
        let Self { tag, image, host, search, .. } = self;
        UpdateFilter {
            pending,
            tag: tag.clone(),
            image: image.clone(),
            host: host.clone(),
            search: search.clone(),
            ..UpdateFilter::default()
        }
    }
}

impl Chosen {
    /// The namespace whose updates are meant, where the API is asked.
    fn place<'a>(&self, remote: &'a Remote) -> Option<&'a str> {
        self.filter.place(remote)
    }

    /// The updates that are meant: among the `pending` ones, or the others, where nobody names numbers.
    fn choice(&self, pending: Option<bool>) -> Result<UpdateChoice, Failure> {
        if !self.ids.is_empty() {
            return Ok(UpdateChoice::These(self.ids.clone()));
        }
        if !self.all && self.filter.filter(None).is_empty() {
            return Err(Failure::usage(
                "nothing says which updates are meant",
                "name their numbers, give --tag, --image, --host or --search, or say --all",
            ));
        }
        Ok(UpdateChoice::Matching(self.filter.filter(pending)))
    }
}

/// Runs an `updates` command.
///
/// # Errors
/// There is no such update or tag, or the database is away.
pub async fn updates(
    context: &Context,
    arguments: &UpdatesArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &arguments.command {
        UpdatesCommand::List(arguments) => list(context, arguments, now, out).await,
        UpdatesCommand::Ack(ChosenArgs { chosen, database }) => {
            let choice = chosen.choice(Some(true))?;
            let done = match context.source(database).await? {
                Source::Database(store) => store.updates_acknowledge(&choice, &person(), now).await.map_err(failed)?,
                Source::Api(remote) => {
                    let place = chosen.place(&remote);
                    let path = scoped(place, &["updates", "acknowledge"]);
                    changed(&remote, &path, place, &choice).await?
                }
            };
            Ok(writeln!(out, "acknowledged {}", counted(done))?)
        }
        UpdatesCommand::Unack(ChosenArgs { chosen, database }) => {
            let choice = chosen.choice(Some(false))?;
            let done = match context.source(database).await? {
                Source::Database(store) => {
                    store.updates_unacknowledge(&choice, &person(), now).await.map_err(failed)?
                }
                Source::Api(remote) => {
                    let place = chosen.place(&remote);
                    let path = scoped(place, &["updates", "unacknowledge"]);
                    changed(&remote, &path, place, &choice).await?
                }
            };
            Ok(writeln!(out, "opened {} again", counted(done))?)
        }
        UpdatesCommand::Tag(arguments) => tags::tag(context, arguments, now, out).await,
    }
}

async fn list(context: &Context, arguments: &ListArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let filter = arguments.filter.filter(arguments.pending.then_some(true));
    let filter = UpdateFilter { limit: arguments.limit.into(), ..filter };
    let (updates, more) = match context.source(&arguments.database).await? {
        Source::Database(store) => {
            let page = store.updates_list(&filter).await.map_err(failed)?;
            (page.updates.into_iter().map(Update::from).collect(), page.next.is_some())
        }
        Source::Api(remote) => {
            let place = arguments.filter.place(&remote);
            let path = scoped(place, &["updates"]);
            let UpdateFilter { pending, tag, image, host, search, .. } = filter;
            let call = Call::new(&path, format!("the updates of {}", source::place(place)))
                .with_some("pending", pending)
                .with_some("tag", tag)
                .with_some("image", image)
                .with_some("host", host)
                .with_some("search", search);
            remote.list::<Update>(call, arguments.limit.into()).await?
        }
    };
    view::print(&updates, arguments.output, now, out)?;
    if matches!(arguments.output, Format::Table | Format::Wide) {
        let note = match more {
            _ if updates.is_empty() => Some("no updates found".to_owned()),
            true => Some(format!("there are older ones: raise --limit (now {})", arguments.limit)),
            false => None,
        };
        if let Some(note) = note {
            writeln!(io::stderr(), "{note}")?;
        }
    }
    Ok(())
}

/// Has updates changed through the API; says how many.
async fn changed(remote: &Remote, path: &[&str], place: Option<&str>, choice: &UpdateChoice) -> Result<usize, Failure> {
    let body = match choice {
        UpdateChoice::These(ids) => json!({"ids": ids}),
        UpdateChoice::Matching(UpdateFilter { tag, image, host, search, .. }) => {
            json!({"filter": {"tag": tag, "image": image, "host": host, "search": search}})
        }
    };
    let call = Call::new(path, format!("the updates of {}", source::place(place)));
    Ok(remote.post::<Changed>(call, &body).await?.changed)
}

/// `no update`, `1 update`, `2 updates`.
fn counted(number: usize) -> String {
    match number {
        0 => "no update".into(),
        1 => "1 update".into(),
        _ => format!("{number} updates"),
    }
}

/// What the store says of updates and tags, with what to do next.
fn failed(error: StoreError) -> Failure {
    let next = match &error {
        StoreError::NotFound { what: "tag", .. } => "see `stagekeeper updates tag list`",
        StoreError::NotFound { .. } => "see `stagekeeper updates list`",
        StoreError::Conflict(_) => {
            "see `stagekeeper updates tag list`; give the command again if another one ran meanwhile"
        }
        _ => return error.into(),
    };
    Failure::failed(error.to_string(), next)
}

/// A number, also as `update/NUMBER`.
fn id(text: &str) -> Result<i64, String> {
    let number = text.strip_prefix("update/").unwrap_or(text);
    number.parse().ok().filter(|id| *id > 0).ok_or_else(|| "expected the number of an update, such as 17".into())
}
