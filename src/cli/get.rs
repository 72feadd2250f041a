//! `stagekeeper get deploy ID`: one deploy with all its steps.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Context,
    completions::deploys,
    deploys::{DeployView, ImageView},
    failure::{Code, Failure},
    history::{ago, seconds, took},
    output::{self, Columns, Format, one_line},
    remote::Call,
    source::Source,
};
use crate::{
    config::settings::DatabaseArgs,
    domain::{
        clock::{Clock as _, SystemClock},
        deploy::State,
    },
    http::api::views::{Deploy, DeployBrief, DeployDetail, Hook},
};

/// Pause between looks.
const PAUSE: Duration = Duration::from_secs(1);

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
        #[arg(value_name = "ID", add = ArgValueCompleter::new(deploys))]
        id: String,
        /// Go on with each step that it takes, until it has ended.
        #[arg(short, long)]
        watch: bool,
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
    hooks: Vec<Hook>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<Predecessor>,
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
/// The API or the database is away, or there is no such deploy.
pub async fn get(context: &Context, arguments: &GetArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let What::Deploy { id, watch, output, database } = &arguments.what;
    let source = context.source(database).await?;
    let id = source.deploy_named(id).await?;
    let mut detail = source.detail(id, now).await?;
    print(&detail, *output, now, out)?;
    let mut away = false;
    while *watch && detail.deploy.finished_at.is_none() {
        out.flush()?;
        tokio::time::sleep(PAUSE).await;
        let now = SystemClock.now();
        let seen = match source.detail(id, now).await {
            Ok(seen) => seen,
            Err(Failure::Said { code: Code::Unavailable, what, .. }) => {
                if !away {
                    writeln!(io::stderr(), "{what}; waiting for it")?;
                }
                away = true;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away = false;
        let (before, steps) = (detail.deploy.transitions.len(), &seen.deploy.transitions);
        if steps.len() > before {
            match output {
                Format::Table | Format::Wide => {
                    for step in steps.iter().skip(before) {
                        writeln!(out, "  {} {}: {}", step.at.strftime("%H:%M:%S"), step.to, one_line(&step.message))?;
                    }
                }
                _ => print(&seen, *output, now, out)?,
            }
            detail = seen;
        }
    }
    Ok(())
}

fn print(detail: &Detail, format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_value(out, detail, false),
        Format::Yaml => output::print_value(out, detail, true),
        Format::Name => Ok(writeln!(out, "deploy/{}", detail.deploy.id)?),
        Format::Table | Format::Wide => Ok(write!(out, "{}", describe(detail, now))?),
    }
}

impl Source {
    /// A deploy with all that belongs to it.
    async fn detail(&self, id: Uuid, now: Timestamp) -> Result<Detail, Failure> {
        let found = match self {
            Self::Database(store) => {
                let found = store.deploy_get(id).await?.ok_or_else(|| {
                    Failure::failed(format!("deploy {id} has just been removed with its project"), "")
                })?;
                let deploy = Deploy::with_steps(&found.entry, now);
                DeployDetail::new(deploy, store.hooks_list(id).await?, found.predecessor.as_ref())
            }
            Self::Api(remote) => {
                let (namespace, name) = (remote.namespace.as_str(), id.to_string());
                let path = ["namespaces", namespace, "deploys", &name];
                let call = Call::new(&path, format!("deploy {id} in namespace {namespace}"));
                remote.get(call.with("transitions", true)).await?
            }
        };
        Ok(found.into())
    }
}

impl From<DeployDetail> for Detail {
    fn from(found: DeployDetail) -> Self {
        let DeployDetail { deploy, hooks, predecessor } = found;
        let predecessor = predecessor.map(|before| {
            let DeployBrief { id, state, summary, .. } = before;
            Predecessor { id, state, summary }
        });
        Self { deploy: deploy.into(), hooks, predecessor }
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
