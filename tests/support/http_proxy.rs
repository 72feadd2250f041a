//! A proxy in front of a plain HTTP server that an operator asks or tells: it sees each call, and holds or loses the ones
//! that a test wants. Several of them may share what they have seen.
//!
//! ```text
//! let traffic = Traffic::new();
//! let registry = HttpProxy::start("registry", &format!("http://{}", images::registry()), traffic.clone()).await;
//! let trap = traffic.trap(When::Asked, |call: &Exchange| call.server == "registry");
//! ```

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    api_proxy::{broken, end_to_end},
    trap::{Traffic, Verdict, When},
};

/// One call of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The server's name in the test.
    pub server: &'static str,
    /// `GET`, `POST`, …
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// What was answered; `None` until it was.
    pub code: Option<StatusCode>,
}

/// The proxy. Ends with this value.
pub struct HttpProxy {
    /// Where it is, such as `127.0.0.1:5000`.
    pub address: String,
    server: JoinHandle<()>,
}

struct Shared {
    name: &'static str,
    upstream: String,
    client: reqwest::Client,
    traffic: Arc<Traffic<Exchange>>,
}

impl HttpProxy {
    /// Starts one in front of the server at a URL without a path.
    pub async fn start(name: &'static str, upstream: &str, traffic: Arc<Traffic<Exchange>>) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
        let shared = Shared { name, upstream: upstream.to_owned(), client: client.expect("an HTTP client"), traffic };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let router = axum::Router::new().fallback(forward).with_state(Arc::new(shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("the proxy serves") });
        Self { address, server }
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut call = Exchange {
        server: shared.name,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        code: None,
    };
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
    let mut reply = Response::builder().status(answer.status());
    *reply.headers_mut().expect("a response") = end_to_end(answer.headers().clone());
    // The whole answer is here before it counts as answered.
    let Ok(whole) = answer.bytes().await else { return broken() };
    shared.traffic.note(call.clone());
    if shared.traffic.pass(When::Answered, &call).await == Verdict::Lose {
        return broken();
    }
    reply.body(Body::from(whole)).expect("a response")
}
