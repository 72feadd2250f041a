//! `stagekeeper updates tag`: words by which people group updates.

use std::io::Write;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Chosen, changed, counted, failed};
use crate::{
    cli::{
        Context,
        failure::Failure,
        history::ago,
        output::{self, Columns, Format},
        owner::person,
        remote::Call,
        source::{Source, scoped},
    },
    config::settings::DatabaseArgs,
    domain::update::TagName,
    http::api::{cursor::Page, tags::Tag},
    store::tag_taken,
};

/// What whoever may not see the tags is told of: they are those of the whole installation.
const ABOUT: &str = "the tags of all namespaces";

/// What `updates tag` takes.
#[derive(Args)]
pub struct TagArgs {
    #[command(subcommand)]
    command: TagCommand,
}

#[derive(Subcommand)]
enum TagCommand {
    /// Make a tag.
    Create(NameArgs),
    /// Give a tag another name; its updates keep it.
    Rename(RenameArgs),
    /// Delete a tag; its updates stay on the list without it.
    Delete(NameArgs),
    /// Give updates a tag. They keep it, whatever newer image is seen.
    Assign(AssignArgs),
    /// Take a tag from updates.
    Unassign(AssignArgs),
    /// List the tags, with how many updates have each.
    List(ListArgs),
}

#[derive(Args)]
struct NameArgs {
    /// Its name: letters, digits, `-`, `_`, `.` and `/`. Capital letters make no other name.
    name: TagName,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct RenameArgs {
    /// Its name now.
    name: TagName,
    /// Its new name.
    #[arg(value_name = "NEW")]
    to: TagName,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct AssignArgs {
    /// The tag.
    name: TagName,
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct ListArgs {
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Serialize)]
struct List {
    items: Vec<Tag>,
}

/// Runs an `updates tag` command.
///
/// # Errors
/// There is no such tag or update, the name is taken, or the API or the database is away.
pub async fn tag(context: &Context, arguments: &TagArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        TagCommand::Create(NameArgs { name, database }) => {
            context.source(database).await?.tag_create(name, now).await?;
            Ok(writeln!(out, "tag {name} made")?)
        }
        TagCommand::Rename(RenameArgs { name, to, database }) => {
            context.source(database).await?.tag_rename(name, to, now).await?;
            Ok(writeln!(out, "tag {name} is called {to} now")?)
        }
        TagCommand::Delete(NameArgs { name, database }) => {
            let had = context.source(database).await?.tag_delete(name, now).await?;
            Ok(writeln!(out, "tag {name} deleted; {} had it", counted(had))?)
        }
        TagCommand::Assign(AssignArgs { name, chosen, database }) => {
            let done = context.source(database).await?.tag_assign(name, chosen, true, now).await?;
            Ok(writeln!(out, "tag {name} given to {}", counted(done))?)
        }
        TagCommand::Unassign(AssignArgs { name, chosen, database }) => {
            let done = context.source(database).await?.tag_assign(name, chosen, false, now).await?;
            Ok(writeln!(out, "tag {name} taken from {}", counted(done))?)
        }
        TagCommand::List(ListArgs { output, database }) => {
            list(context.source(database).await?.tags().await?, *output, now, out)
        }
    }
}

impl Source {
    async fn tags(&self) -> Result<Vec<Tag>, Failure> {
        match self {
            Self::Database(store) => Ok(store.update_tags_list().await?.into_iter().map(Tag::from).collect()),
            Self::Api(remote) => Ok(remote.get::<Page<Tag>>(Call::new(&["tags"], ABOUT)).await?.items),
        }
    }

    async fn tag_create(&self, name: &TagName, now: Timestamp) -> Result<(), Failure> {
        let remote = match self {
            Self::Database(store) => {
                return store.update_tag_create(name, &person(), now).await.map(drop).map_err(failed);
            }
            Self::Api(remote) => remote,
        };
        // The API leaves a tag as it is that is there already; who makes one is told.
        if self.tag_found(name).await?.is_some() {
            return Err(failed(tag_taken(name)));
        }
        remote.put_name::<Tag>(Call::new(&["tags", name.as_str()], about(name))).await.map(drop)
    }

    async fn tag_rename(&self, name: &TagName, to: &TagName, now: Timestamp) -> Result<(), Failure> {
        match self {
            Self::Database(store) => store.update_tag_rename(name.as_str(), to, &person(), now).await.map_err(failed),
            Self::Api(remote) => {
                let path = ["tags", name.as_str(), "rename"];
                remote.post::<Tag>(Call::new(&path, about(name)), &json!({"name": to.as_str()})).await.map(drop)
            }
        }
    }

    /// Says how many updates had it.
    async fn tag_delete(&self, name: &TagName, now: Timestamp) -> Result<usize, Failure> {
        let remote = match self {
            Self::Database(store) => {
                return store.update_tag_delete(name.as_str(), &person(), now).await.map_err(failed);
            }
            Self::Api(remote) => remote,
        };
        let had = self.tag_found(name).await?.map_or(0, |tag| tag.updates);
        remote.delete(Call::new(&["tags", name.as_str()], about(name))).await?;
        Ok(usize::try_from(had).unwrap_or_default())
    }

    /// Gives it to updates, or takes it from them; says how many were changed.
    async fn tag_assign(&self, name: &TagName, chosen: &Chosen, give: bool, now: Timestamp) -> Result<usize, Failure> {
        let choice = chosen.choice(None)?;
        match self {
            Self::Database(store) if give => {
                store.update_tag_assign(name.as_str(), &choice, &person(), now).await.map_err(failed)
            }
            Self::Database(store) => {
                store.update_tag_unassign(name.as_str(), &choice, &person(), now).await.map_err(failed)
            }
            Self::Api(remote) => {
                let place = chosen.place(remote);
                let path = scoped(place, &["tags", name.as_str(), if give { "assign" } else { "unassign" }]);
                changed(remote, &path, place, &choice).await
            }
        }
    }

    async fn tag_found(&self, name: &TagName) -> Result<Option<Tag>, Failure> {
        Ok(self.tags().await?.into_iter().find(|tag| tag.name.eq_ignore_ascii_case(name.as_str())))
    }
}

fn about(name: &TagName) -> String {
    format!("tag {name}")
}

fn list(all: Vec<Tag>, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => output::print_value(out, &List { items: all }, format == Format::Yaml),
        Format::Name => Ok(all.iter().try_for_each(|tag| writeln!(out, "tag/{}", tag.name))?),
        Format::Table | Format::Wide => {
            let mut columns = Columns::new(&["NAME", "UPDATES", "PENDING", "AGE", "BY"]);
            for tag in all {
                let (updates, pending) = (tag.updates.to_string(), tag.pending.to_string());
                columns.row([tag.name, updates, pending, ago(tag.created_at, now), tag.created_by]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}
