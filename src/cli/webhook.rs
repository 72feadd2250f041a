//! `stagekeeper webhook list|show|replay|receivers|rotate`: what was received, and where.

use std::io::Write;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Context, database,
    failure::Failure,
    output::{self, Columns, Format, fields},
    owner::{person, project},
    spans,
};
use crate::{
    config::settings::DatabaseArgs,
    safe,
    store::{Delivery, DeliveryDetail, Replayed, Store, VaultReceiver},
};

/// For how long the old path is good after a rotation.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// What `webhook` takes.
#[derive(Args)]
pub struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Subcommand)]
enum WebhookCommand {
    /// List what was received, newest first, and what became of it.
    List(ListArgs),
    /// Show everything about one delivery.
    Show(ShowArgs),
    /// Have a delivery worked on again, as if it had just been received.
    Replay(ReplayArgs),
    /// List where a project receives webhooks.
    Receivers(ReceiversArgs),
    /// Give a webhook another path. The one before is good for 24 more hours.
    Rotate(RotateArgs),
}

#[derive(Args)]
struct ListArgs {
    /// The project [default: all of the database].
    #[arg(value_name = "PROJECT")]
    project: Option<String>,
    /// Deliveries at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct ShowArgs {
    /// The delivery, as `webhook list` shows it.
    #[arg(value_name = "ID", value_parser = delivery_id)]
    id: Uuid,
    /// Print the body as it came, and nothing else.
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct ReplayArgs {
    /// The delivery, as `webhook list` shows it.
    #[arg(value_name = "ID", value_parser = delivery_id)]
    id: Uuid,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct ReceiversArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Show the paths as well. Who knows one may send to it, where no credentials are needed.
    #[arg(long)]
    show_path: bool,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
struct RotateArgs {
    /// The project.
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Name of the webhook.
    #[arg(value_name = "NAME")]
    name: String,
    /// The path before is no good from now on: somebody has it who should not.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

fn delivery_id(text: &str) -> Result<Uuid, String> {
    let id = text.strip_prefix("delivery/").unwrap_or(text);
    id.parse().map_err(|_| "expected an id as `stagekeeper webhook list` shows it".to_owned())
}

/// A delivery as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryView {
    id: Uuid,
    namespace: String,
    project: String,
    webhook: String,
    source: String,
    delivery: String,
    state: String,
    result: String,
    seen: i32,
    size: i32,
    received_at: Timestamp,
    settled_at: Option<Timestamp>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        // Without `..`: whoever adds a field decides whether it may be shown.
        let Delivery { id, project, receiver, source, delivery, state, result, seen, size, received_at, settled_at } =
            delivery;
        let (namespace, project, state) = (project.namespace, project.name, state.to_string());
        Self {
            id,
            namespace,
            project,
            webhook: receiver,
            source,
            delivery,
            state,
            result,
            seen,
            size,
            received_at,
            settled_at,
        }
    }
}

/// A receiver as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiverView {
    name: String,
    source: String,
    credentials: Vec<String>,
    registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    old_path_until: Option<Timestamp>,
}

impl ReceiverView {
    fn new(receiver: VaultReceiver, show_path: bool, now: Timestamp) -> Self {
        let VaultReceiver { declared, token, old_token_until } = receiver;
        Self {
            name: declared.name,
            source: declared.source,
            credentials: declared.credentials,
            registry: declared.registry,
            path: show_path.then(|| format!("/hooks/{token}")),
            old_path_until: old_token_until.filter(|at| *at > now),
        }
    }
}

/// Runs a `webhook` command.
///
/// # Errors
/// There is no such project, webhook or delivery, or the database is away.
pub async fn webhook(
    context: &Context,
    arguments: &WebhookArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match &arguments.command {
        WebhookCommand::List(arguments) => {
            let store = database::connect(&arguments.database).await?;
            let of = match &arguments.project {
                Some(name) => Some(project(context, &store, name).await?.id),
                None => None,
            };
            list(store.inbox_list(of, arguments.limit.into()).await?, arguments.output, now, out)
        }
        WebhookCommand::Show(arguments) => {
            let store = database::connect(&arguments.database).await?;
            let found = store.inbox_get(arguments.id).await?.ok_or_else(|| unknown(arguments.id))?;
            show(found, arguments.body, out)
        }
        WebhookCommand::Replay(arguments) => {
            let store = database::connect(&arguments.database).await?;
            replay(&store, arguments.id, now, out).await
        }
        WebhookCommand::Receivers(arguments) => {
            let store = database::connect(&arguments.database).await?;
            let project = project(context, &store, &arguments.project).await?;
            let all = store.receivers_list(project.id).await?.into_iter();
            receivers(all.map(|one| ReceiverView::new(one, arguments.show_path, now)).collect(), arguments.output, out)
        }
        WebhookCommand::Rotate(arguments) => rotate(context, arguments, now, out).await,
    }
}

fn list(all: Vec<Delivery>, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let all = all.into_iter().map(DeliveryView::from);
    match format {
        Format::Json | Format::Yaml => output::print_value(out, &all.collect::<Vec<_>>(), format == Format::Yaml),
        Format::Name => Ok(all.into_iter().try_for_each(|one| writeln!(out, "delivery/{}", one.id))?),
        Format::Table | Format::Wide => {
            let mut columns =
                Columns::new(&["ID", "RECEIVED", "PROJECT", "WEBHOOK", "SOURCE", "TIMES", "STATE", "RESULT"]);
            for one in all {
                columns.row([
                    one.id.to_string(),
                    format!("{} ago", spans::short(now.duration_since(one.received_at))),
                    format!("{}/{}", one.namespace, one.project),
                    one.webhook,
                    one.source,
                    one.seen.to_string(),
                    one.state,
                    one.result,
                ]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

fn show(found: DeliveryDetail, body: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let DeliveryDetail { delivery, headers, body: stored } = found;
    if body {
        let stored = stored.ok_or_else(|| bodiless(delivery.id))?;
        return Ok(out.write_all(&stored)?);
    }
    let one = DeliveryView::from(delivery);
    let when = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ");
    let kept = if stored.is_some() { "kept" } else { "no longer kept" };
    let text = fields(&[
        ("Id", one.id.to_string()),
        ("Project", format!("{}/{}", one.namespace, one.project)),
        ("Webhook", one.webhook),
        ("Source", one.source),
        ("Known as", one.delivery),
        ("Times received", one.seen.to_string()),
        ("Received", when(Some(one.received_at))),
        ("State", one.state),
        ("Settled", when(one.settled_at)),
        ("Result", one.result),
        ("Headers", headers),
        ("Body", format!("{} bytes, {kept}", one.size)),
    ]);
    Ok(write!(out, "{text}")?)
}

async fn replay(store: &Store, id: Uuid, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match store.inbox_replay(id, &person(), now).await? {
        Replayed::Opened => Ok(writeln!(out, "delivery {id} is worked on again: `stagekeeper webhook show {id}`")?),
        Replayed::Waiting => {
            Ok(writeln!(out, "delivery {id} waits to be worked on: the operator has to run for that")?)
        }
        Replayed::Bodiless => Err(bodiless(id)),
        Replayed::Unknown => Err(unknown(id)),
    }
}

fn receivers(all: Vec<ReceiverView>, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => output::print_value(out, &all, format == Format::Yaml),
        Format::Name => Ok(all.iter().try_for_each(|one| writeln!(out, "webhook/{}", one.name))?),
        Format::Table | Format::Wide => {
            let mut columns = Columns::new(&["NAME", "SOURCE", "CREDENTIALS", "REGISTRY", "PATH"]);
            for one in all {
                let path = one.path.unwrap_or_else(|| "(see --show-path)".into());
                columns.row([one.name, one.source, one.credentials.join(","), one.registry.unwrap_or_default(), path]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}

async fn rotate(context: &Context, arguments: &RotateArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let store = database::connect(&arguments.database).await?;
    let (project, name) = (project(context, &store, &arguments.project).await?, &arguments.name);
    let token = safe::token().map_err(|error| Failure::failed(error.to_string(), ""))?;
    let keep = if arguments.now { None } else { Some(now.saturating_add(OVERLAP).unwrap_or(Timestamp::MAX)) };
    if !store.receiver_rotate(project.id, name, &token, keep, &person(), now).await? {
        return Err(Failure::failed(
            format!("project {} has no webhook {name}", project.name),
            format!("see `stagekeeper webhook receivers {}`, and declare it in spec.webhooks", project.name),
        ));
    }
    let old = match keep {
        Some(at) => format!("the one before is good until {at}"),
        None => "the one before is good no more".into(),
    };
    writeln!(
        out,
        "webhook {name} of {} has another path, which the Project's status.webhooks shows: {old}",
        project.name
    )?;
    Ok(())
}

fn unknown(id: Uuid) -> Failure {
    Failure::failed(
        format!("there is no delivery {id}"),
        "see `stagekeeper webhook list`; deliveries are kept for 14 days",
    )
}

fn bodiless(id: Uuid) -> Failure {
    Failure::failed(
        format!("the body of delivery {id} is no longer kept"),
        "let its sender send it again, if it can; 200 bodies of each webhook are kept",
    )
}
