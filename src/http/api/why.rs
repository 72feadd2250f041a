//! `/namespaces/{namespace}/stages/{stage}/why`: what a stage waits for or is blocked by, what failed last, what is held back,
//! and what would open the way. Put together from the declarations and the database.

pub mod facts;
pub mod openings;

use self::{
    facts::{DeployFact, Facts, VetoFact},
    openings::openings,
};
use super::{
    Ground,
    guard::{Authorized, Command},
    input::Input,
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    stages::{STAGE, known, on_stage},
};
use crate::{
    api::{Project, Stage},
    cluster::access::{Attributes, Unanswered},
    domain::deploy::State,
    store::{HistoryFilter, Store, StoreError, TargetState},
};

/// Vetoes that are explained; more are only counted.
const VETOES: usize = 5;

/// What the database says of a stage.
pub struct Memory {
    state: TargetState,
    failure: Option<DeployFact>,
    vetoes: Vec<VetoFact>,
}

impl Memory {
    /// Reads it; `None` for a stage that nothing was recorded for.
    ///
    /// # Errors
    /// The database is away.
    pub async fn read(store: &Store, namespace: &str, stage: &str) -> Result<Option<Self>, StoreError> {
        let Some(target) = store.stage_get(namespace, stage).await? else { return Ok(None) };
        let Some(state) = store.target_state_load(target.id).await? else { return Ok(None) };
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
        let failure = last_failure(store, &state).await?;
        Ok(Some(Self { state, failure, vetoes }))
    }

    /// Adds it to what is known.
    pub fn into_facts(self, facts: &mut Facts) {
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

/// The newest deploy that failed, whether it was rolled back or not.
async fn last_failure(store: &Store, state: &TargetState) -> Result<Option<DeployFact>, StoreError> {
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

/// A Stage with its Project, as they are declared.
///
/// # Errors
/// The cluster does not answer.
pub(super) async fn declared(
    ground: &Ground,
    namespace: &str,
    name: &str,
) -> Result<Option<(Stage, Option<Project>)>, Unanswered> {
    let Some(stage) = ground.declared.stage(namespace, name).await? else { return Ok(None) };
    let project = ground.declared.project(namespace, &stage.spec.project).await?;
    Ok(Some((stage, project)))
}

/// Why a stage does not move.
pub(super) struct Why {
    namespace: String,
    stage: String,
}

impl Command for Why {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.stage), "get")
    }
}

impl Operation for Why {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE],
        access: &[("stages", "get")],
        about: "What could not be asked is in `unknown`: the rest is still told.",
        ..Spec::get(
            "/namespaces/{namespace}/stages/{stage}/why",
            "explainStage",
            "What a stage waits for, what failed last, and what would open the way.",
        )
    };

    type Content = ();
    type Answer = Facts;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), stage: input.text("stage") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Facts>, Problem> {
        let Self { namespace, stage } = authorized.command();
        known(call.ground, namespace, stage).await?;
        let mut facts = Facts::new(namespace, stage);
        match declared(call.ground, namespace, stage).await {
            Ok(Some((stage, project))) => facts.of_cluster(&stage, project.as_ref()),
            Ok(None) => {
                facts.unknown.push("the cluster has no such Stage any more: this is what was recorded of it".into());
            }
            Err(Unanswered(why)) => {
                tracing::warn!(why, "a Stage could not be read to explain it");
                facts.unknown.push("the operator cannot read the Stage at the moment".into());
            }
        }
        if let Some(memory) = Memory::read(&call.ground.store, namespace, stage).await? {
            memory.into_facts(&mut facts);
        }
        facts.opens = openings(&facts);
        Ok(Reply::of(facts))
    }
}
