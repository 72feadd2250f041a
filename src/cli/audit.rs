//! `stagekeeper audit list|verify`: who did what, and whether the record is as it was written.

mod view;

use std::io::{self, IsTerminal as _, Write};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Context, database,
    failure::{Code, Failure},
    output::{self, Format},
    remote::{Call, Remote},
    source::{place, scoped},
    spans,
};
use crate::{
    config::settings::DatabaseArgs,
    domain::actor::Actor,
    http::api::audit::Entry,
    store::{AuditFilter, AuditVerdict},
};

/// What `audit` takes.
#[derive(Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// List who did what, newest first.
    List(ListArgs),
    /// Compute the hash of every entry anew; exit code 1 when one was changed, removed or added behind the program's back.
    Verify(VerifyArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only about this project and its stages.
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Only about stages of this name.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// In every namespace, and what is about none [default: without --project and --stage].
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only about this thing, as kind/id: deploy/ID, registry/HOST.
    #[arg(long, value_name = "KIND/ID")]
    subject: Option<String>,
    /// Only by this actor: user:NAME, group, policy, webhook:SOURCE, controller. A name alone is a user's.
    #[arg(long, value_name = "ACTOR", value_parser = actor)]
    actor: Option<Actor>,
    /// Only of this kind: deploy.create, stage.rollback.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only since: 90m, 7d, or 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many at most, the newest ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct VerifyArgs {
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl AuditArgs {
    /// Whether the chain is to be verified.
    pub fn is_verify(&self) -> bool {
        matches!(self.command, AuditCommand::Verify(_))
    }
}

/// What verifying found, as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerdictView {
    whole: bool,
    entries: i64,
    broken_at: Option<i64>,
    why: Option<&'static str>,
}

/// Runs an `audit` command.
///
/// # Errors
/// The database is away, there is no such project or stage, or the chain is broken.
pub async fn audit(
    context: &Context,
    arguments: &AuditArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &arguments.command {
        AuditCommand::List(arguments) => list(context, arguments, now, out).await,
        AuditCommand::Verify(arguments) => verify(arguments, out).await,
    }
}

async fn list(context: &Context, arguments: &ListArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let since = (arguments.since.as_deref().map(|text| spans::since(text, now)).transpose())
        .map_err(|what| Failure::usage(format!("--since: {what}"), ""))?;
    let remote = context.remote(&arguments.database).await?;
    // The API is asked about one namespace where nobody says all: that takes no more than a right in it.
    let is_named =
        remote.is_some() || arguments.project.is_some() || arguments.stage.is_some() || context.namespace.is_some();
    let namespace = if is_named && !arguments.all_namespaces { Some(context.namespace().await?) } else { None };
    let filter = AuditFilter {
        namespace,
        project: arguments.project.clone(),
        stage: arguments.stage.clone(),
        subject: arguments.subject.clone(),
        actor: arguments.actor.clone(),
        action: arguments.action.clone(),
        since,
        after: None,
        limit: arguments.limit.into(),
    };
    let (entries, more) = if let Some(remote) = &remote {
        through(remote, &filter).await?
    } else {
        let page = database::connect(&arguments.database).await?.audit_page(&filter).await?;
        (page.records.into_iter().map(Entry::from).collect(), page.next.is_some())
    };
    view::print(&entries, arguments.output, now, out)?;
    if matches!(arguments.output, Format::Table | Format::Wide) {
        let note = match more {
            _ if entries.is_empty() => Some("nothing found".to_owned()),
            true => Some(format!("there are older ones: raise --limit (now {})", arguments.limit)),
            false => None,
        };
        if let Some(note) = note {
            writeln!(io::stderr(), "{note}")?;
        }
    }
    Ok(())
}

/// The entries that the filter leaves, and whether there are older ones.
async fn through(remote: &Remote, filter: &AuditFilter) -> Result<(Vec<Entry>, bool), Failure> {
    let path = scoped(filter.namespace.as_deref(), &["audit"]);
    let call = Call::new(&path, format!("the audit log of {}", place(filter.namespace.as_deref())))
        .with_some("project", filter.project.as_ref())
        .with_some("stage", filter.stage.as_ref())
        .with_some("subject", filter.subject.as_ref())
        .with_some("actor", filter.actor.as_ref())
        .with_some("action", filter.action.as_ref())
        .with_some("since", filter.since);
    remote.list(call, usize::try_from(filter.limit).unwrap_or(usize::MAX)).await
}

async fn verify(arguments: &VerifyArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let store = database::connect(&arguments.database).await?;
    let terminal = io::stderr().is_terminal();
    let mut percent = -1;
    let told = store.audit_verify_telling(|done, of| {
        let now = done.saturating_mul(100) / of.max(1);
        if terminal && now != percent {
            percent = now;
            // Progress that cannot be shown is no reason to stop.
            let _unshown = write!(io::stderr(), "\r{done} of {of} entries, {now}%");
        }
    });
    let AuditVerdict { entries, broken } = told.await?;
    if percent >= 0 {
        // Over the line of progress.
        write!(io::stderr(), "\r\u{1b}[K")?;
    }
    match arguments.output {
        Format::Json | Format::Yaml => {
            let view = VerdictView {
                whole: broken.is_none(),
                entries,
                broken_at: broken.as_ref().map(|broken| broken.seq),
                why: broken.as_ref().map(|broken| broken.why),
            };
            output::print_value(out, &view, arguments.output == Format::Yaml)?;
            if broken.is_some() { Err(Failure::Told(Code::Failed)) } else { Ok(()) }
        }
        Format::Table | Format::Wide | Format::Name => match broken {
            None => Ok(writeln!(out, "{entries} entries, all as they were written")?),
            Some(broken) => Err(Failure::failed(
                format!("entry {} is not as it was written: {}; the {entries} before it are", broken.seq, broken.why),
                "somebody changed the table audit_log or audit_head past the program: compare it with a backup of the database, \
                 and find out who may write to it",
            )),
        },
    }
}

/// An actor; a name alone is a user's.
fn actor(text: &str) -> Result<Actor, String> {
    match text.parse() {
        Ok(actor) => Ok(actor),
        Err(_) if !text.is_empty() && !text.contains(':') => Ok(Actor::User(text.into())),
        // Names of service accounts have colons: system:serviceaccount:NAMESPACE:NAME.
        Err(_) if text.starts_with("system:") => Ok(Actor::User(text.into())),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_a_users() {
        let user = |name: &str| Ok(Actor::User(name.into()));
        assert_eq!(actor("jane"), user("jane"));
        assert_eq!(actor("user:jane"), user("jane"));
        assert_eq!(actor("system:serviceaccount:ci:deployer"), user("system:serviceaccount:ci:deployer"));
        assert_eq!(actor("policy"), Ok(Actor::Policy));
        assert_eq!(actor("webhook:harbor"), Ok(Actor::Webhook("harbor".into())));
        for wrong in ["", "user:", "robot:x"] {
            assert!(actor(wrong).is_err(), "{wrong}");
        }
    }
}
