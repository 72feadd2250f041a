//! One call to the API server: its deadline, and what is told about it afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response, header::CONTENT_TYPE};
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use super::Deadlines;

/// One finished call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The API verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// Plural name of the kind, with the subresource if there is one: `pods`, `stages/status`. Anything outside the
    /// resource paths is `other`.
    pub resource: String,
    /// The path that was asked for, without its query.
    pub path: String,
    /// The status code; 0 if no answer came.
    pub code: u16,
    /// From sending the request until the answer began.
    pub elapsed: Duration,
}

impl Call {
    /// Whether the call asked to change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

/// Told of each call when it has ended. Runs on the request path: must be quick.
pub type OnCall = Arc<dyn Fn(&Call) + Send + Sync>;

/// A count of calls by verb, resource and code.
#[derive(Debug, Clone, Default)]
pub struct CallCounts(Arc<Mutex<BTreeMap<(&'static str, String, u16), u64>>>);

impl CallCounts {
    /// The listener that does the counting.
    pub fn listener(&self) -> OnCall {
        let counts = self.clone();
        Arc::new(move |call| counts.add(call))
    }

    /// Counts one call.
    pub fn add(&self, call: &Call) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((call.verb, call.resource.clone(), call.code)).or_default() += 1;
    }

    /// All counts so far.
    pub fn snapshot(&self) -> BTreeMap<(&'static str, String, u16), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls that asked to change something, leases aside: renewals are the price of standing by.
    pub fn writes(&self) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .filter(|((verb, resource, _), _)| !matches!(*verb, "get" | "list" | "watch") && resource != "leases")
            .map(|(_, n)| n)
            .sum()
    }
}

/// No answer began within the deadline. Whether the server acted on the request is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer {
    /// The deadline.
    pub after: Duration,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the API server did not answer within {:?}", self.after)
    }
}

impl std::error::Error for NoAnswer {}

/// Gives each call its deadline and tells the listener about it.
#[derive(Clone)]
pub struct CallLayer {
    deadlines: Deadlines,
    on_call: OnCall,
}

impl CallLayer {
    /// A layer with these deadlines.
    pub fn new(deadlines: Deadlines, on_call: OnCall) -> Self {
        Self { deadlines, on_call }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { inner, layer: self.clone() }
    }
}

/// The service that [`CallLayer`] makes.
pub struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S, B> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = classify(&request);
        let path = request.uri().path().to_owned();
        let deadlines = self.layer.deadlines;
        let after = if verb == "watch" { deadlines.watch_open } else { deadlines.answer };
        let on_call = self.layer.on_call.clone();
        let started = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match tokio::time::timeout(after, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(NoAnswer { after }.into()),
            };
            let code = answer.as_ref().map_or(0, |r| r.status().as_u16());
            on_call(&Call { verb, resource, path, code, elapsed: started.elapsed() });
            answer
        })
    }
}

/// Reads verb and resource off a request. The path is `/api/v1/…` or `/apis/GROUP/VERSION/…`, then optionally
/// `namespaces/NS`, then `PLURAL[/NAME[/SUBRESOURCE]]`.
fn classify<B>(request: &Request<B>) -> (&'static str, String) {
    let mut path = request.uri().path().split('/').filter(|part| !part.is_empty()).peekable();
    let skip = match path.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => usize::MAX,
    };
    let mut rest: Vec<&str> = path.skip(skip).collect();
    if rest.len() > 2 && rest[0] == "namespaces" {
        rest.drain(..2);
    }
    let (resource, named) = match rest.as_slice() {
        [] => ("other".to_owned(), true),
        [plural] => ((*plural).to_owned(), false),
        [plural, _] => ((*plural).to_owned(), true),
        [plural, _, subresource, ..] => (format!("{plural}/{subresource}"), true),
    };
    let watching = || {
        let query = request.uri().query().unwrap_or_default();
        query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
    };
    let applying =
        || request.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/apply-patch"));
    let verb = match *request.method() {
        Method::GET if watching() => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if applying() => "apply",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_verb_and_resource() {
        struct Case {
            name: &'static str,
            method: &'static str,
            uri: &'static str,
            content_type: &'static str,
            want: (&'static str, &'static str),
        }
        let case = |name, method, uri, content_type, want| Case { name, method, uri, content_type, want };
        let json = "application/json";
        let apply = "application/apply-patch+yaml";
        let cases = [
            case("list all", "GET", "/api/v1/pods?limit=5", json, ("list", "pods")),
            case("list in one", "GET", "/api/v1/namespaces/shop/pods", json, ("list", "pods")),
            case("get", "GET", "/apis/apps/v1/namespaces/shop/deployments/web", json, ("get", "deployments")),
            case("watch", "GET", "/api/v1/pods?&watch=true&timeoutSeconds=25", json, ("watch", "pods")),
            case("logs", "GET", "/api/v1/namespaces/shop/pods/web/log?tailLines=5", json, ("get", "pods/log")),
            case("a namespace", "GET", "/api/v1/namespaces/shop", json, ("get", "namespaces")),
            case("create", "POST", "/api/v1/namespaces/shop/services", json, ("create", "services")),
            case("apply", "PATCH", "/api/v1/namespaces/shop/services/web?force=true", apply, ("apply", "services")),
            case(
                "status",
                "PATCH",
                "/apis/stagekeeper.dev/v1alpha1/namespaces/shop/stages/dev/status",
                apply,
                ("apply", "stages/status"),
            ),
            case(
                "merge patch",
                "PATCH",
                "/apis/stagekeeper.dev/v1alpha1/namespaces/shop/stages/dev",
                "application/merge-patch+json",
                ("patch", "stages"),
            ),
            case(
                "lease",
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/shop/leases/stagekeeper",
                json,
                ("update", "leases"),
            ),
            case("delete", "DELETE", "/api/v1/namespaces/shop/services/web", json, ("delete", "services")),
            case("version", "GET", "/version", json, ("get", "other")),
        ];
        for Case { name, method, uri, content_type, want } in cases {
            let request =
                Request::builder().method(method).uri(uri).header(CONTENT_TYPE, content_type).body(()).unwrap();
            let (verb, resource) = classify(&request);
            assert_eq!((verb, resource.as_str()), want, "{name}");
        }
    }

    #[test]
    fn writes_are_counted_without_leases() {
        let counts = CallCounts::default();
        let call = |verb, resource: &str, code| Call {
            verb,
            resource: resource.to_owned(),
            path: String::new(),
            code,
            elapsed: Duration::ZERO,
        };
        for call in [
            call("apply", "deployments", 200),
            call("apply", "deployments", 200),
            call("watch", "deployments", 200),
            call("update", "leases", 200),
            call("delete", "services", 0),
        ] {
            counts.add(&call);
        }
        assert_eq!(counts.writes(), 3);
        assert_eq!(counts.snapshot()[&("apply", "deployments".to_owned(), 200)], 2);
    }
}
