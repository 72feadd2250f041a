//! `POST /namespaces/{namespace}/stages/{stage}/VERB`: the requests of [`requests`](super::requests), each under a path of its
//! own, with the fields that it has and the right that it takes.

use std::marker::PhantomData;

use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use super::{
    Ground,
    guard::{Authorized, Command},
    input::Input,
    operation::{Call, Json, Method, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    requests::{ActionWord, Ask, Body, KEY, PATIENCE_OF_WAITERS, Request, To, WAIT, made},
    stages::STAGE,
};
use crate::cluster::access::Attributes;

/// One of the verbs.
pub(super) trait Verb: Send + Sync + 'static {
    /// What is its own in the table.
    const SPEC: Spec;

    /// Its fields.
    type Fields: DeserializeOwned + JsonSchema + Send;

    /// The request that it stands for.
    fn body(fields: Self::Fields) -> Body;
}

/// A request by its verb.
pub(super) struct Short<V> {
    asked: Ask,
    verb: PhantomData<V>,
}

impl<V: Verb> Command for Short<V> {
    fn attributes(&self) -> Vec<Attributes> {
        self.asked.attributes()
    }
}

impl<V: Verb> Operation for Short<V> {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE, &WAIT, &KEY],
        status: StatusCode::ACCEPTED,
        patience: PATIENCE_OF_WAITERS,
        keeps_its_key: true,
        ..V::SPEC
    };

    type Content = Json<V::Fields>;
    type Answer = Request;

    async fn read(input: Input, Json(fields): Json<V::Fields>, _: &Ground) -> Result<Self, Problem> {
        Ok(Self { asked: Ask::new(&input, V::body(fields))?, verb: PhantomData })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Request>, Problem> {
        made(&authorized, &authorized.command().asked, call).await
    }
}

/// The fields of `promote`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "PromoteBody")]
pub(super) struct PromoteFields {
    /// Why, in a sentence. Must be given for an emergency.
    reason: Option<String>,
    /// The release's hash, or at least eight digits of its beginning. Left out: the newest that may come.
    release: Option<String>,
    /// The stage that the release comes from, where there are several.
    from: Option<String>,
    /// Pass over soak, approvals and windows. Takes the right to approve as well.
    emergency: Option<bool>,
}

/// The fields of `rollback`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "RollbackBody")]
pub(super) struct RollbackFields {
    /// Why, in a sentence.
    reason: Option<String>,
    /// What to go back to. Left out: the last good deploy before the one that serves.
    to: Option<To>,
}

/// The fields of `approve`, `veto` and `unveto`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "ReleaseBody")]
pub(super) struct ReleaseFields {
    /// Why, in a sentence. Must be given for a veto.
    reason: Option<String>,
    /// The release's hash, or at least eight digits of its beginning. Left out: the one that waits for approvals, or for a veto
    /// the one that serves. Unveto needs it.
    release: Option<String>,
}

/// The fields of `abort` and `retry`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "DeployBody")]
pub(super) struct DeployFields {
    /// Why, in a sentence.
    reason: Option<String>,
    /// The deploy. Left out: the one that runs, or else the one that waits; for retry the last that failed.
    deploy: Option<Uuid>,
}

/// The fields of `hold`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "HoldBody")]
pub(super) struct HoldFields {
    /// Why, in a sentence. Must be given.
    reason: Option<String>,
    /// Whose hold it is; each owner has one. Left out: whoever asks.
    owner: Option<String>,
    /// Until when; left out, until somebody resumes.
    until: Option<Timestamp>,
}

/// The fields of `resume`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "ResumeBody")]
pub(super) struct ResumeFields {
    /// Why, in a sentence.
    reason: Option<String>,
    /// Only the hold of this owner.
    owner: Option<String>,
}

fn release_body(word: ActionWord, fields: ReleaseFields) -> Body {
    Body { reason: fields.reason, release: fields.release, ..Body::new(word) }
}

fn deploy_body(word: ActionWord, fields: DeployFields) -> Body {
    Body { reason: fields.reason, deploy: fields.deploy, ..Body::new(word) }
}

/// A verb: its fields, its path, its name in the document, the right that it takes, what it does, and what may be sent.
macro_rules! verbs {
    ($($(#[$about:meta])* $verb:ident($fields:ty) $path:literal $id:literal $right:literal $summary:literal
       $example:tt $body:expr;)*) => {$(
        $(#[$about])*
        pub(super) struct $verb;

        impl Verb for $verb {
            const SPEC: Spec = Spec {
                access: &[("stages", $right)],
                example: Some(|| json!($example)),
                ..Spec::new(
                    Method::Post,
                    concat!("/namespaces/{namespace}/stages/{stage}/", $path),
                    $id,
                    $summary,
                )
            };

            type Fields = $fields;

            fn body(fields: $fields) -> Body {
                $body(fields)
            }
        }
    )*};
}

verbs! {
    /// `promote`.
    Promote(PromoteFields) "promote" "promoteStage" "promote"
        "Bring a release to a stage that the stages before it have proven."
        {"reason": "it is time"}
        |PromoteFields { reason, release, from, emergency }| Body {
            reason, release, from, emergency, ..Body::new(ActionWord::Promote)
        };
    /// `rollback`.
    Rollback(RollbackFields) "rollback" "rollBackStage" "rollback"
        "Start again what a stage ran before, exactly as it was, and hold it."
        {"reason": "checkout is slow"}
        |RollbackFields { reason, to }| Body {
            reason, to: Some(to.unwrap_or(To::Previous)), ..Body::new(ActionWord::Rollback)
        };
    /// `approve`.
    Approve(ReleaseFields) "approve" "approveOnStage" "approve"
        "Agree that a release comes to a stage."
        {"reason": "looks good"}
        |fields| release_body(ActionWord::Approve, fields);
    /// `abort`.
    Abort(DeployFields) "abort" "abortOnStage" "abort"
        "Stop the deploy of a stage that runs, or else the one that waits."
        {"reason": "wrong release"}
        |fields| deploy_body(ActionWord::Abort, fields);
    /// `retry`.
    Retry(DeployFields) "retry" "retryOnStage" "retry"
        "Try a failed deploy of a stage again, with what it was rendered from."
        {"reason": "the node is back"}
        |fields| deploy_body(ActionWord::Retry, fields);
    /// `hold`.
    Hold(HoldFields) "hold" "holdStage" "hold"
        "Let no policy bring anything to a stage."
        {"reason": "audit"}
        |HoldFields { reason, owner, until }| Body { reason, owner, until, ..Body::new(ActionWord::Hold) };
    /// `resume`.
    Resume(ResumeFields) "resume" "resumeStage" "hold"
        "End the holds of a stage: policies go on."
        {"reason": "audit is over"}
        |ResumeFields { reason, owner }| Body { reason, owner, ..Body::new(ActionWord::Resume) };
    /// `veto`.
    Veto(ReleaseFields) "veto" "vetoOnStage" "hold"
        "Keep a release from coming to a stage by itself."
        {"reason": "it loses orders"}
        |fields| release_body(ActionWord::Veto, fields);
    /// `unveto`.
    Unveto(ReleaseFields) "unveto" "unvetoOnStage" "hold"
        "Let a vetoed release come to a stage again."
        {"release": "0123456789abcdef"}
        |fields| release_body(ActionWord::Unveto, fields);
}
