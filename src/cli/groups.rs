//! `stagekeeper groups [ID]`: what was asked of several stages at once, and how far it has come.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Context,
    ask::together,
    failure::Failure,
    output::{self, Columns, Format, one_line},
    remote::Call,
    source::Source,
};
use crate::{config::settings::DatabaseArgs, http::api::groups::Group};

/// Groups that are listed when nobody says how many.
const LISTED: u16 = 20;

/// What `groups` takes.
#[derive(Args)]
pub struct GroupsArgs {
    /// Only this one, with its stages.
    #[arg(value_name = "ID")]
    id: Option<Uuid>,
    /// How many at most, the newest ones.
    #[arg(long, value_name = "NUMBER", default_value_t = LISTED, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// All that `groups` lists.
#[derive(Serialize)]
struct GroupList {
    groups: Vec<Group>,
}

/// Prints the groups of a namespace, newest first, or one of them.
///
/// # Errors
/// There is no such group; the API or the database is away.
pub async fn groups(context: &Context, arguments: &GroupsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let source = context.source(&arguments.database).await?;
    let namespace = context.namespace().await?;
    if let Some(id) = arguments.id {
        return together::tell(&source.group(&namespace, id).await?, arguments.output, out);
    }
    let groups: Vec<Group> = match &source {
        Source::Api(remote) => {
            let path = ["namespaces", &namespace, "groups"];
            remote.list(Call::new(&path, format!("namespace {namespace}")), arguments.limit.into()).await?.0
        }
        Source::Database(store) => {
            let found = store.groups_list(&namespace, None, arguments.limit.into()).await?;
            found.into_iter().map(Group::from).collect()
        }
    };
    print(groups, arguments.output, out)
}

fn print(groups: Vec<Group>, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_value(out, &GroupList { groups }, false),
        Format::Yaml => output::print_value(out, &GroupList { groups }, true),
        Format::Name => Ok(groups.iter().try_for_each(|group| writeln!(out, "group/{}", group.id))?),
        Format::Table | Format::Wide => {
            let mut columns = Columns::new(&["ID", "ACTION", "STAGES", "STATE", "ACTOR", "AT", "REASON"]);
            for group in groups {
                let stages: Vec<String> = group.members.into_iter().map(|member| member.stage).collect();
                let action = group.action["action"].as_str().unwrap_or_default().to_owned();
                columns.row([
                    group.id.to_string(),
                    action,
                    stages.join(","),
                    group.state,
                    group.actor,
                    group.at.to_string(),
                    one_line(&group.reason).into_owned(),
                ]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}
