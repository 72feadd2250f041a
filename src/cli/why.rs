//! `stagekeeper why STAGE`: what the stage waits for or is blocked by, what failed last, what is held back, and what
//! would open the way. Put together from the resources and the database; either may be away.

mod facts;
mod openings;

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use kube::{Api, Client};

pub(super) use self::facts::GateFact;
use self::{
    facts::{DeployFact, Facts, VetoFact},
    openings::openings,
};
use super::{
    Context,
    cluster::unread,
    database,
    failure::Failure,
    output::{self, Format},
};
use crate::{
    api::{Project, Stage},
    config::{DatabaseUrl, settings::DatabaseArgs},
    domain::deploy::State,
    store::{HistoryFilter, Store, TargetState},
};

/// Vetoes that are explained; more are only counted.
const VETOES: usize = 5;

/// What `why` takes.
#[derive(Args)]
pub struct WhyArgs {
    /// The stage.
    #[arg(value_name = "STAGE")]
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
    let namespace = context.namespace().await?;
    let mut facts = Facts::new(&namespace, &arguments.stage);
    let seen = see(context, &namespace, &arguments.stage).await;
    let remembered = remember(arguments, &namespace).await;
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
    match arguments.output {
        Format::Json => output::print_value(out, &facts, false),
        Format::Yaml => output::print_value(out, &facts, true),
        Format::Name => Ok(writeln!(out, "stage/{}", facts.stage)?),
        Format::Table | Format::Wide => Ok(write!(out, "{}", facts.describe(now))?),
    }
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

/// What the database says.
struct Memory {
    state: TargetState,
    failure: Option<DeployFact>,
    vetoes: Vec<VetoFact>,
}

async fn remember(arguments: &WhyArgs, namespace: &str) -> Result<Option<Memory>, Failure> {
    let url = DatabaseUrl::parse(&arguments.database.values())?;
    let store = database::open(&url).await?;
    let targets = store.targets_load(Some(&[namespace.to_owned()])).await?;
    let target = targets.into_iter().find(|target| target.name == arguments.stage);
    let Some(target) = target else {
        return Ok(None);
    };
    let Some(state) = store.target_state_load(target.id).await? else {
        return Ok(None);
    };
    let mut vetoes = Vec::new();
    for veto in state.vetoes.iter().rev().take(VETOES) {
        let deploy = match veto.deploy {
            Some(deploy) => store.deploy_get(deploy).await?,
            None => None,
        };
        vetoes.push(VetoFact {
            release: veto.release.to_string(),
            summary: deploy.map_or_else(
                || format!("release {}", veto.release.short()),
                |found| found.entry.stored.release.summary(),
            ),
            deploy: veto.deploy.map(|deploy| deploy.to_string()),
            reason: veto.reason.clone(),
            at: veto.at,
        });
    }
    let failure = last_failure(&store, &state).await?;
    Ok(Some(Memory { state, failure, vetoes }))
}

/// The newest deploy that failed, whether it was rolled back or not.
async fn last_failure(store: &Store, state: &TargetState) -> Result<Option<DeployFact>, Failure> {
    let mut failures = Vec::new();
    for word in [State::Failed, State::RolledBack] {
        let filter = HistoryFilter {
            namespace: Some(state.target.namespace.clone()),
            project: Some(state.target.project.clone()),
            stage: Some(state.target.name.clone()),
            state: Some(word),
            limit: 1,
            ..HistoryFilter::default()
        };
        let page = store.history_list(&filter).await?;
        failures.extend(page.entries.into_iter().map(|entry| entry.stored));
    }
    let newest = failures.into_iter().max_by_key(|stored| stored.deploy.sequence);
    Ok(newest.as_ref().map(DeployFact::from))
}

impl Memory {
    fn into_facts(self, facts: &mut Facts) {
        let Self { state, failure, vetoes } = self;
        facts.project.get_or_insert(state.target.project);
        facts.serving = state.good.as_ref().map(|good| DeployFact::from(&good.stored));
        facts.open = state.open.iter().map(|open| DeployFact::from(&open.stored)).collect();
        facts.last_failure = failure;
        let held = state.holds.iter().map(|hold| {
            let until = hold.expires_at.map(|until| format!(" until {until}")).unwrap_or_default();
            format!("by {} since {}{until}: {}", hold.owner, hold.at, hold.reason)
        });
        facts.held = held.collect();
        facts.vetoed = vetoes;
    }
}
