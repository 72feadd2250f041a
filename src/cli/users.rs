//! `stagekeeper users list`: who was seen, and when.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    database,
    failure::Failure,
    history::ago,
    output::{self, Columns, Format},
    spans,
};
use crate::{config::settings::DatabaseArgs, store::SeenUser};

/// What `users` takes.
#[derive(Args)]
pub struct UsersArgs {
    #[command(subcommand)]
    command: UsersCommand,
}

#[derive(Subcommand)]
enum UsersCommand {
    /// List people and service accounts that were seen, who was here last at the top.
    List(ListArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only who was seen since: 90m, 7d, or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many at most, those who were here last.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Serialize)]
struct List<'a> {
    items: Vec<UserView<'a>>,
}

/// A user as programs read them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserView<'a> {
    name: &'a str,
    groups: &'a [String],
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
}

/// Runs a `users` command.
///
/// # Errors
/// The database is away.
pub async fn users(arguments: &UsersArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let UsersCommand::List(arguments) = &arguments.command;
    let since = (arguments.since.as_deref().map(|text| spans::since(text, now)).transpose())
        .map_err(|what| Failure::usage(format!("--since: {what}"), ""))?;
    let store = database::connect(&arguments.database).await?;
    let page = store.users_list(since, None, arguments.limit.into()).await?;
    match arguments.output {
        Format::Json | Format::Yaml => {
            let items = page.users.iter().map(UserView::from).collect();
            return output::print_value(out, &List { items }, arguments.output == Format::Yaml);
        }
        Format::Name => page.users.iter().try_for_each(|user| writeln!(out, "user/{}", user.name))?,
        Format::Table | Format::Wide if page.users.is_empty() => writeln!(io::stderr(), "nobody was seen")?,
        Format::Table | Format::Wide => write!(out, "{}", table(&page.users, now))?,
    }
    if page.next.is_some() {
        writeln!(io::stderr(), "there are more: raise --limit (now {})", arguments.limit)?;
    }
    Ok(())
}

impl<'a> From<&'a SeenUser> for UserView<'a> {
    fn from(user: &'a SeenUser) -> Self {
        let SeenUser { name, groups, first_seen_at, last_seen_at } = user;
        Self { name, groups, first_seen_at: *first_seen_at, last_seen_at: *last_seen_at }
    }
}

fn table(users: &[SeenUser], now: Timestamp) -> String {
    let mut columns = Columns::new(&["NAME", "GROUPS", "FIRST SEEN", "LAST SEEN"]);
    for user in users {
        let ago = |at| format!("{} ago", ago(at, now));
        columns.row([user.name.clone(), user.groups.join(","), ago(user.first_seen_at), ago(user.last_seen_at)]);
    }
    columns.render()
}
