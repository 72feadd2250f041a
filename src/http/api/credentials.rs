//! `/namespaces/{namespace}/projects/{project}/credentials`: what is known about credentials, and new values for them. No
//! operation reads a value.

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
    problem::{FieldError, Problem},
    projects::{NAMESPACE, PROJECT, known, on_project, owner},
    value::{self, Value},
};
use crate::{
    cluster::access::Attributes,
    domain::credential::{self, CredentialKind},
    safe::{
        Deposit, Plaintext,
        login::{self, Login},
    },
    store,
};

/// A credential in the path.
static CREDENTIAL: Parameter = Parameter::path("credential", Kind::Name, "The credential's name.");

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its name among the project's.
    pub name: String,
    /// What it is for: `registry`, `webhook`, `git`, `cluster` or `generic`.
    pub kind: String,
    /// The registries that it is for.
    pub hosts: Vec<String>,
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
    /// When it stops to be accepted, as far as anybody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl From<store::Credential> for Credential {
    fn from(credential: store::Credential) -> Self {
        // Without `..`: whoever adds a field decides whether it may be shown.
        let store::Credential {
            id: _,
            name,
            kind,
            version,
            hosts,
            origin,
            expires_at,
            created_by,
            updated_by,
            created_at,
            updated_at,
            last_used_at,
        } = credential;
        let kind = kind.to_string();
        Self {
            name,
            kind,
            hosts,
            version,
            origin,
            created_by,
            created_at,
            updated_by,
            updated_at,
            expires_at,
            last_used_at,
        }
    }
}

impl Credential {
    /// Which version of it this is, as `ETag` and `If-Match` say it.
    fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

/// One credential of a project.
///
/// # Errors
/// There is none.
async fn found(ground: &Ground, project: &store::Project, name: &str) -> Result<Credential, Problem> {
    let all = ground.store.credentials_list(project.id).await?;
    let found = all.into_iter().find(|one| one.name == name);
    found.map(Credential::from).ok_or_else(Problem::denied)
}

/// The credentials of a project.
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
            "/namespaces/{namespace}/projects/{project}/credentials",
            "listCredentials",
            "The credentials of a project, without their values.",
        )
    };

    type Content = ();
    type Answer = Page<Credential>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { namespace: input.text("namespace"), project: input.text("project") })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Credential>>, Problem> {
        let Self { namespace, project } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let all = call.ground.store.credentials_list(project.id).await?;
        Ok(Reply::of(Page::whole(all.into_iter().map(Credential::from).collect())))
    }
}

/// A credential.
pub(super) struct Get {
    namespace: String,
    project: String,
    name: String,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &CREDENTIAL],
        access: &[("projects", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/credentials/{credential}",
            "getCredential",
            "A credential, without its value.",
        )
    };

    type Content = ();
    type Answer = Credential;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let (namespace, project, name) = (input.text("namespace"), input.text("project"), input.text("credential"));
        Ok(Self { namespace, project, name })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Credential>, Problem> {
        let Self { namespace, project, name } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let found = found(call.ground, &project, name).await?;
        let etag = found.etag();
        Ok(Reply::tagged(found, etag))
    }
}

/// A new value for a credential. It is sealed, and nothing gives it out again.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "CredentialValue")]
pub(super) struct Body {
    /// What it is for: `registry` (left out), `webhook`, `git`, `cluster` or `generic`.
    #[serde(default)]
    #[schemars(extend("enum" = ["registry", "webhook", "git", "cluster", "generic"]))]
    kind: Option<String>,
    /// The value: a password or token, a docker configuration where `host` is left out, or the text of another kind.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    value: Option<Value>,
    /// The same as base64, where it is no text.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    base64: Option<Value>,
    /// For a registry: HOST[:PORT] that the value is the password or token for.
    #[serde(default)]
    host: Option<String>,
    /// For a registry: the user whose password or token it is. Left out, the user that this registry expects beside a token.
    #[serde(default)]
    user: Option<String>,
    /// When it stops to be accepted.
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

impl Body {
    /// The kind, the value as it is sealed, and the registries that it is for.
    fn read(self) -> Result<(CredentialKind, Plaintext, Vec<String>, Option<Timestamp>), Problem> {
        let Self { kind, value, base64, host, user, expires_at } = self;
        let kind = kind.as_deref().map_or(Ok(CredentialKind::Registry), str::parse);
        let kind = kind.map_err(|_| Problem::field("kind", "expected registry, webhook, git, cluster or generic"))?;
        if kind != CredentialKind::Registry {
            let given = [("host", host.is_some()), ("user", user.is_some())].into_iter().filter(|(_, given)| *given);
            let errors: Vec<FieldError> =
                given.map(|(field, _)| FieldError::new(field, "this is for registries")).collect();
            if !errors.is_empty() {
                return Err(Problem::invalid(errors));
            }
            return Ok((kind, value::given(value, base64)?, Vec::new(), expires_at));
        }
        let logins = match (host, user) {
            (Some(host), user) => {
                let host = login::host(&host).map_err(|_| Problem::field("host", "expected HOST[:PORT]"))?;
                let user = match user {
                    Some(user) if user.is_empty() || user.contains(':') => {
                        return Err(Problem::field("user", "expected a name without a colon"));
                    }
                    Some(user) => user,
                    None => login::token_user(&host)
                        .map_err(|_| Problem::field("user", "its tokens belong to users: expected the token's"))?
                        .to_owned(),
                };
                let secret = match (value, base64) {
                    (Some(value), None) if !value.text().is_empty() => value.text().clone(),
                    _ => return Err(Problem::field("value", "expected a password or token as text")),
                };
                vec![Login { host, user, secret }]
            }
            (None, Some(_)) => return Err(Problem::field("host", "expected beside `user`")),
            (None, None) => login::from_docker_config(&value::given(value, base64)?).map_err(|_| {
                Problem::field(
                    "value",
                    "expected a docker configuration with logins, or `host` beside a password or token",
                )
            })?,
        };
        let hosts = logins.iter().map(|login| login.host.clone()).collect();
        Ok((kind, login::to_value(&logins), hosts, expires_at))
    }
}

/// Writes a credential.
pub(super) struct Put {
    namespace: String,
    project: String,
    name: String,
    expected: Option<i64>,
    body: (CredentialKind, Plaintext, Vec<String>, Option<Timestamp>),
}

impl Command for Put {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "rotate")
    }
}

impl Operation for Put {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &CREDENTIAL, &IF_MATCH],
        access: &[("projects", "rotate"), ("projects", "get")],
        about: "What is there already with the same value is left as it is.",
        example: Some(|| json!({"host": "ghcr.io", "user": "robot", "value": "the password"})),
        ..Spec::new(
            Method::Put,
            "/namespaces/{namespace}/projects/{project}/credentials/{credential}",
            "putCredential",
            "Store a credential, sealed, in place of the one that has the name.",
        )
    };

    type Content = Json<Body>;
    type Answer = Credential;

    async fn read(input: Input, Json(body): Json<Body>, _: &Ground) -> Result<Self, Problem> {
        let name = credential::name(&input.text("credential"));
        Ok(Self {
            namespace: input.text("namespace"),
            project: input.text("project"),
            name: name.map_err(|what| Problem::field("path.credential", what))?,
            expected: expected(&input)?,
            body: body.read()?,
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Credential>, Problem> {
        let Self { namespace, project, name, expected, body: (kind, value, hosts, expires_at) } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let deposit = Deposit {
            name,
            kind: *kind,
            value,
            hosts: hosts.clone(),
            origin: "API".into(),
            expires_at: *expires_at,
            actor: actor(&authorized),
        };
        call.safe(&authorized)?.put_over(&owner(&project), &deposit, *expected).await?;
        let found = found(call.ground, &project, name).await?;
        let etag = found.etag();
        Ok(Reply::tagged(found, etag))
    }
}

/// Deletes a credential.
pub(super) struct Delete {
    namespace: String,
    project: String,
    name: String,
    expected: Option<i64>,
}

impl Command for Delete {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "rotate")
    }
}

impl Operation for Delete {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &CREDENTIAL, &IF_MATCH],
        access: &[("projects", "rotate"), ("projects", "get")],
        status: StatusCode::NO_CONTENT,
        ..Spec::new(
            Method::Delete,
            "/namespaces/{namespace}/projects/{project}/credentials/{credential}",
            "deleteCredential",
            "Delete a credential: its value is gone at once.",
        )
    };

    type Content = ();
    type Answer = ();

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let (namespace, project, name) = (input.text("namespace"), input.text("project"), input.text("credential"));
        Ok(Self { namespace, project, name, expected: expected(&input)? })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<()>, Problem> {
        let Self { namespace, project, name, expected } = authorized.command();
        let project = known(call.ground, namespace, project).await?;
        let found = found(call.ground, &project, name).await?;
        if expected.is_some_and(|expected| expected != found.version) {
            return Err(Problem::changed());
        }
        let (who, now) = (actor(&authorized), call.ground.clock.now());
        if call.store(&authorized).credential_delete(project.id, name, &who, now).await? {
            Ok(Reply::of(()))
        } else {
            Err(Problem::denied())
        }
    }
}
