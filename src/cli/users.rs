//! `stagekeeper users list`: who was seen, and when.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Context,
    failure::Failure,
    history::ago,
    output::{self, Columns, Format},
    remote::Call,
    source::Source,
    spans,
};
use crate::{config::settings::DatabaseArgs, http::api::users::User};

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
    items: &'a [User],
}

/// Runs a `users` command.
///
/// # Errors
/// The API or the database is away.
pub async fn users(
    context: &Context,
    arguments: &UsersArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let UsersCommand::List(arguments) = &arguments.command;
    let since = (arguments.since.as_deref().map(|text| spans::since(text, now)).transpose())
        .map_err(|what| Failure::usage(format!("--since: {what}"), ""))?;
    let (users, more) = match context.source(&arguments.database).await? {
        Source::Database(store) => {
            let page = store.users_list(since, None, arguments.limit.into()).await?;
            (page.users.into_iter().map(User::from).collect(), page.next.is_some())
        }
        Source::Api(remote) => {
            let call = Call::new(&["users"], "the users of the installation").with_some("since", since);
            remote.list::<User>(call, arguments.limit.into()).await?
        }
    };
    match arguments.output {
        Format::Json | Format::Yaml => {
            return output::print_value(out, &List { items: &users }, arguments.output == Format::Yaml);
        }
        Format::Name => users.iter().try_for_each(|user| writeln!(out, "user/{}", user.name))?,
        Format::Table | Format::Wide if users.is_empty() => writeln!(io::stderr(), "nobody was seen")?,
        Format::Table | Format::Wide => write!(out, "{}", table(&users, now))?,
    }
    if more {
        writeln!(io::stderr(), "there are more: raise --limit (now {})", arguments.limit)?;
    }
    Ok(())
}

fn table(users: &[User], now: Timestamp) -> String {
    let mut columns = Columns::new(&["NAME", "GROUPS", "FIRST SEEN", "LAST SEEN"]);
    for user in users {
        let ago = |at| format!("{} ago", ago(at, now));
        columns.row([user.name.clone(), user.groups.join(","), ago(user.first_seen_at), ago(user.last_seen_at)]);
    }
    columns.render()
}
