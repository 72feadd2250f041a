//! What is asked of stages: written down here, done by whoever leads, told when it is settled.

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Json, Method, Operation, PATIENCE, Reply, Spec, actor},
    problem::{FieldError, Problem},
    projects::NAMESPACE,
    stages::{STAGE, known, on_stage},
};
use crate::{
    cluster::access::Attributes,
    domain::request::{Action, Destination, Origin, Verb, Via},
    store::{Asked, NewRequest, StoredRequest},
};

/// Longest reason, in bytes.
const LONGEST_REASON: usize = 2048;

/// Seconds that somebody may wait for a request to be settled.
const LONGEST_WAIT: i64 = 30;

/// How long an operation may take whose caller may wait.
pub(super) const PATIENCE_OF_WAITERS: Duration = Duration::from_secs(PATIENCE.as_secs() + 30);

/// The key under which a request is done once.
pub(super) static KEY: Parameter = Parameter::header(
    "idempotency-key",
    Kind::Text,
    "A word of the caller's for this request: the same again, from the same caller, is done once; with other content it is \
     refused.",
);

static REQUEST: Parameter = Parameter::path("request", Kind::Id, "The request's id.");
pub(super) static WAIT: Parameter = Parameter::query(
    "wait",
    Kind::Number(0, LONGEST_WAIT),
    "Seconds to wait until the request is settled; it goes on all the same when they are over.",
);

/// The words of [`Action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum ActionWord {
    Promote,
    Rollback,
    Approve,
    Abort,
    Retry,
    Hold,
    Resume,
    Veto,
    Unveto,
}

/// What a rollback goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum To {
    /// The last good deploy before the one that serves.
    Previous,
    /// A deploy that succeeded here.
    Deploy(Uuid),
    /// What served at this instant.
    LastGoodBefore(Timestamp),
}

/// Something that is asked of a stage. Who asks is known from their token; there is no field for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "RequestBody")]
pub(super) struct Body {
    /// What is asked.
    pub(super) action: ActionWord,
    /// Why, in a sentence. Must be given for an emergency, a hold and a veto.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub(super) reason: Option<String>,
    /// For promote, approve, veto and unveto: the release's hash, or at least eight digits of its beginning. Left out: the
    /// newest that may come, the one that waits for approvals, the one that serves. Unveto needs it.
    #[serde(default)]
    pub(super) release: Option<String>,
    /// For promote: the stage that the release comes from, where there are several.
    #[serde(default)]
    pub(super) from: Option<String>,
    /// For promote: pass over soak, approvals and windows. Takes the right to approve as well.
    #[serde(default)]
    pub(super) emergency: Option<bool>,
    /// For rollback, which needs it: what to go back to.
    #[serde(default)]
    pub(super) to: Option<To>,
    /// For abort: the deploy; left out, the one that runs, or else the one that waits. For retry: the deploy that failed; left
    /// out, the last one.
    #[serde(default)]
    pub(super) deploy: Option<Uuid>,
    /// For hold and resume: whose hold it is; each owner has one. Left out: whoever asks, and for resume all of them.
    #[serde(default)]
    pub(super) owner: Option<String>,
    /// For hold: until when; left out, until somebody resumes.
    #[serde(default)]
    pub(super) until: Option<Timestamp>,
}

/// Whether a text can be a release's hash, or the beginning of one.
pub(super) fn is_release(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Body {
    /// Only what is asked.
    pub(super) fn new(action: ActionWord) -> Self {
        Self {
            action,
            reason: None,
            release: None,
            from: None,
            emergency: None,
            to: None,
            deploy: None,
            owner: None,
            until: None,
        }
    }

    /// The action with its reason.
    ///
    /// # Errors
    /// Fields that this action has not, needs, or that are not as they should be.
    pub(super) fn action(self) -> Result<(Action, String), Problem> {
        use ActionWord as Word;
        let Self { action: word, reason, release, from, emergency, to, deploy, owner, until } = self;
        let given = [
            ("release", release.is_some(), &[Word::Promote, Word::Approve, Word::Veto, Word::Unveto][..]),
            ("from", from.is_some(), &[Word::Promote]),
            ("emergency", emergency.is_some(), &[Word::Promote]),
            ("to", to.is_some(), &[Word::Rollback]),
            ("deploy", deploy.is_some(), &[Word::Abort, Word::Retry]),
            ("owner", owner.is_some(), &[Word::Hold, Word::Resume]),
            ("until", until.is_some(), &[Word::Hold]),
        ];
        let mut errors: Vec<FieldError> = given
            .iter()
            .filter(|(_, is_given, of)| *is_given && !of.contains(&word))
            .map(|(field, ..)| FieldError::new(*field, "this action has no such field"))
            .collect();
        if !release.as_deref().is_none_or(is_release) {
            errors.push(FieldError::new("release", "expected a release's hash, or 8 to 64 digits of its beginning"));
        }
        for (field, text) in [("from", &from), ("owner", &owner)] {
            if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > 253 || text.contains(char::is_control))
            {
                errors.push(FieldError::new(field, "expected a name of 1 to 253 bytes"));
            }
        }
        let reason = reason.unwrap_or_default().trim().to_owned();
        if reason.len() > LONGEST_REASON {
            errors.push(FieldError::new("reason", format!("expected at most {LONGEST_REASON} bytes")));
        }
        let mut needed = |field: &str| errors.push(FieldError::new(field, "it is missing: this action needs it"));
        let action = match word {
            Word::Promote => Some(Action::Promote { release, from, emergency: emergency.unwrap_or_default() }),
            Word::Rollback => to.map(|to| Action::Rollback {
                to: match to {
                    To::Previous => Destination::Previous,
                    To::Deploy(id) => Destination::Deploy(id),
                    To::LastGoodBefore(at) => Destination::LastGoodBefore(at),
                },
            }),
            Word::Approve => Some(Action::Approve { release }),
            Word::Abort => Some(Action::Abort { deploy }),
            Word::Retry => Some(Action::Retry { deploy }),
            Word::Hold => Some(Action::Hold { owner, until }),
            Word::Resume => Some(Action::Resume { owner }),
            Word::Veto => Some(Action::Veto { release }),
            Word::Unveto => release.map(|release| Action::Unveto { release }),
        };
        if action.is_none() {
            needed(if word == Word::Rollback { "to" } else { "release" });
        }
        if reason.is_empty() && action.as_ref().is_some_and(Action::needs_reason) {
            needed("reason");
        }
        match action {
            Some(action) if errors.is_empty() => Ok((action, reason)),
            _ => Err(Problem::invalid(errors)),
        }
    }
}

/// Something that was asked of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Its id.
    pub id: Uuid,
    /// Namespace of its stage.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its stage.
    pub stage: String,
    /// What is asked: an object with the field `action` and those of that action.
    pub action: Value,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub actor: String,
    /// On which way: `api`, `cli` or `annotation`.
    pub via: String,
    /// Whether it is certain that it was they.
    pub verified: bool,
    /// `pending`, `done` or `refused`.
    #[schemars(extend("enum" = ["pending", "done", "refused"]))]
    pub state: String,
    /// What became of it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The deploy that came of it, or that it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Uuid>,
    /// When it was asked.
    pub at: Timestamp,
    /// When it was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Timestamp>,
}

impl From<StoredRequest> for Request {
    fn from(stored: StoredRequest) -> Self {
        Self {
            id: stored.id,
            namespace: stored.namespace,
            project: stored.project,
            stage: stored.stage,
            // Words and numbers: this cannot fail.
            action: serde_json::to_value(&stored.action).unwrap_or_default(),
            reason: stored.reason,
            actor: stored.actor.to_string(),
            via: stored.origin.via.word().to_owned(),
            verified: stored.origin.verified,
            state: stored.state.word().to_owned(),
            message: stored.message,
            deploy: stored.deploy,
            at: stored.at,
            settled_at: stored.settled_at,
        }
    }
}

/// A request when it is settled, or as it is when the wait is over.
async fn settled(ground: &Ground, stored: StoredRequest, wait: Option<i64>) -> Result<StoredRequest, Problem> {
    let wait = wait.and_then(|wait| u64::try_from(wait).ok()).filter(|wait| *wait > 0);
    // Each waits on a connection of its own: there are only so many.
    let (Some(wait), Ok(_permit)) = (wait, ground.waiters.try_acquire()) else { return Ok(stored) };
    Ok(ground.store.request_settled(stored.id, Duration::from_secs(wait)).await?)
}

/// Something asked of a stage.
pub(super) struct Ask {
    namespace: String,
    stage: String,
    action: Action,
    reason: String,
    key: Option<String>,
    wait: Option<i64>,
}

impl Ask {
    /// What a body asks of the stage in the path.
    ///
    /// # Errors
    /// Fields that are not as they should be.
    pub(super) fn new(input: &Input, body: Body) -> Result<Self, Problem> {
        let (action, reason) = body.action()?;
        Ok(Self {
            namespace: input.text("namespace"),
            stage: input.text("stage"),
            action,
            reason,
            key: input.get(KEY.name).map(Into::into),
            wait: input.number(WAIT.name),
        })
    }

    /// What is asked of the life of an environment.
    ///
    /// # Errors
    /// The reason is too long.
    pub(super) fn of_life(input: &Input, name: &str, action: Action, reason: Option<String>) -> Result<Self, Problem> {
        let reason = reason.unwrap_or_default().trim().to_owned();
        if reason.len() > LONGEST_REASON {
            let wrong = FieldError::new("reason", format!("expected at most {LONGEST_REASON} bytes"));
            return Err(Problem::invalid(vec![wrong]));
        }
        Ok(Self {
            namespace: input.text("namespace"),
            stage: name.to_owned(),
            action,
            reason,
            key: input.get(KEY.name).map(Into::into),
            wait: input.number(WAIT.name),
        })
    }

    /// The right that it takes.
    pub(super) fn verb(&self) -> Verb {
        self.action.verb()
    }
}

/// Writes down what was asked by whoever was let in, and waits for its end if they want to.
pub(super) async fn made<C>(
    authorized: &Authorized<C>,
    asked: &Ask,
    call: &Call<'_>,
) -> Result<Reply<Request>, Problem> {
    let caller = authorized.caller();
    let new = NewRequest {
        id: call.ground.ids.next(),
        namespace: asked.namespace.clone(),
        stage: asked.stage.clone(),
        action: asked.action.clone(),
        actor: actor(authorized),
        groups: caller.person().groups.iter().cloned().collect(),
        reason: asked.reason.clone(),
        origin: Origin {
            via: Via::Api,
            verified: true,
            source: caller.address().map(|address| address.to_string()),
            request_id: Some(call.request_id.to_owned()),
        },
        idempotency_key: asked.key.clone(),
        group: None,
        at: call.ground.clock.now(),
    };
    let stored = match call.ground.store.request_create(&new).await? {
        Asked::Made(stored) | Asked::Repeated(stored) => stored,
        Asked::Reused => return Err(Problem::key_reused()),
    };
    Ok(Reply::of(settled(call.ground, stored, asked.wait).await?.into()))
}

impl Command for Ask {
    fn attributes(&self) -> Vec<Attributes> {
        let mut all = on_stage(&self.namespace, Some(&self.stage), self.action.verb().word());
        // An emergency passes over approvals: it takes somebody who could have given one.
        if matches!(self.action, Action::Promote { emergency: true, .. }) {
            all.extend(on_stage(&self.namespace, Some(&self.stage), "approve"));
        }
        all
    }
}

impl Operation for Ask {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE, &WAIT, &KEY],
        access: &[
            ("stages", "promote"),
            ("stages", "rollback"),
            ("stages", "approve"),
            ("stages", "abort"),
            ("stages", "retry"),
            ("stages", "hold"),
        ],
        status: StatusCode::ACCEPTED,
        about: "The action's verb is the right that it takes: promote, rollback, approve, abort, retry; and hold for hold, \
                resume, veto and unveto. The request is written down with its audit entry, and done by the replica that \
                leads; `state` and `message` say what became of it.",
        example: Some(|| json!({"action": "rollback", "to": "previous", "reason": "checkout is slow"})),
        patience: PATIENCE_OF_WAITERS,
        keeps_its_key: true,
        ..Spec::new(
            Method::Post,
            "/namespaces/{namespace}/stages/{stage}/requests",
            "createRequest",
            "Ask something of a stage: promote, roll back, approve, abort, retry, hold, resume, veto, unveto.",
        )
    };

    type Content = Json<Body>;
    type Answer = Request;

    async fn read(input: Input, Json(body): Json<Body>, _: &Ground) -> Result<Self, Problem> {
        Self::new(&input, body)
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Request>, Problem> {
        made(&authorized, authorized.command(), call).await
    }
}

/// A request.
pub(super) struct Get {
    namespace: String,
    id: Uuid,
    found: Option<StoredRequest>,
    wait: Option<i64>,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        // What is not there is asked about under its id: both take the same way.
        let stage = self.found.as_ref().map_or_else(|| self.id.to_string(), |found| found.stage.clone());
        on_stage(&self.namespace, Some(&stage), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &REQUEST, &WAIT],
        access: &[("stages", "get")],
        patience: PATIENCE_OF_WAITERS,
        ..Spec::get("/namespaces/{namespace}/requests/{request}", "getRequest", "Something that was asked of a stage.")
    };

    type Content = ();
    type Answer = Request;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        let (namespace, id) = (input.text("namespace"), input.id("request"));
        let found = ground.store.request_get(id).await?.filter(|found| found.namespace == namespace);
        Ok(Self { namespace, id, found, wait: input.number(WAIT.name) })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Request>, Problem> {
        let asked = authorized.command();
        let found = asked.found.clone().ok_or_else(Problem::denied)?;
        Ok(Reply::of(settled(call.ground, found, asked.wait).await?.into()))
    }
}

/// What was asked of a stage.
pub(super) struct List {
    namespace: String,
    stage: String,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.stage), "get")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE, &LIMIT, &CURSOR],
        access: &[("stages", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/stages/{stage}/requests",
            "listRequests",
            "What was asked of a stage, newest first.",
        )
    };

    type Content = ();
    type Answer = Page<Request>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self {
            namespace: input.text("namespace"),
            stage: input.text("stage"),
            before: cursor::read(&input)?,
            limit: cursor::limit(&input),
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Request>>, Problem> {
        let Self { namespace, stage, before, limit } = authorized.command();
        let target = known(call.ground, namespace, stage).await?;
        let rows = call.ground.store.requests_list(target.id, *before, limit + 1).await?;
        Ok(Reply::of(Page::cut(rows, *limit, |last| (last.at, last.id), Request::from)))
    }
}
