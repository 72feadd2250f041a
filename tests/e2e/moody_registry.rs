//! A registry in moods: kind, it passes on what the cluster's own registry says; otherwise it does one of the things that
//! registries, proxies before them and thieves do.

use std::{
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::Env,
    images,
    private_registry::{near_the_node, tell_the_node},
};

/// What it does when it is asked for tags, or else for manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// What it should.
    Kind,
    /// 429, come back in a second.
    Busy,
    /// 503.
    Broken,
    /// A page for people, with 200.
    Page,
    /// A list that breaks off.
    Torn,
    /// Most tags are gone.
    Shrunk,
    /// Every tag is gone.
    Emptied,
    /// `tags` is null.
    Null,
    /// After each page of the list there is another one.
    Endless,
    /// The list goes on elsewhere.
    Astray,
    /// A list that comes byte by byte.
    Slow,
    /// The list is right, and the manifest of the newest tag never ends.
    Huge,
    /// The password is to be sent to somebody else.
    Thief,
}

/// Ended with this value.
pub struct MoodyRegistry {
    /// Where it is, as references name it.
    pub host: String,
    desk: Arc<Desk>,
    told: PathBuf,
    _serving: AbortOnDropHandle<()>,
}

struct Desk {
    mood: Mutex<Mood>,
    asked: AtomicU64,
    /// Slow answers that nobody has given up yet.
    open: Arc<AtomicU64>,
    http: reqwest::Client,
    /// Where thieves and strays are sent to.
    elsewhere: String,
}

impl MoodyRegistry {
    /// Starts a kind one that the operator and the node reach. Whoever it leads astray is led to `elsewhere`.
    pub async fn start(env: &Env, elsewhere: &str) -> Self {
        let listener = TcpListener::bind((near_the_node(env).await, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let told = tell_the_node(&host);
        let desk = Arc::new(Desk {
            mood: Mutex::new(Mood::Kind),
            asked: AtomicU64::new(0),
            open: Arc::default(),
            http: env.http.clone(),
            elsewhere: elsewhere.to_owned(),
        });
        let router = Router::new().fallback(answer).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { host, desk, told, _serving: AbortOnDropHandle::new(serving) }
    }

    /// From now on it is in this mood, and counts anew.
    pub fn turn(&self, mood: Mood) {
        *self.desk.mood.lock().unwrap() = mood;
        self.desk.asked.store(0, Ordering::Relaxed);
    }

    /// How often it was asked since its mood turned.
    pub fn asked(&self) -> u64 {
        self.desk.asked.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for an answer that it sends byte by byte.
    pub fn keeps_waiting(&self) -> bool {
        self.desk.open.load(Ordering::Relaxed) > 0
    }
}

impl Drop for MoodyRegistry {
    fn drop(&mut self) {
        // It may be gone with the cluster.
        let _ = fs::remove_dir_all(&self.told);
    }
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let mood = *desk.mood.lock().unwrap();
    let path = request.uri().path().to_owned();
    let ours = agent(request.headers()).starts_with("stagekeeper/");
    if !ours || mood == Mood::Kind {
        if ours {
            desk.asked.fetch_add(1, Ordering::Relaxed);
        }
        return passed_on(&desk, request).await;
    }
    desk.asked.fetch_add(1, Ordering::Relaxed);
    let json = |body: String| ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    let tags = path.ends_with("/tags/list");
    match mood {
        Mood::Busy => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        Mood::Broken => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Page => ([(header::CONTENT_TYPE, "text/html")], "<html>please sign in</html>").into_response(),
        Mood::Thief => {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"mine\"", desk.elsewhere);
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        }
        Mood::Torn if tags => json(r#"{"name": "web", "tags": ["1.0.0", "1.1"#.to_owned()),
        Mood::Shrunk if tags => json(r#"{"name": "web", "tags": ["1.0.0"]}"#.to_owned()),
        Mood::Emptied if tags => json(r#"{"name": "web", "tags": []}"#.to_owned()),
        Mood::Null if tags => json(r#"{"name": null, "tags": null}"#.to_owned()),
        Mood::Endless if tags => {
            let page: u64 =
                request.uri().query().and_then(|query| query.strip_prefix("page=")?.parse().ok()).unwrap_or(0);
            let names: Vec<String> = (0..5000).map(|n| format!("\"1.0.{}\"", page * 5000 + n)).collect();
            let next = format!("<{path}?page={}>; rel=\"next\"", page + 1);
            ([(header::LINK, next)], format!(r#"{{"name": "web", "tags": [{}]}}"#, names.join(","))).into_response()
        }
        Mood::Astray if tags => {
            let next = format!("<http://{}{path}?last=1.0.0>; rel=\"next\"", desk.elsewhere);
            ([(header::LINK, next)], r#"{"name": "web", "tags": ["1.0.0", "1.1.0", "1.2.0"]}"#).into_response()
        }
        Mood::Slow if tags => slowly(&desk),
        Mood::Huge if path.contains("/manifests/") => hugely(request.method()),
        _ => passed_on(&desk, request).await,
    }
}

fn agent(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
}

/// Counts an answer for as long as somebody waits for it.
struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A list of which a byte comes every now and then, for ever.
fn slowly(desk: &Desk) -> Response {
    desk.open.fetch_add(1, Ordering::Relaxed);
    let open = Open(desk.open.clone());
    let bytes = stream::unfold((open, 0), |(open, sent)| async move {
        if sent > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let byte: &'static [u8] = if sent == 0 { b"{\"tags\": [" } else { b" " };
        Some((Ok::<_, Infallible>(Bytes::from_static(byte)), (open, sent + 1)))
    });
    Body::from_stream(bytes).into_response()
}

/// A gibibyte, and no digest that would save anybody from reading it.
fn hugely(method: &Method) -> Response {
    const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
    const CHUNK: &[u8] = &[b' '; 1 << 16];
    if method == Method::HEAD {
        return ([(header::CONTENT_TYPE, TYPE)], ()).into_response();
    }
    let chunks = stream::iter((0..(1 << 14)).map(|_| Ok::<_, Infallible>(Bytes::from_static(CHUNK))));
    ([(header::CONTENT_TYPE, TYPE)], Body::from_stream(chunks)).into_response()
}

/// Whatever it has nothing of its own to say about.
async fn passed_on(desk: &Desk, request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut asked = desk.http.request(request.method().clone(), format!("http://{}{path}", images::registry()));
    for name in [header::ACCEPT, header::RANGE] {
        for value in request.headers().get_all(&name) {
            asked = asked.header(&name, value);
        }
    }
    let Ok(answer) = asked.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if ![header::TRANSFER_ENCODING, header::CONNECTION].contains(name) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from_stream(answer.bytes_stream())).unwrap()
}

/// Somebody who waits for passwords. Ended with this value.
pub struct Lurker {
    /// Where it waits.
    pub host: String,
    heard: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Lurker {
    /// Starts one.
    pub async fn start(env: &Env) -> Self {
        let listener = TcpListener::bind((near_the_node(env).await, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(listen).with_state(heard.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { host, heard, _serving: AbortOnDropHandle::new(serving) }
    }

    /// What it was asked, with all headers.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn listen(State(heard): State<Arc<Mutex<Vec<String>>>>, request: Request) -> Response {
    heard.lock().unwrap().push(format!("{} {} {:?}", request.method(), request.uri(), request.headers()));
    r#"{"token": "yours", "tags": ["9.9.9"]}"#.into_response()
}
