//! `/namespaces/{namespace}/stages/{stage}/promotion`: what would become of a promotion that nobody has asked for.

use futures::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Ground,
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec, actor},
    problem::{FieldError, Problem},
    projects::NAMESPACE,
    requests::is_release,
    stages::{STAGE, known, on_stage},
    why::{declared, facts::GateFact},
};
use crate::{
    api::{Project, Stage},
    cluster::access::Attributes,
    domain::{actor::Actor, promotion::Gate, release::Release},
    store::{Store, TargetState},
};

static RELEASE: Parameter = Parameter::query(
    "release",
    Kind::Text,
    "The release's hash, or at least eight digits of its beginning; the newest that may come when left out.",
);
static FROM: Parameter = Parameter::query("from", Kind::Name, "The stage that it comes from, where there are several.");
static EMERGENCY: Parameter =
    Parameter::query("emergency", Kind::Flag, "As if soak, approvals and windows were to be passed over.");

/// A promotion as it would be asked for.
#[derive(Debug, Clone)]
pub struct Supposed {
    /// The release: its hash, or the beginning of it; none is the newest that may come.
    pub release: Option<String>,
    /// The stage that it comes from, where there are several.
    pub from: Option<String>,
    /// Pass over soak, approvals and windows.
    pub emergency: bool,
    /// Who asks.
    pub actor: Actor,
}

/// What the gates say of a promotion: the release that would come, or why there is none.
pub type Told = Result<(Release, Vec<Gate>), String>;

/// Somebody who can ask the gates.
pub trait Rehearse: Send + Sync {
    /// Asks them. `suspended` names what is suspended, if anything is. Changes nothing. An error is one of the store, in words
    /// for the log.
    fn rehearse<'a>(
        &'a self,
        store: &'a Store,
        stage: &'a Stage,
        suspended: Option<String>,
        state: TargetState,
        supposed: Supposed,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Told, String>>;
}

/// What would become of a promotion.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// The stage.
    pub stage: String,
    /// Content hash of the release that would come; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The release in short: `web 1.4.2, db 16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Why nothing would come, where nothing would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What each gate says of it now.
    pub gates: Vec<GateFact>,
}

impl Rehearsal {
    /// What was told, for callers.
    pub fn new(stage: &str, told: Told) -> Self {
        let stage = stage.to_owned();
        match told {
            Ok((release, gates)) => Self {
                stage,
                release: Some(release.id().0),
                summary: Some(release.summary()),
                refused: None,
                gates: gates.iter().map(GateFact::from).collect(),
            },
            Err(why) => Self { stage, release: None, summary: None, refused: Some(why), gates: Vec::new() },
        }
    }
}

/// What is suspended of a stage and its project.
pub fn suspended(name: &str, stage: &Stage, project: Option<&Project>) -> Option<String> {
    if stage.spec.suspend {
        return Some(format!("stage {name}"));
    }
    project.filter(|project| project.spec.suspend).map(|_| format!("project {}", stage.spec.project))
}

/// A promotion that is not asked for.
pub(super) struct Suppose {
    namespace: String,
    stage: String,
    release: Option<String>,
    from: Option<String>,
    emergency: bool,
}

impl Command for Suppose {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.stage), "get")
    }
}

impl Operation for Suppose {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE, &RELEASE, &FROM, &EMERGENCY],
        access: &[("stages", "get")],
        about: "Nothing is asked for and nothing changes. Where nothing would come, `refused` says why.",
        ..Spec::get(
            "/namespaces/{namespace}/stages/{stage}/promotion",
            "rehearsePromotion",
            "What each gate of a stage would say now of a promotion.",
        )
    };

    type Content = ();
    type Answer = Rehearsal;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let release = input.get(RELEASE.name).map(str::to_owned);
        if !release.as_deref().is_none_or(is_release) {
            let expected = "expected a release's hash, or 8 to 64 digits of its beginning";
            return Err(Problem::invalid(vec![FieldError::new("query.release", expected)]));
        }
        Ok(Self {
            namespace: input.text("namespace"),
            stage: input.text("stage"),
            release,
            from: input.get(FROM.name).map(Into::into),
            emergency: input.flag(EMERGENCY.name).unwrap_or_default(),
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Rehearsal>, Problem> {
        let Self { namespace, stage: name, release, from, emergency } = authorized.command();
        let ground = call.ground;
        let target = known(ground, namespace, name).await?;
        let found = declared(ground, namespace, name).await.map_err(|why| {
            tracing::warn!(%why, "a Stage could not be read to rehearse a promotion");
            Problem::unavailable("the operator cannot read the Stage at the moment")
        })?;
        let Some((stage, project)) = found else {
            let told = Err("the cluster has no such Stage any more: nothing is promoted to it".to_owned());
            return Ok(Reply::of(Rehearsal::new(name, told)));
        };
        let state = ground.store.target_state_load(target.id).await?.ok_or_else(Problem::denied)?;
        let supposed =
            Supposed { release: release.clone(), from: from.clone(), emergency: *emergency, actor: actor(&authorized) };
        let suspended = suspended(name, &stage, project.as_ref());
        let told = ground.gates.rehearse(&ground.store, &stage, suspended, state, supposed, ground.clock.now()).await;
        let told = told.map_err(|error| {
            tracing::error!(error, "a promotion could not be rehearsed");
            Problem::failed()
        })?;
        Ok(Reply::of(Rehearsal::new(name, told)))
    }
}
