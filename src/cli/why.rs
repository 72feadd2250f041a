//! `stagekeeper why STAGE`: what the stage waits for or is blocked by, what failed last, what is held back, and what
//! would open the way: as the API tells it, or put together from the resources and the database, of which either may be away.

use std::io::Write;

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use kube::{Api, Client};

use super::{
    Context,
    cluster::unread,
    completions::stages,
    database,
    failure::{Code, Failure},
    history::ago,
    output::{self, Format, fields},
    remote::{Call, Remote},
};
use crate::{
    api::{Project, Stage},
    config::{DatabaseUrl, settings::DatabaseArgs},
    http::api::why::{
        Memory,
        facts::{ConditionFact, Facts},
        openings::openings,
    },
};

/// What `why` takes.
#[derive(Args)]
pub struct WhyArgs {
    /// The stage.
    #[arg(value_name = "STAGE", add = ArgValueCompleter::new(stages))]
    stage: String,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Prints what is known.
///
/// # Errors
/// There is no such stage, or neither the cluster nor the database can be asked.
pub async fn tell(context: &Context, arguments: &WhyArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let facts = match context.remote(&arguments.database).await {
        Ok(None) => gather(context, arguments, None).await?,
        Ok(Some(remote)) => match through(&remote, &arguments.stage).await {
            Ok(facts) => facts,
            Err(failure) => without_api(context, arguments, failure).await?,
        },
        Err(failure) => without_api(context, arguments, failure).await?,
    };
    match arguments.output {
        Format::Json => output::print_value(out, &facts, false),
        Format::Yaml => output::print_value(out, &facts, true),
        Format::Name => Ok(writeln!(out, "stage/{}", facts.stage)?),
        Format::Table | Format::Wide => Ok(write!(out, "{}", describe(&facts, now))?),
    }
}

/// What the API tells.
async fn through(remote: &Remote, stage: &str) -> Result<Facts, Failure> {
    let path = ["namespaces", &remote.namespace, "stages", stage, "why"];
    remote.get(Call::new(&path, format!("stage {stage} in namespace {}", remote.namespace))).await
}

/// What the cluster alone tells, where nobody has said that the API is to be asked.
async fn without_api(context: &Context, arguments: &WhyArgs, failure: Failure) -> Result<Facts, Failure> {
    let is_asked_for = context.flags.api || context.server.server.is_some();
    if is_asked_for || matches!(failure, Failure::Said { code: Code::Usage, .. }) {
        return Err(failure);
    }
    gather(context, arguments, Some(failure)).await
}

/// Asks the cluster and the database from here; either may be away. `missing` says why the database is not asked.
async fn gather(context: &Context, arguments: &WhyArgs, missing: Option<Failure>) -> Result<Facts, Failure> {
    let namespace = context.namespace().await?;
    let mut facts = Facts::new(&namespace, &arguments.stage);
    let seen = see(context, &namespace, &arguments.stage).await;
    let remembered = match missing {
        Some(failure) => Err(failure),
        None => remember(arguments, &namespace).await,
    };
    if let (Err(cluster), Err(_)) = (&seen, &remembered) {
        return Err(cluster.clone());
    }
    match seen {
        Ok(Seen { stage, project }) => {
            let Some(stage) = stage else {
                return Err(Failure::failed(
                    format!("there is no Stage {} in namespace {namespace}", arguments.stage),
                    "`kubectl get stages -A` lists them; what was deployed before stays in `stagekeeper history -A`",
                ));
            };
            facts.of_cluster(&stage, project.as_ref());
        }
        Err(failure) => facts.unknown.push(failure.summary()),
    }
    match remembered {
        Ok(Some(memory)) => memory.into_facts(&mut facts),
        Ok(None) => {
            facts.unknown.push("the database does not know this stage: the operator has not taken it up yet".into());
        }
        Err(failure) => facts.unknown.push(failure.summary()),
    }
    facts.opens = openings(&facts);
    Ok(facts)
}

async fn remember(arguments: &WhyArgs, namespace: &str) -> Result<Option<Memory>, Failure> {
    let url = DatabaseUrl::parse(&arguments.database.values())?;
    let store = database::open(&url).await?;
    Ok(Memory::read(&store, namespace, &arguments.stage).await?)
}

/// What the cluster says.
struct Seen {
    stage: Option<Stage>,
    project: Option<Project>,
}

async fn see(context: &Context, namespace: &str, name: &str) -> Result<Seen, Failure> {
    let client = Context::client(context.cluster_config().await?)?;
    let stage = read::<Stage>(&client, namespace, name).await?;
    let project = match &stage {
        Some(stage) => read::<Project>(&client, namespace, &stage.spec.project).await?,
        None => None,
    };
    Ok(Seen { stage, project })
}

pub(super) async fn read<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Failure>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    Api::<K>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .map_err(|error| unread::<K>("get", Some(namespace), name, &error))
}

/// The facts as people read them; what is not the case is left out.
fn describe(facts: &Facts, now: Timestamp) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let project = facts.project.as_deref().unwrap_or("?");
    lines.push(("Stage", format!("{project}/{} in namespace {}", facts.stage, facts.namespace)));
    if let Some(condition) = &facts.condition {
        let ConditionFact { kind, reason, message } = condition;
        lines.push(("Now", format!("{kind} ({reason}): {message}")));
    }
    if let Some(serving) = &facts.serving {
        let since = ago(serving.since, now);
        lines.push(("Serves", format!("{} since {since} ago, deploy {}", serving.summary, serving.id)));
    }
    for deploy in &facts.open {
        let since = ago(deploy.since, now);
        lines.push(("Under way", format!("{}: {} for {since}, deploy {}", deploy.summary, deploy.state, deploy.id)));
    }
    if let Some(waiting) = &facts.waiting {
        lines.push(("Waits for", format!("{}: {}", waiting.reason, waiting.message)));
    }
    for gate in &facts.gates {
        lines.push(("Gate", format!("{} {}", gate.name, gate.line())));
    }
    for held in &facts.held {
        lines.push(("Held", held.clone()));
    }
    if let Some(drift) = &facts.drift {
        lines.push(("Drifted", drift.clone()));
    }
    if let Some(failed) = &facts.last_failure {
        let when = ago(failed.since, now);
        lines.push((
            "Last failure",
            format!("{} {when} ago ({}), deploy {}: {}", failed.summary, failed.state, failed.id, failed.why),
        ));
    }
    for veto in &facts.vetoed {
        lines.push((
            "Held back",
            match &veto.deploy {
                Some(deploy) => format!(
                    "{} since {} ago, it failed here in deploy {deploy}: {}",
                    veto.summary,
                    ago(veto.at, now),
                    veto.reason
                ),
                None => format!("{} since {} ago: {}", veto.summary, ago(veto.at, now), veto.reason),
            },
        ));
    }
    for (service, to) in &facts.pinned {
        lines.push(("Pinned", format!("{service} to {to}")));
    }
    for open in &facts.opens {
        lines.push(("What helps", open.clone()));
    }
    for unknown in &facts.unknown {
        lines.push(("Not known", unknown.clone()));
    }
    fields(&lines)
}
