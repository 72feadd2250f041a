//! `/namespaces/{namespace}/environments`: what lives for a while, and what people ask of its life.

use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Json, Method, Operation, Reply, Spec},
    problem::{FieldError, Problem},
    projects::NAMESPACE,
    requests::{self, KEY, PATIENCE_OF_WAITERS, Request, WAIT},
    stages::OF_PROJECT,
};
use crate::{cluster::access::Attributes, domain::request::Action, store::EnvironmentRow};

static ENVIRONMENT: Parameter = Parameter::path("environment", Kind::Name, "The environment.");

fn on_environment(namespace: &str, name: Option<&str>, verb: &'static str) -> Vec<Attributes> {
    let namespace = Some(namespace.to_owned());
    vec![Attributes { resource: "environments", namespace, name: name.map(Into::into), verb }]
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its namespace.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its name. Its deploys, logs and history are under `stages` by this name.
    pub name: String,
    /// The first part of its hosts.
    pub subdomain: String,
    /// The namespace that its objects are in.
    pub place: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody last looked at it, to within some minutes.
    pub last_activity_at: Timestamp,
    /// Since when it sleeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asleep_since: Option<Timestamp>,
    /// Until when somebody extended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_until: Option<Timestamp>,
    /// Whether somebody asked that it does not end by itself.
    pub pinned: bool,
    /// Why it ends, if that is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending_because: Option<String>,
}

impl From<EnvironmentRow> for Environment {
    fn from(row: EnvironmentRow) -> Self {
        let EnvironmentRow { namespace, project, name, life } = row;
        Self {
            namespace,
            project,
            name,
            subdomain: life.subdomain,
            place: life.place,
            created_at: life.born,
            last_activity_at: life.active,
            asleep_since: life.asleep,
            extended_until: life.extended,
            pinned: life.pinned,
            ending_because: life.ending.map(|(_, why)| why),
        }
    }
}

/// The environments of a namespace.
pub(super) struct List {
    namespace: String,
    project: Option<String>,
    after: Option<String>,
    limit: i64,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_environment(&self.namespace, None, "list")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &OF_PROJECT, &LIMIT, &CURSOR],
        access: &[("environments", "list")],
        ..Spec::get(
            "/namespaces/{namespace}/environments",
            "listEnvironments",
            "The environments of a namespace, by name.",
        )
    };

    type Content = ();
    type Answer = Page<Environment>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self {
            namespace: input.text("namespace"),
            project: input.get("project").map(Into::into),
            after: cursor::read(&input)?,
            limit: cursor::limit(&input),
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Environment>>, Problem> {
        let Self { namespace, project, after, limit } = authorized.command();
        let store = &call.ground.store;
        let rows = store.environments_list(namespace, project.as_deref(), after.as_deref(), limit + 1).await?;
        Ok(Reply::of(Page::cut(rows, *limit, |last| last.name.clone(), Environment::from)))
    }
}

/// An environment.
pub(super) struct Get {
    namespace: String,
    name: String,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_environment(&self.namespace, Some(&self.name), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &ENVIRONMENT],
        access: &[("environments", "get")],
        ..Spec::get("/namespaces/{namespace}/environments/{environment}", "getEnvironment", "An environment.")
    };

    type Content = ();
    type Answer = Environment;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), name: input.text("environment") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Environment>, Problem> {
        let Self { namespace, name } = authorized.command();
        let row = call.ground.store.environment_row(namespace, name).await?;
        Ok(Reply::of(row.ok_or_else(Problem::denied)?.into()))
    }
}

/// What can be asked of an environment's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum LifeWord {
    Wake,
    Sleep,
    Extend,
    Pin,
    Unpin,
    Delete,
}

/// Something that is asked of an environment's life.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "LifeRequestBody")]
pub(super) struct Body {
    /// What is asked.
    action: LifeWord,
    /// For extend, which needs it: until when it does not end by itself.
    #[serde(default)]
    until: Option<Timestamp>,
    /// Why, in a sentence.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    reason: Option<String>,
}

/// Something asked of an environment's life.
pub(super) struct Ask {
    namespace: String,
    name: String,
    asked: requests::Ask,
}

impl Command for Ask {
    fn attributes(&self) -> Vec<Attributes> {
        on_environment(&self.namespace, Some(&self.name), self.asked.verb().word())
    }
}

impl Operation for Ask {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &ENVIRONMENT, &WAIT, &KEY],
        access: &[("environments", "update"), ("environments", "delete")],
        status: StatusCode::ACCEPTED,
        about: "Delete takes the right to delete the environment, everything else the right to update it. What else can be \
                asked of a stage, such as a rollback, is asked under `stages` by the environment's name.",
        example: Some(
            || json!({"action": "extend", "until": "2126-01-31T12:00:00Z", "reason": "the demo is on Friday"}),
        ),
        patience: PATIENCE_OF_WAITERS,
        keeps_its_key: true,
        ..Spec::new(
            Method::Post,
            "/namespaces/{namespace}/environments/{environment}/requests",
            "createEnvironmentRequest",
            "Ask something of an environment's life: wake, sleep, extend, pin, unpin, delete.",
        )
    };

    type Content = Json<Body>;
    type Answer = Request;

    async fn read(input: Input, Json(body): Json<Body>, _: &Ground) -> Result<Self, Problem> {
        let Body { action, until, reason } = body;
        if until.is_some() && action != LifeWord::Extend {
            return Err(Problem::invalid(vec![FieldError::new("until", "this action has no such field")]));
        }
        let action = match (action, until) {
            (LifeWord::Wake, _) => Action::Wake,
            (LifeWord::Sleep, _) => Action::Sleep,
            (LifeWord::Extend, Some(until)) => Action::Extend { until },
            (LifeWord::Extend, None) => {
                return Err(Problem::invalid(vec![FieldError::new("until", "it is missing: this action needs it")]));
            }
            (LifeWord::Pin, _) => Action::Pin,
            (LifeWord::Unpin, _) => Action::Unpin,
            (LifeWord::Delete, _) => Action::Delete,
        };
        let (namespace, name) = (input.text("namespace"), input.text("environment"));
        let asked = requests::Ask::of_life(&input, &name, action, reason)?;
        Ok(Self { namespace, name, asked })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Request>, Problem> {
        requests::made(&authorized, &authorized.command().asked, call).await
    }
}

/// That somebody uses an environment.
pub(super) struct Beat {
    namespace: String,
    name: String,
}

impl Command for Beat {
    fn attributes(&self) -> Vec<Attributes> {
        on_environment(&self.namespace, Some(&self.name), "update")
    }
}

impl Operation for Beat {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &ENVIRONMENT, &KEY],
        access: &[("environments", "update")],
        about: "For what uses it without the built-in proxy, such as a test run. It does not wake what sleeps.",
        ..Spec::new(
            Method::Post,
            "/namespaces/{namespace}/environments/{environment}/activity",
            "touchEnvironment",
            "Say that an environment is in use, so that it neither sleeps nor ends for want of visitors.",
        )
    };

    type Content = ();
    type Answer = Environment;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), name: input.text("environment") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Environment>, Problem> {
        let Self { namespace, name } = authorized.command();
        let store = &call.ground.store;
        let row = store.environment_row(namespace, name).await?.ok_or_else(Problem::denied)?;
        let at = call.ground.clock.now();
        store.environments_touch(&[(row.life.subdomain.clone(), at)]).await?;
        let mut answer = Environment::from(row);
        answer.last_activity_at = answer.last_activity_at.max(at);
        Ok(Reply::of(answer))
    }
}
