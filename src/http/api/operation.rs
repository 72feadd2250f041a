//! What an operation of the API is: a type that says its place in the table, reads itself from a request, names the rights that
//! it takes, and runs only when they were given.

use std::time::Duration;

use axum::{body::Body, http::StatusCode, routing::MethodFilter};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Ground,
    guard::{Authorized, Command},
    input::{self, Input, Kind, Parameter},
    problem::Problem,
};
use crate::{
    domain::{actor::Actor, request::Via},
    safe::Safe,
    store::Store,
};

/// How long an operation may take that does not say otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// The methods of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Asks for something to be done.
    Post,
    /// Makes something, or writes it anew.
    Put,
    /// Takes something away.
    Delete,
}

impl Method {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    /// As HTTP has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// As the router has it.
    pub(super) const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// What the table says of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The method.
    pub method: Method,
    /// The path below `/api/v1`, as the router and the document have it.
    pub path: &'static str,
    /// Its name: `listStages`.
    pub id: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The rest that its callers have to know.
    pub about: &'static str,
    /// What may be given besides the body.
    pub parameters: &'static [&'static Parameter],
    /// The rights that it takes: resource and verb. It asks for no others.
    pub access: &'static [(&'static str, &'static str)],
    /// The status of a good answer; with 204 there is no body.
    pub status: StatusCode,
    /// Whether it can answer as a stream of events.
    pub streams: bool,
    /// A body that it takes.
    pub example: Option<fn() -> Value>,
    /// How long it may take to begin its answer.
    pub patience: Duration,
    /// Whether it sees to its idempotency key itself.
    pub keeps_its_key: bool,
}

impl Spec {
    /// Something to read.
    pub const fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Get, path, id, summary)
    }

    /// Something to do.
    pub const fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            about: "",
            parameters: &[],
            access: &[],
            status: StatusCode::OK,
            streams: false,
            example: None,
            patience: PATIENCE,
            keeps_its_key: false,
        }
    }
}

/// An operation.
pub trait Operation: Command + Sized + Send + Sync + 'static {
    /// Its line of the table.
    const SPEC: Spec;

    /// Its body.
    type Content: Content;

    /// What it answers.
    type Answer: Serialize + JsonSchema + Send;

    /// Reads it. What is looked up here is told to nobody yet: [`Command::attributes`] may need it.
    fn read(
        input: Input,
        content: Self::Content,
        ground: &Ground,
    ) -> impl Future<Output = Result<Self, Problem>> + Send;

    /// Runs it.
    fn run(
        authorized: Authorized<Self>,
        call: &Call<'_>,
    ) -> impl Future<Output = Result<Reply<Self::Answer>, Problem>> + Send;
}

/// What an operation runs with.
pub struct Call<'a> {
    /// What the API stands on.
    pub ground: &'a std::sync::Arc<Ground>,
    /// The request, as the audit log calls it.
    pub request_id: &'a str,
}

impl Call<'_> {
    /// The store that notes in the audit log how what it writes was asked for.
    pub(super) fn store<C>(&self, authorized: &Authorized<C>) -> Store {
        let source = authorized.caller().address().map(|address| address.to_string());
        let noted = json!({"via": Via::Api.word(), "verified": true, "source": source, "requestId": self.request_id});
        self.ground.store.noting(noted)
    }

    /// The safe over that store.
    ///
    /// # Errors
    /// There are no keys to it.
    pub(super) fn safe<C>(&self, authorized: &Authorized<C>) -> Result<Safe, Problem> {
        let safe = self.ground.safe.as_ref().map(|safe| safe.over(self.store(authorized)));
        safe.ok_or_else(|| Problem::unavailable("this operator has no encryption keys to seal values with"))
    }
}

/// Who a caller is to the store.
pub(super) fn actor<C>(authorized: &Authorized<C>) -> Actor {
    Actor::User(authorized.caller().person().user.clone())
}

/// The version that `If-Match` names, if it is there.
///
/// # Errors
/// It is not what an `ETag` was.
pub(super) fn expected(input: &Input) -> Result<Option<i64>, Problem> {
    let Some(text) = input.get(IF_MATCH.name) else { return Ok(None) };
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    version.map(Some).ok_or_else(|| Problem::field("header.if-match", "expected the `ETag` of an answer"))
}

/// Only if it is still what the caller has seen.
pub(super) static IF_MATCH: Parameter = Parameter::header(
    "if-match",
    Kind::Text,
    "The `ETag` of what the caller has seen: it is changed only if it is still that.",
);

/// The body of a request.
pub trait Content: Sized + Send {
    /// What it looks like; `None` where there is none.
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;

    /// Reads it.
    ///
    /// # Errors
    /// The field that is wrong.
    fn parse(bytes: &[u8]) -> Result<Self, Problem>;
}

impl Content for () {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.is_empty() { Ok(()) } else { Err(Problem::field("body", "expected none")) }
    }
}

/// A body of JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Send> Content for Json<T> {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        input::body(bytes).map(Self)
    }
}

/// A good answer.
pub enum Reply<T> {
    /// An object.
    Object {
        /// It.
        body: T,
        /// Another status than the table's.
        status: Option<StatusCode>,
        /// Which version of it this is.
        etag: Option<String>,
    },
    /// Events, as long as they last.
    Stream(Body),
}

impl<T> Reply<T> {
    /// An object.
    pub fn of(body: T) -> Self {
        Self::Object { body, status: None, etag: None }
    }

    /// An object of which this is a version.
    pub fn tagged(body: T, etag: String) -> Self {
        Self::Object { body, status: None, etag: Some(etag) }
    }
}
