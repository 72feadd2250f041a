//! `stagekeeper get deploy ID`: one deploy with all its steps.

use std::io::Write;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    database,
    deploys::{DeployView, ImageView},
    failure::Failure,
    history::{ago, seconds, took},
    output::{self, Columns, Format},
};
use crate::{
    config::settings::DatabaseArgs,
    domain::{deploy::State, release::Release},
    store::{HookRun, StoredDeploy},
};

/// What `get` takes.
#[derive(Args)]
pub struct GetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// One deploy with all its steps.
    Deploy {
        /// Its id, or a beginning that only it has.
        #[arg(value_name = "ID")]
        id: String,
        /// Form of the output.
        #[arg(short, long, value_name = "FORM", default_value = "table")]
        output: Format,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// A deploy with what only a close look shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(flatten)]
    deploy: DeployView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hooks: Vec<HookView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<Predecessor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HookView {
    phase: String,
    name: String,
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    succeeded: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct Predecessor {
    id: Uuid,
    state: State,
    summary: String,
}

/// Prints what is asked for.
///
/// # Errors
/// The database is away, or there is no such deploy.
pub async fn get(arguments: &GetArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let What::Deploy { id, output, database } = &arguments.what;
    let store = database::connect(database).await?;
    let id = database::deploy_named(&store, id).await?;
    let found = store
        .deploy_get(id)
        .await?
        .ok_or_else(|| Failure::failed(format!("deploy {id} has just been removed with its project"), ""))?;
    let detail = Detail {
        deploy: DeployView::new(&found.entry, now),
        hooks: store.hooks_list(id).await?.into_iter().map(HookView::from).collect(),
        predecessor: found.predecessor.as_ref().map(Predecessor::from),
    };
    match output {
        Format::Json => output::print_value(out, &detail, false),
        Format::Yaml => output::print_value(out, &detail, true),
        Format::Name => Ok(writeln!(out, "deploy/{id}")?),
        Format::Table | Format::Wide => Ok(write!(out, "{}", describe(&detail, now))?),
    }
}

impl From<HookRun> for HookView {
    fn from(run: HookRun) -> Self {
        Self {
            phase: run.phase.word().into(),
            name: run.name,
            started_at: run.started_at,
            finished_at: run.finished_at,
            succeeded: run.ok,
            message: run.message,
        }
    }
}

impl From<&StoredDeploy> for Predecessor {
    fn from(stored: &StoredDeploy) -> Self {
        Self { id: stored.deploy.id, state: stored.deploy.state, summary: Release::summary(&stored.release) }
    }
}

fn describe(detail: &Detail, now: Timestamp) -> String {
    let deploy = &detail.deploy;
    let mut fields = vec![
        ("Deploy", deploy.id.to_string()),
        (
            "Stage",
            format!(
                "{}/{} in namespace {}, deploy number {}",
                deploy.project, deploy.stage, deploy.namespace, deploy.sequence
            ),
        ),
        ("State", format!("{} since {} ago", deploy.state, ago(deploy.since, now))),
    ];
    if let Some(message) = &deploy.message {
        let reason = deploy.reason.as_deref().map(|word| format!("{word}: "));
        fields.push(("Reason", reason.unwrap_or_default() + message));
    }
    fields.push(("Cause", deploy.cause.clone()));
    fields.push(("Actor", deploy.actor.clone()));
    fields.push(("Asked for", format!("{} ({} ago)", deploy.created_at, ago(deploy.created_at, now))));
    if deploy.state != State::Pending {
        fields.push(("Took", format!("{}, after waiting {}", took(deploy), seconds(deploy.waited_seconds))));
    }
    fields.push(("Instance", deploy.instance.clone()));
    fields.push(("Release", deploy.release.clone()));
    for (service, image) in &deploy.images {
        fields.push(("Image", format!("{service}: {}", reference(image))));
    }
    if let Some(id) = deploy.rollback_of {
        fields.push(("Undoes", format!("deploy {id}")));
    }
    if let Some(before) = &detail.predecessor {
        fields.push(("Before it", format!("{} ({}), deploy {}", before.summary, before.state, before.id)));
    }
    let mut text = output::fields(&fields);
    text.push_str("\nSteps:\n");
    text.push_str(&indented(&steps(deploy)));
    if !detail.hooks.is_empty() {
        text.push_str("\nHooks:\n");
        text.push_str(&indented(&hooks(detail, now)));
    }
    text
}

fn reference(image: &ImageView) -> String {
    let tag = image.tag.as_deref().map(|tag| format!(":{tag}"));
    format!("{}{}@{}", image.repository, tag.unwrap_or_default(), image.digest)
}

fn steps(deploy: &DeployView) -> String {
    let mut columns = Columns::new(&["AT", "STATE", "FOR", "ACTOR", "REASON", "MESSAGE"]);
    for step in &deploy.transitions {
        let lasted = if step.to.is_terminal() { String::new() } else { seconds(step.seconds) };
        columns.row([
            step.at.strftime("%H:%M:%S%.3fZ").to_string(),
            step.to.to_string(),
            lasted,
            step.actor.clone(),
            step.reason.clone(),
            step.message.clone(),
        ]);
    }
    columns.render()
}

fn hooks(detail: &Detail, now: Timestamp) -> String {
    let mut columns = Columns::new(&["PHASE", "NAME", "RESULT", "TOOK", "MESSAGE"]);
    for hook in &detail.hooks {
        let result = match hook.succeeded {
            None => "running",
            Some(true) => "succeeded",
            Some(false) => "failed",
        };
        columns.row([
            hook.phase.clone(),
            hook.name.clone(),
            result.into(),
            ago(hook.started_at, hook.finished_at.unwrap_or(now)),
            hook.message.clone().unwrap_or_default(),
        ]);
    }
    columns.render()
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}
