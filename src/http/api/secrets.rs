//! `/namespaces/{namespace}/projects/{project}/secrets`: what is known about the secrets of workloads, and new values for them.
//! No operation reads a value.

use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Ground,
    cursor::Page,
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, IF_MATCH, Json, Method, Operation, Reply, Spec, actor, expected},
    problem::Problem,
    projects::{NAMESPACE, PROJECT, known, on_project, owner},
    value::{self, Value},
};
use crate::{
    cluster::access::Attributes,
    domain::secret::{self, SecretId},
    safe::{Plaintext, SecretDeposit},
    store,
};

static SECRET: Parameter = Parameter::path("secret", Kind::Text, "The secret's name.");
static SERVICE: Parameter =
    Parameter::query("service", Kind::Name, "The one service that it is for; left out, it is the one for all of them.");

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The one service that it is for; left out when it is for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How many times it was written.
    pub version: i64,
    /// Where its value came from.
    pub origin: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who wrote it last.
    pub updated_by: String,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// When it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl From<store::Secret> for Secret {
    fn from(one: store::Secret) -> Self {
        // Without `..`: whoever adds a field decides whether it may be shown.
        let store::Secret {
            id: _,
            secret,
            version,
            origin,
            created_by,
            updated_by,
            created_at,
            updated_at,
            last_used_at,
        } = one;
        let SecretId { name, service } = secret;
        Self { name, service, version, origin, created_by, created_at, updated_by, updated_at, last_used_at }
    }
}

/// The secrets of a project.
pub(super) struct List {
    namespace: String,
    project: String,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "get")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT],
        access: &[("projects", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/secrets",
            "listSecrets",
            "The secrets of a project, without their values: those for all services first, by name.",
        )
    };

    type Content = ();
    type Answer = Page<Secret>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), project: input.text("project") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Secret>>, Problem> {
        let Self { namespace, project } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let all = call.ground.store.secrets_list(project.id).await?;
        Ok(Reply::of(Page::whole(all.into_iter().map(Secret::from).collect())))
    }
}

impl Secret {
    /// Which version of it this is, as `ETag` and `If-Match` say it.
    fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// Which secret of which project.
struct Which {
    namespace: String,
    project: String,
    id: SecretId,
}

impl Which {
    fn read(input: &Input) -> Result<Self, Problem> {
        let name = secret::name(&input.text("secret")).map_err(|what| Problem::field("path.secret", what))?;
        let id = SecretId { name, service: input.get("service").map(Into::into) };
        Ok(Self { namespace: input.text("namespace"), project: input.text("project"), id })
    }

    fn on_project(&self, verb: &'static str) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), verb)
    }

    async fn found(&self, ground: &Ground, project: &store::Project) -> Result<Secret, Problem> {
        let all = ground.store.secrets_list(project.id).await?;
        let found = all.into_iter().find(|one| one.secret == self.id);
        found.map(Secret::from).ok_or_else(Problem::denied)
    }
}

/// A secret.
pub(super) struct Get(Which);

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        self.0.on_project("get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &SECRET, &SERVICE],
        access: &[("projects", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/secrets/{secret}",
            "getSecret",
            "A secret, without its value.",
        )
    };

    type Content = ();
    type Answer = Secret;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self(Which::read(&input)?))
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Secret>, Problem> {
        let which = &authorized.command().0;
        let project = known(call.ground, &which.namespace, &which.project).await?;
        let found = which.found(call.ground, &project).await?;
        let etag = found.etag();
        Ok(Reply::tagged(found, etag))
    }
}

/// A new value for a secret. It is sealed, and nothing gives it out again.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "SecretValue")]
pub(super) struct Body {
    /// The value.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    value: Option<Value>,
    /// The same as base64, where it is no text.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    base64: Option<Value>,
}

/// Writes a secret.
pub(super) struct Put {
    which: Which,
    expected: Option<i64>,
    value: Plaintext,
}

impl Command for Put {
    fn attributes(&self) -> Vec<Attributes> {
        self.which.on_project("rotate")
    }
}

impl Operation for Put {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &SECRET, &SERVICE, &IF_MATCH],
        access: &[("projects", "rotate"), ("projects", "get")],
        about: "What is there already with the same value is left as it is.",
        example: Some(|| json!({"value": "the value"})),
        ..Spec::new(
            Method::Put,
            "/namespaces/{namespace}/projects/{project}/secrets/{secret}",
            "putSecret",
            "Store a secret, sealed, as the next version of the one that has the name.",
        )
    };

    type Content = Json<Body>;
    type Answer = Secret;

    async fn read(input: Input, Json(body): Json<Body>, _: &Ground) -> Result<Self, Problem> {
        let value = value::given(body.value, body.base64)?;
        Ok(Self { which: Which::read(&input)?, expected: expected(&input)?, value })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Secret>, Problem> {
        let Self { which, expected, value } = authorized.command();
        let project = known(call.ground, &which.namespace, &which.project).await?;
        let deposit = SecretDeposit { id: which.id.clone(), value, origin: "API".into(), actor: actor(&authorized) };
        call.safe(&authorized)?.secrets_put_over(&owner(&project), &[deposit], *expected).await?;
        let found = which.found(call.ground, &project).await?;
        let etag = found.etag();
        Ok(Reply::tagged(found, etag))
    }
}

/// Deletes a secret.
pub(super) struct Delete {
    which: Which,
    expected: Option<i64>,
}

impl Command for Delete {
    fn attributes(&self) -> Vec<Attributes> {
        self.which.on_project("rotate")
    }
}

impl Operation for Delete {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &SECRET, &SERVICE, &IF_MATCH],
        access: &[("projects", "rotate"), ("projects", "get")],
        status: StatusCode::NO_CONTENT,
        ..Spec::new(
            Method::Delete,
            "/namespaces/{namespace}/projects/{project}/secrets/{secret}",
            "deleteSecret",
            "Delete a secret: the values of all its versions are gone at once.",
        )
    };

    type Content = ();
    type Answer = ();

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { which: Which::read(&input)?, expected: expected(&input)? })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<()>, Problem> {
        let Self { which, expected } = authorized.command();
        let project = known(call.ground, &which.namespace, &which.project).await?;
        let found = which.found(call.ground, &project).await?;
        if expected.is_some_and(|expected| expected != found.version) {
            return Err(Problem::changed());
        }
        let (who, now) = (actor(&authorized), call.ground.clock.now());
        if call.store(&authorized).secret_delete(project.id, &which.id, &who, now).await? {
            Ok(Reply::of(()))
        } else {
            Err(Problem::denied())
        }
    }
}
