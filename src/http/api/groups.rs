//! Group actions: the same asked of several stages of a namespace, which begin together or not at all.

use std::collections::BTreeSet;

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
    operation::{Call, Json, Method, Operation, Reply, Spec, actor},
    problem::{FieldError, Problem},
    projects::NAMESPACE,
    requests::{ActionWord, Body, KEY, To},
    stages::on_stage,
    views::state_schema,
};
use crate::{
    cluster::access::Attributes,
    domain::{
        deploy::State,
        group::{MOST, Member, OnFailure, Phase, phase},
        request::{Action, Origin, Via},
    },
    store::{NewGroup, StoredGroup},
};

static GROUP: Parameter = Parameter::path("group", Kind::Id, "The group's id.");

/// What may be asked of several stages at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum GroupWord {
    Promote,
    Rollback,
}

/// Something that is asked of several stages at once. Who asks is known from their token; there is no field for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GroupBody {
    /// What is asked of each.
    action: GroupWord,
    /// The stages: from 2 to 20.
    #[schemars(length(min = 2, max = 20))]
    stages: Vec<String>,
    /// What becomes of the others when one of them fails after they have begun: `keep` (nothing), or `rollback` (what runs is
    /// stopped, what succeeded goes back). Left out: `keep`.
    #[serde(default)]
    #[schemars(extend("enum" = ["keep", "rollback"]))]
    on_failure: Option<String>,
    /// Why, in a sentence. Must be given for an emergency.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    reason: Option<String>,
    /// For promote: the release's hash, or at least eight digits of its beginning. Left out: for each stage the newest that
    /// may come.
    #[serde(default)]
    release: Option<String>,
    /// For promote: the stage that the release comes from, where there are several.
    #[serde(default)]
    from: Option<String>,
    /// For promote: pass over soak, approvals and windows. Takes the right to approve as well.
    #[serde(default)]
    emergency: Option<bool>,
    /// For rollback, which needs it: what to go back to.
    #[serde(default)]
    to: Option<To>,
}

/// Several stages of which the same was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// Namespace of its stages.
    pub namespace: String,
    /// What is asked of each: an object with the field `action` and those of that action.
    pub action: Value,
    /// What becomes of the others when one of them fails: `keep` or `rollback`.
    #[schemars(extend("enum" = ["keep", "rollback"]))]
    pub on_failure: String,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When it was asked.
    pub at: Timestamp,
    /// When all of them began; left out while they wait, and if they never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// `waiting` until all can begin; `refused` if they cannot any more, and none of them has; `running`; `failed` when one of
    /// them did not succeed; `succeeded` when all did.
    #[schemars(extend("enum" = ["waiting", "refused", "running", "failed", "succeeded"]))]
    pub state: String,
    /// Why it was refused or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its stages, by name.
    pub members: Vec<GroupMember>,
}

/// A stage of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupMember {
    /// The stage.
    pub stage: String,
    /// What became of the request to it: `pending`, `done` or `refused`.
    #[schemars(extend("enum" = ["pending", "done", "refused"]))]
    pub request: String,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The deploy that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Uuid>,
    /// Where that deploy stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "state_schema")]
    pub state: Option<State>,
    /// Whether nothing more will happen to that deploy.
    #[serde(default)]
    pub finished: bool,
}

impl From<StoredGroup> for Group {
    fn from(stored: StoredGroup) -> Self {
        let (state, message) = match phase(&stored.members, stored.started_at.is_some()) {
            Phase::Forming => ("waiting", None),
            Phase::Broken(why) => ("refused", Some(why)),
            Phase::Begun => ("running", None),
            Phase::Failed(why) => ("failed", Some(why)),
            Phase::Over => ("succeeded", None),
        };
        Self {
            id: stored.id,
            namespace: stored.namespace,
            // Words and numbers: this cannot fail.
            action: serde_json::to_value(&stored.action).unwrap_or_default(),
            on_failure: stored.on_failure.word().to_owned(),
            actor: stored.actor.to_string(),
            reason: stored.reason,
            at: stored.at,
            started_at: stored.started_at,
            state: state.to_owned(),
            message,
            members: stored.members.into_iter().map(GroupMember::from).collect(),
        }
    }
}

impl From<Member> for GroupMember {
    fn from(member: Member) -> Self {
        let Member { stage, request, message, deploy, .. } = member;
        let (state, finished) = deploy.as_ref().map_or((None, false), |deploy| (Some(deploy.state), deploy.finished));
        let deploy = deploy.map(|deploy| deploy.id);
        Self { stage, request: request.word().to_owned(), message, deploy, state, finished }
    }
}

/// Something asked of several stages.
pub(super) struct Ask {
    namespace: String,
    stages: Vec<String>,
    action: Action,
    reason: String,
    on_failure: OnFailure,
}

impl GroupBody {
    /// What it asks, of which stages, and what follows a failure.
    ///
    /// # Errors
    /// The fields that are not as they should be.
    fn read(self) -> Result<(Vec<String>, Action, String, OnFailure), Problem> {
        let Self { action, stages, on_failure, reason, release, from, emergency, to } = self;
        let mut errors = Vec::new();
        let named: BTreeSet<&String> = stages.iter().collect();
        if !(2..=MOST).contains(&stages.len()) {
            errors.push(FieldError::new("stages", format!("expected 2 to {MOST} stages")));
        } else if named.len() < stages.len() {
            errors.push(FieldError::new("stages", "expected each stage once"));
        } else if stages.iter().any(|stage| Kind::Name.refuses(stage).is_some()) {
            errors.push(FieldError::new("stages", "expected names of stages"));
        }
        let on_failure = on_failure.as_deref().map_or(Ok(OnFailure::default()), str::parse);
        if on_failure.is_err() {
            errors.push(FieldError::new("onFailure", "expected `keep` or `rollback`"));
        }
        let word = match action {
            GroupWord::Promote => ActionWord::Promote,
            GroupWord::Rollback => ActionWord::Rollback,
        };
        let body = Body { reason, release, from, emergency, to, ..Body::new(word) };
        match (body.action(), on_failure) {
            (Ok((action, reason)), Ok(on_failure)) if errors.is_empty() => Ok((stages, action, reason, on_failure)),
            (Ok(_), _) => Err(Problem::invalid(errors)),
            (Err(problem), _) => Err(Problem::invalid(errors.into_iter().chain(problem.errors).collect())),
        }
    }
}

impl Command for Ask {
    fn attributes(&self) -> Vec<Attributes> {
        let emergency = matches!(self.action, Action::Promote { emergency: true, .. });
        let verbs = [Some(self.action.verb().word()), emergency.then_some("approve")];
        let of = |stage: &String| {
            let verbs = verbs.into_iter().flatten();
            verbs.flat_map(|verb| on_stage(&self.namespace, Some(stage), verb)).collect::<Vec<_>>()
        };
        self.stages.iter().flat_map(of).collect()
    }
}

impl Operation for Ask {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &KEY],
        access: &[("stages", "promote"), ("stages", "rollback"), ("stages", "approve")],
        status: StatusCode::ACCEPTED,
        about: "Takes the right to the action on each of the stages. Each stage asks its own gates; their deploys leave `pending` \
                in one transaction when the last of them is open, or not at all: if one cannot, none of them begins.",
        example: Some(|| {
            json!({
                "action": "rollback", "to": "previous", "stages": ["dev", "prod"], "onFailure": "keep", "reason": "checkout is slow"
            })
        }),
        ..Spec::new(
            Method::Post,
            "/namespaces/{namespace}/groups",
            "createGroup",
            "Promote or roll back several stages as one: they begin together or not at all.",
        )
    };

    type Content = Json<GroupBody>;
    type Answer = Group;

    async fn read(input: Input, Json(body): Json<GroupBody>, _: &Ground) -> Result<Self, Problem> {
        let (stages, action, reason, on_failure) = body.read()?;
        Ok(Self { namespace: input.text("namespace"), stages, action, reason, on_failure })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Group>, Problem> {
        let (asked, caller, ground) = (authorized.command(), authorized.caller(), call.ground);
        let new = NewGroup {
            id: ground.ids.next(),
            namespace: asked.namespace.clone(),
            action: asked.action.clone(),
            on_failure: asked.on_failure,
            actor: actor(&authorized),
            groups: caller.person().groups.iter().cloned().collect(),
            reason: asked.reason.clone(),
            origin: Origin {
                via: Via::Api,
                verified: true,
                source: caller.address().map(|address| address.to_string()),
                request_id: Some(call.request_id.to_owned()),
            },
            stages: asked.stages.iter().map(|stage| (stage.clone(), ground.ids.next())).collect(),
            at: ground.clock.now(),
        };
        ground.store.group_create(&new).await?;
        Ok(Reply::of(ground.store.group_get(new.id).await?.ok_or_else(Problem::denied)?.into()))
    }
}

/// A group.
pub(super) struct Get {
    namespace: String,
    id: Uuid,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, None, "list")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &GROUP],
        access: &[("stages", "list")],
        ..Spec::get("/namespaces/{namespace}/groups/{group}", "getGroup", "What was asked of several stages at once.")
    };

    type Content = ();
    type Answer = Group;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), id: input.id("group") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Group>, Problem> {
        let Self { namespace, id } = authorized.command();
        let found = call.ground.store.group_get(*id).await?.filter(|found| found.namespace == *namespace);
        Ok(Reply::of(found.ok_or_else(Problem::denied)?.into()))
    }
}

/// The groups of a namespace.
pub(super) struct List {
    namespace: String,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, None, "list")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &LIMIT, &CURSOR],
        access: &[("stages", "list")],
        ..Spec::get(
            "/namespaces/{namespace}/groups",
            "listGroups",
            "What was asked of several stages of a namespace at once, newest first.",
        )
    };

    type Content = ();
    type Answer = Page<Group>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let limit = cursor::limit(&input);
        Ok(Self { namespace: input.text("namespace"), before: cursor::read(&input)?, limit })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Group>>, Problem> {
        let Self { namespace, before, limit } = authorized.command();
        let rows = call.ground.store.groups_list(namespace, *before, limit + 1).await?;
        Ok(Reply::of(Page::cut(rows, *limit, |last| (last.at, last.id), Group::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::input::body;

    #[test]
    fn a_group_is_of_several_stages_and_one_action() {
        let read = |value: Value| body::<GroupBody>(value.to_string().as_bytes()).and_then(GroupBody::read);
        let (stages, action, _, on_failure) =
            read(json!({"action": "rollback", "to": "previous", "stages": ["eu", "us"], "onFailure": "rollback"}))
                .unwrap();
        assert_eq!((stages, on_failure), (vec!["eu".to_owned(), "us".to_owned()], OnFailure::Rollback));
        assert_eq!(action.word(), "rollback");
        let many: Vec<String> = (0..=MOST).map(|number| format!("stage-{number}")).collect();
        let cases: [(Value, &[&str]); 9] = [
            (json!({"action": "promote", "stages": ["eu"]}), &["stages"]),
            (json!({"action": "promote", "stages": ["eu", "eu"]}), &["stages"]),
            (json!({"action": "promote", "stages": ["eu", "Us/x"]}), &["stages"]),
            (json!({"action": "promote", "stages": many}), &["stages"]),
            (json!({"action": "abort", "stages": ["eu", "us"]}), &["action"]),
            (json!({"action": "rollback", "stages": ["eu", "us"]}), &["to"]),
            (json!({"action": "promote", "stages": ["eu", "us"], "onFailure": "panic"}), &["onFailure"]),
            (json!({"action": "promote", "stages": [], "emergency": true}), &["stages", "reason"]),
            (json!({"action": "promote", "stages": ["eu", "us"], "actor": "user:root"}), &["actor"]),
        ];
        for (sent, fields) in cases {
            let problem = read(sent.clone()).unwrap_err();
            let named: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(named, fields, "{sent}");
        }
    }
}
