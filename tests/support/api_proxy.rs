//! A proxy in front of the API server for one operator: it sees each call, holds or loses the ones that a test wants, and
//! stalls watches. The operator speaks plain HTTP to it; the proxy adds the encryption.
//!
//! ```text
//! let api = ApiProxy::start(&kubeconfig()).await;
//! let operator = Operator::start_with(&env, &[("KUBECONFIG", &api.kubeconfig)]).await;
//! ```

use std::{fs, io, path::Path, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Method, StatusCode, header};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::trap::{Traffic, Trap, Verdict, When};

/// One call of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `PATCH`, …
    pub method: Method,
    /// Plural of the kind, with the subresource if there is one: `stages/status`. Empty outside of resource paths.
    pub resource: String,
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

/// The proxy. Ends with this value.
pub struct ApiProxy {
    /// The kubeconfig file that leads to it.
    pub kubeconfig: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: String,
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
            upstream: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
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
    let asked = shared.client.request(parts.method, format!("{}{path}", shared.upstream));
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("what the operator sends");
    let Ok(answer) = asked.headers(end_to_end(parts.headers)).body(body).send().await else {
        return broken();
    };
    call.code = Some(answer.status());
    shared.traffic.note(call.clone());
    let mut reply = Response::builder().status(answer.status());
    *reply.headers_mut().expect("a response") = end_to_end(answer.headers().clone());
    let chunks = if call.watch {
        let stalled = shared.stalled.subscribe();
        let resource = call.resource.clone();
        Body::from_stream(answer.bytes_stream().then(move |chunk| {
            let (mut stalled, resource) = (stalled.clone(), resource.clone());
            async move {
                // The sender goes with the proxy.
                let _ = stalled.wait_for(|stalled| *stalled != Some(resource.as_str())).await;
                chunk
            }
        }))
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
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    let plural = parts.first().copied().unwrap_or_default();
    Call {
        method: request.method().clone(),
        resource: parts.get(2).map_or_else(|| plural.to_owned(), |sub| format!("{plural}/{sub}")),
        name: parts.get(1).copied().unwrap_or_default().to_owned(),
        watch: request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true")),
        code: None,
    }
}
