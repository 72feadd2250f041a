//! A proxy in front of the API server for one operator: it sees each call, holds or loses the ones that a test wants,
//! stalls watches, and loses single events of them. The operator speaks plain HTTP to it; the proxy adds the encryption.
//!
//! ```text
//! let api = ApiProxy::start(&kubeconfig()).await;
//! let operator = Operator::start_with(&env, &[("KUBECONFIG", &api.kubeconfig)]).await;
//! ```

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Method, StatusCode, header};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::trap::{Traffic, Trap, Verdict, When};

/// One call of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `PATCH`, …
    pub method: Method,
    /// Plural of the kind, with the subresource if there is one: `stages/status`. Empty outside of resource paths.
    pub resource: String,
    /// Its namespace, empty if it has none or all are meant.
    pub namespace: String,
    /// Name of the object, empty for collections.
    pub name: String,
    /// Whether it watches.
    pub watch: bool,
    /// What was answered; `None` until it was.
    pub code: Option<StatusCode>,
}

impl Call {
    /// Whether it changes what the operator is there for: neither the Lease nor Events, which nobody waits for.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET && self.resource != "leases" && self.resource != "events"
    }
}

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Plural of the kind.
    pub resource: String,
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub sort: String,
    /// Name of the object, empty if there is none.
    pub name: String,
    /// What an `ERROR` says: 410 for a version that is too old.
    pub code: Option<u64>,
}

/// What is lost of watches, and what passed and did not.
#[derive(Default)]
struct Events {
    loses: Option<Box<dyn FnMut(&Event) -> bool + Send>>,
    lost: Vec<Event>,
    expired: usize,
}

/// The proxy. Ends with this value.
pub struct ApiProxy {
    /// The kubeconfig file that leads to it.
    pub kubeconfig: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: watch::Sender<String>,
    events: Mutex<Events>,
    client: reqwest::Client,
    traffic: Arc<Traffic<Call>>,
    /// The resource whose watches bring nothing.
    stalled: watch::Sender<Option<&'static str>>,
}

impl ApiProxy {
    /// Starts one in front of the cluster of a kubeconfig file.
    pub async fn start(kubeconfig: &str) -> Self {
        let mut file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(file.clone(), &KubeConfigOptions::default()).await;
        let config = config.expect("a cluster");
        let authorities = config.root_cert.expect("an authority");
        let authorities = authorities.iter().map(|der| reqwest::Certificate::from_der(der).expect("a certificate"));
        let client = reqwest::Client::builder().tls_certs_only(authorities).no_proxy().build();
        let shared = Arc::new(Shared {
            upstream: watch::Sender::new(config.cluster_url.to_string().trim_end_matches('/').to_owned()),
            events: Mutex::default(),
            client: client.expect("an HTTP client"),
            traffic: Traffic::new(),
            stalled: watch::Sender::new(None),
        });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        for cluster in file.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(format!("http://{address}"));
            cluster.certificate_authority_data = None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proxies");
        fs::create_dir_all(&folder).expect("a folder for kubeconfigs");
        let path = folder.join(format!("{}.kubeconfig", address.port()));
        fs::write(&path, serde_yaml::to_string(&file).expect("YAML")).expect("the kubeconfig is written");

        let router = axum::Router::new().fallback(forward).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("the proxy serves") });
        Self { kubeconfig: path.display().to_string(), shared, server }
    }

    /// Catches calls, see [`super::trap`].
    pub fn trap(&self, when: When, matches: impl Fn(&Call) -> bool + Send + 'static) -> Trap<Call> {
        self.shared.traffic.trap(when, matches)
    }

    /// What passes, for traps of every sort.
    pub fn traffic(&self) -> &Traffic<Call> {
        &self.shared.traffic
    }

    /// Every call that was passed on to the API server so far, in the order of the answers.
    pub fn log(&self) -> Vec<Call> {
        self.shared.traffic.log()
    }

    /// The writes among them.
    pub fn writes(&self) -> Vec<Call> {
        self.log().into_iter().filter(Call::is_write).collect()
    }

    /// Watches of this resource bring nothing any more, as if their connections hung; with `None` what was held back
    /// comes at once.
    pub fn stall_watches(&self, resource: Option<&'static str>) {
        self.shared.stalled.send_replace(resource);
    }

    /// Events that `which` is true of never arrive from now on. All others do.
    pub fn lose(&self, which: impl FnMut(&Event) -> bool + Send + 'static) {
        locked(&self.shared.events).loses = Some(Box::new(which));
    }

    /// Every event arrives again. Gives those that were lost.
    pub fn lose_nothing(&self) -> Vec<Event> {
        let mut events = locked(&self.shared.events);
        events.loses = None;
        std::mem::take(&mut events.lost)
    }

    /// How often a watch, or a call, was told that its version is too old.
    pub fn expired(&self) -> usize {
        let refused = self.log().iter().filter(|call| call.code == Some(StatusCode::GONE)).count();
        locked(&self.shared.events).expired + refused
    }

    /// Calls go to this API server from now on, such as `https://127.0.0.1:6444`. It has the same authority.
    pub fn lead_to(&self, server: &str) {
        self.shared.upstream.send_replace(server.to_owned());
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.server.abort();
        // Left behind it would do no harm.
        let _ = fs::remove_file(&self.kubeconfig);
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut call = read(&request);
    if shared.traffic.pass(When::Asked, &call).await == Verdict::Lose {
        return broken();
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let upstream = shared.upstream.borrow().clone();
    let asked = shared.client.request(parts.method, format!("{upstream}{path}"));
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("what the operator sends");
    let Ok(answer) = asked.headers(end_to_end(parts.headers)).body(body).send().await else {
        return broken();
    };
    call.code = Some(answer.status());
    shared.traffic.note(call.clone());
    let mut reply = Response::builder().status(answer.status());
    *reply.headers_mut().expect("a response") = end_to_end(answer.headers().clone());
    let chunks = if call.watch {
        Body::from_stream(passed_on(shared.clone(), call.resource.clone(), answer))
    } else {
        // The whole answer is here before it counts as answered.
        let Ok(whole) = answer.bytes().await else { return broken() };
        if shared.traffic.pass(When::Answered, &call).await == Verdict::Lose {
            return broken();
        }
        Body::from(whole)
    };
    reply.body(chunks).expect("a response")
}

/// What a watch brings, event by event: held back while the watch is stalled, without those that are lost.
fn passed_on(
    shared: Arc<Shared>,
    resource: String,
    answer: reqwest::Response,
) -> impl Stream<Item = reqwest::Result<Vec<u8>>> + Send {
    let stalled = shared.stalled.subscribe();
    let begun = (answer.bytes_stream().boxed(), Vec::new(), stalled, shared, resource);
    stream::unfold(begun, |(mut chunks, mut rest, mut stalled, shared, resource)| async move {
        loop {
            let chunk = match chunks.next().await? {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), (chunks, rest, stalled, shared, resource))),
            };
            // The sender goes with the proxy.
            let _ = stalled.wait_for(|stalled| *stalled != Some(resource.as_str())).await;
            rest.extend_from_slice(&chunk);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let mut whole: Vec<u8> = rest.drain(..=end).collect();
            whole = whole
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| shared.passes(&resource, line))
                .collect::<Vec<_>>()
                .concat();
            if !whole.is_empty() {
                return Some((Ok(whole), (chunks, rest, stalled, shared, resource)));
            }
        }
    })
}

impl Shared {
    /// Whether an event of a watch arrives.
    fn passes(&self, resource: &str, line: &[u8]) -> bool {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return true };
        let object = &event["object"];
        let event = Event {
            resource: resource.to_owned(),
            sort: event["type"].as_str().unwrap_or_default().to_owned(),
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            code: object["code"].as_u64(),
        };
        let mut events = locked(&self.events);
        events.expired += usize::from(event.sort == "ERROR" && event.code == Some(410));
        let lost = events.loses.as_mut().is_some_and(|which| which(&event));
        if lost {
            events.lost.push(event);
        }
        !lost
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that fails before its first byte: the server closes the connection without having sent anything.
pub fn broken() -> Response {
    let failure = io::Error::new(io::ErrorKind::ConnectionReset, "lost by the test");
    Response::new(Body::from_stream(stream::once(async { Err::<Vec<u8>, _>(failure) })))
}

/// Headers that are about the exchange, not about one connection.
pub fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

/// Reads what is asked for off `/api/v1/…` or `/apis/GROUP/VERSION/…`.
fn read(request: &Request) -> Call {
    let mut parts = request.uri().path().split('/').filter(|part| !part.is_empty());
    let skip = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => usize::MAX,
    };
    let mut parts: Vec<&str> = parts.skip(skip).collect();
    let mut namespace = String::new();
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts[1].clone_into(&mut namespace);
        parts.drain(..2);
    }
    let plural = parts.first().copied().unwrap_or_default();
    Call {
        method: request.method().clone(),
        resource: parts.get(2).map_or_else(|| plural.to_owned(), |sub| format!("{plural}/{sub}")),
        namespace,
        name: parts.get(1).copied().unwrap_or_default().to_owned(),
        watch: request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true")),
        code: None,
    }
}
