//! What is known about a stage that does not move, and how it is told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::{Project, Stage, conditions},
    domain::{
        deploy::State,
        promotion::{Gate, Verdict},
    },
    http::api::views::state_schema,
    store::StoredDeploy,
};

/// Everything that `why` tells.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Why")]
pub struct Facts {
    /// The namespace.
    pub namespace: String,
    /// The stage.
    pub stage: String,
    /// Its project.
    pub project: Option<String>,
    /// What the conditions amount to.
    pub condition: Option<ConditionFact>,
    /// The operator has not seen the latest spec.
    pub unobserved: bool,
    /// The registries do not answer for a watched image: why.
    pub images_stale: Option<String>,
    /// There is no Project of that name.
    pub project_missing: bool,
    /// What is suspended: `stage`, `project`.
    pub suspended: Vec<String>,
    /// Services that are pinned, and to what.
    pub pinned: BTreeMap<String, String>,
    /// What the newest open deploy waits for.
    pub waiting: Option<WaitingFact>,
    /// What each gate says of the deploy that waits.
    pub gates: Vec<GateFact>,
    /// What keeps policies away, and why.
    pub held: Vec<String>,
    /// What is declared and does not run.
    pub drift: Option<String>,
    /// The deploy whose release serves.
    pub serving: Option<DeployFact>,
    /// Deploys that have not ended, the oldest first.
    pub open: Vec<DeployFact>,
    /// The newest deploy that failed.
    pub last_failure: Option<DeployFact>,
    /// Releases that are not tried again by themselves.
    pub vetoed: Vec<VetoFact>,
    /// What would open the way.
    pub opens: Vec<String>,
    /// What could not be asked.
    pub unknown: Vec<String>,
}

/// The first of `Stalled`, `Reconciling` and `Ready` that tells something.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConditionFact {
    /// Which of them.
    pub kind: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// What a deploy waits for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingFact {
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// What exactly: another deploy's id, a suspended thing.
    pub blocker: Option<String>,
}

/// What one gate says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateFact {
    /// Which.
    pub name: String,
    /// `Pass`, `Wait`, `Needs` or `Refuse`.
    pub verdict: String,
    /// When it opens by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why.
    pub message: String,
    /// What would open it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub opens: String,
}

impl From<&Gate> for GateFact {
    fn from(gate: &Gate) -> Self {
        let (verdict, until) = match gate.verdict {
            Verdict::Pass => ("Pass", None),
            Verdict::WaitUntil(until) => ("Wait", Some(until)),
            Verdict::Needs => ("Needs", None),
            Verdict::Refuse => ("Refuse", None),
        };
        Self {
            name: gate.name.into(),
            verdict: verdict.into(),
            until,
            message: gate.message.clone(),
            opens: gate.opens.clone(),
        }
    }
}

impl GateFact {
    /// In one line: `needs    1 of 2 approvals; ask …`.
    pub fn line(&self) -> String {
        let until = self.until.map(|until| format!(" until {until}")).unwrap_or_default();
        let opens = if self.opens.is_empty() { String::new() } else { format!("; {}", self.opens) };
        format!("{}{until}: {}{opens}", self.verdict.to_lowercase(), self.message)
    }
}

/// A deploy in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployFact {
    /// Its id.
    pub id: String,
    /// Its state.
    #[schemars(schema_with = "state_schema")]
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Its images in short.
    pub summary: String,
    /// Why it stands there, or why it was made.
    pub why: String,
}

/// A release that failed here.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VetoFact {
    /// Content hash of the release.
    pub release: String,
    /// Its images in short.
    pub summary: String,
    /// The deploy that failed, unless a person forbade the release without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<String>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl From<&StoredDeploy> for DeployFact {
    fn from(stored: &StoredDeploy) -> Self {
        let deploy = &stored.deploy;
        Self {
            id: deploy.id.to_string(),
            state: deploy.state,
            since: deploy.since,
            summary: stored.release.summary(),
            why: deploy.message.as_ref().unwrap_or(&deploy.cause).clone(),
        }
    }
}

impl Facts {
    /// Nothing but where it is about.
    pub fn new(namespace: &str, stage: &str) -> Self {
        Self { namespace: namespace.into(), stage: stage.into(), ..Self::default() }
    }

    /// Adds what the resources say.
    pub fn of_cluster(&mut self, stage: &Stage, project: Option<&Project>) {
        self.project = Some(stage.spec.project.clone());
        self.project_missing = project.is_none();
        self.pinned = stage.spec.pin.clone();
        if stage.spec.suspend {
            self.suspended.push("stage".into());
        }
        if project.is_some_and(|project| project.spec.suspend) {
            self.suspended.push("project".into());
        }
        let Some(status) = &stage.status else {
            self.unobserved = true;
            return;
        };
        let generation = stage.metadata.generation.unwrap_or_default();
        self.unobserved = status.observed_generation < generation;
        let is_true =
            |kind: &&str| conditions::get(&status.conditions, kind).is_some_and(|found| found.status == "True");
        let kind =
            [conditions::STALLED, conditions::RECONCILING].into_iter().find(is_true).unwrap_or(conditions::READY);
        self.condition = conditions::get(&status.conditions, kind).map(|found| ConditionFact {
            kind: kind.into(),
            reason: found.reason.clone(),
            message: found.message.clone(),
        });
        self.images_stale = conditions::get(&status.conditions, "ImagesCurrent")
            .filter(|found| found.status == "False")
            .map(|found| found.message.clone());
        self.drift = conditions::get(&status.conditions, "Drifted")
            .filter(|found| found.status == "True")
            .map(|found| found.message.clone());
        self.gates = status
            .gates
            .iter()
            .map(|gate| GateFact {
                name: gate.name.clone(),
                verdict: gate.verdict.clone(),
                until: gate.until.as_ref().map(|until| until.0),
                message: gate.message.clone().unwrap_or_default(),
                opens: gate.opens.clone().unwrap_or_default(),
            })
            .collect();
        self.waiting = status.deploy.as_ref().and_then(|deploy| {
            Some(WaitingFact {
                reason: deploy.waiting_reason.clone()?,
                message: deploy.message.clone().unwrap_or_default(),
                blocker: deploy.blocker.clone(),
            })
        });
    }
}
