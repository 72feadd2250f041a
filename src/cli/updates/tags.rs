//! `stagekeeper updates tag`: words by which people group updates.

use std::io::Write;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{Chosen, counted, failed};
use crate::{
    cli::{
        database,
        failure::Failure,
        history::ago,
        output::{self, Columns, Format},
        owner::person,
    },
    config::settings::DatabaseArgs,
    domain::update::TagName,
    store::UpdateTag,
};

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

/// A tag as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagView {
    name: String,
    updates: i64,
    pending: i64,
    created_by: String,
    created_at: Timestamp,
}

impl From<UpdateTag> for TagView {
    fn from(tag: UpdateTag) -> Self {
        let UpdateTag { id: _, name, updates, pending, created_by, created_at } = tag;
        Self { name, updates, pending, created_by, created_at }
    }
}

#[derive(Serialize)]
struct List {
    items: Vec<TagView>,
}

/// Runs an `updates tag` command.
///
/// # Errors
/// There is no such tag or update, the name is taken, or the database is away.
pub async fn tag(arguments: &TagArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let who = person();
    match &arguments.command {
        TagCommand::Create(NameArgs { name, database }) => {
            let store = database::connect(database).await?;
            store.update_tag_create(name, &who, now).await.map_err(failed)?;
            Ok(writeln!(out, "tag {name} made")?)
        }
        TagCommand::Rename(RenameArgs { name, to, database }) => {
            let store = database::connect(database).await?;
            store.update_tag_rename(name.as_str(), to, &who, now).await.map_err(failed)?;
            Ok(writeln!(out, "tag {name} is called {to} now")?)
        }
        TagCommand::Delete(NameArgs { name, database }) => {
            let store = database::connect(database).await?;
            let had = store.update_tag_delete(name.as_str(), &who, now).await.map_err(failed)?;
            Ok(writeln!(out, "tag {name} deleted; {} had it", counted(had))?)
        }
        TagCommand::Assign(AssignArgs { name, chosen, database }) => {
            let choice = chosen.choice(None)?;
            let store = database::connect(database).await?;
            let done = store.update_tag_assign(name.as_str(), &choice, &who, now).await.map_err(failed)?;
            Ok(writeln!(out, "tag {name} given to {}", counted(done))?)
        }
        TagCommand::Unassign(AssignArgs { name, chosen, database }) => {
            let choice = chosen.choice(None)?;
            let store = database::connect(database).await?;
            let done = store.update_tag_unassign(name.as_str(), &choice, &who, now).await.map_err(failed)?;
            Ok(writeln!(out, "tag {name} taken from {}", counted(done))?)
        }
        TagCommand::List(ListArgs { output, database }) => {
            let store = database::connect(database).await?;
            list(store.update_tags_list().await?, *output, now, out)
        }
    }
}

fn list(all: Vec<UpdateTag>, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => {
            let items = all.into_iter().map(TagView::from).collect();
            output::print_value(out, &List { items }, format == Format::Yaml)
        }
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
