//! What keeps releases away from a stage and lets them come: holds and approvals.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::Input,
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    stages::{STAGE, known, on_stage},
};
use crate::{
    cluster::access::Attributes,
    store::{self, StoredApproval},
};

/// What keeps policies away from a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Its id.
    pub id: Uuid,
    /// Whose it is: each owner has one.
    pub owner: String,
    /// Who asked for it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Until when; left out, until somebody resumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl From<store::Hold> for Hold {
    fn from(hold: store::Hold) -> Self {
        let store::Hold { id, owner, actor, reason, at, expires_at, .. } = hold;
        Self { id, owner, actor: actor.to_string(), reason, at, expires_at }
    }
}

/// That somebody agrees to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its id.
    pub id: Uuid,
    /// Content hash of the release: a tag that is moved does not take the approval with it.
    pub release: String,
    /// Who.
    pub actor: String,
    /// Why, in their words.
    pub reason: String,
    /// Whether it is certain that it was they.
    pub verified: bool,
    /// When.
    pub at: Timestamp,
    /// Until when it counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Timestamp>,
}

impl From<StoredApproval> for Approval {
    fn from(approval: StoredApproval) -> Self {
        let StoredApproval { id, release, actor, reason, verified, at, expires_at, withdrawn_at } = approval;
        Self {
            id,
            release: release.to_string(),
            actor: actor.to_string(),
            reason,
            verified,
            at,
            expires_at,
            withdrawn_at,
        }
    }
}

/// The holds of a stage.
pub(super) struct List {
    namespace: String,
    stage: String,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.stage), "get")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE],
        access: &[("stages", "get")],
        about: "A hold is made by the request `hold`, or by a rollback, and ended by `resume`.",
        ..Spec::get("/namespaces/{namespace}/stages/{stage}/holds", "listHolds", "The holds of a stage, oldest first.")
    };

    type Content = ();
    type Answer = Page<Hold>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), stage: input.text("stage") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Hold>>, Problem> {
        let Self { namespace, stage } = authorized.command();
        let target = known(call.ground, namespace, stage).await?;
        let holds = call.ground.store.holds_list(target.id).await?;
        Ok(Reply::of(Page::whole(holds.into_iter().map(Hold::from).collect())))
    }
}

/// The approvals of a stage.
pub(super) struct Approvals {
    namespace: String,
    stage: String,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
}

impl Command for Approvals {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.stage), "get")
    }
}

impl Operation for Approvals {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE, &LIMIT, &CURSOR],
        access: &[("stages", "get")],
        about: "An approval is given by the request `approve`.",
        ..Spec::get(
            "/namespaces/{namespace}/stages/{stage}/approvals",
            "listApprovals",
            "Who agreed to which release on a stage, newest first.",
        )
    };

    type Content = ();
    type Answer = Page<Approval>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self {
            namespace: input.text("namespace"),
            stage: input.text("stage"),
            before: cursor::read(&input)?,
            limit: cursor::limit(&input),
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Approval>>, Problem> {
        let Self { namespace, stage, before, limit } = authorized.command();
        let target = known(call.ground, namespace, stage).await?;
        let rows = call.ground.store.approvals_page(target.id, *before, limit + 1).await?;
        Ok(Reply::of(Page::cut(rows, *limit, |last| (last.at, last.id), Approval::from)))
    }
}
