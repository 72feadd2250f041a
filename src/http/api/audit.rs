//! `/namespaces/{namespace}/audit`: who did what.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    deploys::{EVERYWHERE, namespace_of},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    stages::OF_PROJECT,
};
use crate::{
    cluster::access::Attributes,
    domain::actor::Actor,
    store::{AuditCursor, AuditFilter, AuditRecord},
};

static OF_STAGE: Parameter = Parameter::query("stage", Kind::Name, "Only about this stage.");
static SUBJECT: Parameter = Parameter::query("subject", Kind::Text, "Only to this thing, as `kind/id`.");
static ACTOR: Parameter =
    Parameter::query("actor", Kind::Text, "Only by this actor: `user:jane`, `policy`, `controller`.");
static ACTION: Parameter =
    Parameter::query("action", Kind::Text, "Only of this kind: `deploy.create`, `stage.rollback`.");
static SINCE: Parameter = Parameter::query("since", Kind::Time, "Only at this time or later.");

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its place in the chain, from 1 without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What, as `thing.verb`.
    pub action: String,
    /// To what, as `kind/id`.
    pub subject: String,
    /// The namespace that it is about; left out for what belongs to the whole installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The project that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The stage that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The rest: `reason`, `requestId`, `source`, `via`, and what belongs to the action. Never a value of a secret.
    pub details: Value,
}

impl From<AuditRecord> for Entry {
    fn from(record: AuditRecord) -> Self {
        let AuditRecord { entry, place } = record;
        let (namespace, project, stage) =
            place.map_or((None, None, None), |place| (Some(place.namespace), Some(place.project), place.stage));
        Self {
            seq: entry.seq,
            at: entry.entry.at,
            actor: entry.entry.actor.to_string(),
            action: entry.entry.action,
            subject: entry.entry.subject,
            namespace,
            project,
            stage,
            details: entry.entry.details,
        }
    }
}

/// A position in the log.
#[derive(Serialize, Deserialize)]
struct Position(Timestamp, i64);

/// The audit log of a namespace, or all of it.
pub(super) struct List<const ONE: bool> {
    filter: AuditFilter,
}

impl<const ONE: bool> Command for List<ONE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_projects(self.filter.namespace.as_deref())
    }
}

/// Listing what belongs to the projects of a namespace, or to all.
pub(super) fn on_projects(namespace: Option<&str>) -> Vec<Attributes> {
    vec![Attributes { resource: "projects", namespace: namespace.map(Into::into), name: None, verb: "list" }]
}

impl<const ONE: bool> Operation for List<ONE> {
    const SPEC: Spec = if ONE {
        Spec {
            parameters: &[&NAMESPACE, &OF_PROJECT, &OF_STAGE, &SUBJECT, &ACTOR, &ACTION, &SINCE, &LIMIT, &CURSOR],
            access: &[("projects", "list")],
            ..Spec::get("/namespaces/{namespace}/audit", "listAudit", "Who did what in a namespace, newest first.")
        }
    } else {
        Spec {
            parameters: &[&OF_PROJECT, &OF_STAGE, &SUBJECT, &ACTOR, &ACTION, &SINCE, &LIMIT, &CURSOR],
            access: &[("projects", "list")],
            about: EVERYWHERE,
            ..Spec::get("/audit", "listAllAudit", "Who did what, newest first, with what is about no namespace.")
        }
    };

    type Content = ();
    type Answer = Page<Entry>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let actor = input.get("actor").map(str::parse::<Actor>).transpose();
        let actor = actor.map_err(|_| {
            Problem::field("query.actor", "expected user:NAME, group, policy, webhook:SOURCE or controller")
        })?;
        let after: Option<Position> = cursor::read(&input)?;
        let filter = AuditFilter {
            namespace: namespace_of(&input),
            project: input.get("project").map(Into::into),
            stage: input.get("stage").map(Into::into),
            subject: input.get(SUBJECT.name).map(Into::into),
            actor,
            action: input.get("action").map(Into::into),
            since: input.time("since"),
            after: after.map(|Position(at, seq)| AuditCursor { at, seq }),
            limit: cursor::limit(&input),
        };
        Ok(Self { filter })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Entry>>, Problem> {
        let page = call.ground.store.audit_page(&authorized.command().filter).await?;
        let next = page.next.map(|next| cursor::write(&Position(next.at, next.seq)));
        Ok(Reply::of(Page { items: page.records.into_iter().map(Entry::from).collect(), next }))
    }
}
