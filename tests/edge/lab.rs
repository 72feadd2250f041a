//! An edge on loopback, servers behind it, and callers before it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use stagekeeper::{
    domain::clock::SystemClock,
    edge::{
        Door, Edge, Limits, Reply, Setup, serve,
        table::{EndpointView, EnvironmentView, Objects, Phase, ServiceView, SliceView, Table},
        wake::Records,
    },
    store::StoreError,
    telemetry::Telemetry,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long anything may take that does happen.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The host of the environment that tests have.
pub const PREVIEW: &str = "pr-42-a8f9d2k1p4m7.preview.test";
pub const SUBDOMAIN: &str = "pr-42-a8f9d2k1p4m7";
/// The host of the stage.
pub const STAGE: &str = "shop.test";

/// What ends in time, or fails the test.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    in_time(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Counts what it is told.
#[derive(Default)]
pub struct Told {
    pub wakes: Mutex<Vec<String>>,
    pub touches: Mutex<Vec<String>>,
}

impl Records for Told {
    fn touch<'a>(&'a self, seen: &'a [(String, Timestamp)]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.touches.lock().unwrap().extend(seen.iter().map(|(subdomain, _)| subdomain.clone()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn wake<'a>(&'a self, subdomain: &'a str, _: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        self.wakes.lock().unwrap().push(subdomain.into());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An edge that serves, and what it is told of the cluster.
pub struct Lab {
    pub edge: Arc<Edge>,
    pub address: SocketAddr,
    pub objects: Objects,
    pub told: Arc<Told>,
    pub telemetry: Telemetry,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<std::io::Result<()>>,
}

impl Lab {
    /// With a stage and an environment, neither of which has an address yet.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, made in another way.
    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        Self::behind(change, None).await
    }

    /// The same, over TLS.
    pub async fn behind(change: impl FnOnce(&mut Setup), tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), change, tls)
    }

    /// The same, where its address has to be known before.
    pub fn on(listener: TcpListener, change: impl FnOnce(&mut Setup), tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let (told, telemetry) = (Arc::new(Told::default()), Telemetry::default());
        let mut setup = Setup {
            limits: Limits::default(),
            wake_limit: PATIENCE,
            rate: None,
            access_log: true,
            details: false,
            redirect: false,
            lock: None,
            sign_in: None,
            records: told.clone(),
            clock: Arc::new(SystemClock),
            telemetry: telemetry.clone(),
        };
        change(&mut setup);
        let edge = Edge::new(setup);
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(edge.clone(), vec![Door { listener, tls }], shutdown.clone()));
        let mut objects = Objects::default();
        for (namespace, host) in [("shop", STAGE), ("home-42", PREVIEW)] {
            let service =
                ServiceView { created: 1, hosts: vec![host.into()], port: "http".into(), project: Some("shop".into()) };
            objects.services.insert((namespace.into(), "web".into()), service);
        }
        let environment = EnvironmentView {
            created: 1,
            place: "home-42".into(),
            project: "shop".into(),
            pull_request: Some(42),
            subdomain: SUBDOMAIN.into(),
            hosts: vec![PREVIEW.into()],
            phase: Phase::Ready,
            awake: true,
            ..EnvironmentView::default()
        };
        objects.environments.insert(("shop".into(), "pr-42".into()), environment);
        let lab = Self { edge, address, objects, told, telemetry, shutdown, serving };
        lab.tell();
        lab
    }

    /// What was changed of the objects is known to the edge.
    pub fn tell(&self) {
        self.edge.replace(Table::build(&self.objects, &self.edge.table(), Instant::now()));
    }

    /// The Service of this namespace has these addresses.
    pub fn lead(&mut self, namespace: &str, addresses: &[SocketAddr]) {
        self.objects.slices.retain(|(known, _), _| known != namespace);
        for (at, address) in addresses.iter().enumerate() {
            let slice = SliceView {
                service: "web".into(),
                endpoints: vec![EndpointView { address: address.ip(), ready: true, lingers: false }],
                ports: vec![("http".into(), address.port())],
            };
            self.objects.slices.insert((namespace.into(), format!("web-{at}")), slice);
        }
        self.tell();
    }

    /// The stage's Service has these addresses.
    pub fn lead_stage(&mut self, addresses: &[SocketAddr]) {
        self.lead("shop", addresses);
    }

    /// The environment's Service has these addresses.
    pub fn lead_preview(&mut self, addresses: &[SocketAddr]) {
        self.lead("home-42", addresses);
    }

    /// The environment, to be changed; to be told afterwards.
    pub fn preview(&mut self) -> &mut EnvironmentView {
        self.objects.environments.get_mut(&("shop".into(), "pr-42".into())).unwrap()
    }

    /// It sleeps.
    pub fn sleep(&mut self) {
        (self.preview().phase, self.preview().awake) = (Phase::Asleep, false);
        self.lead_preview(&[]);
    }

    /// It is awake, and has these addresses.
    pub fn awaken(&mut self, addresses: &[SocketAddr]) {
        (self.preview().phase, self.preview().awake) = (Phase::Ready, true);
        self.lead_preview(addresses);
    }

    /// A caller to whom the hosts are at the edge.
    pub fn caller(&self) -> reqwest::Client {
        self.caller_with(|builder| builder)
    }

    /// The same, made in another way.
    pub fn caller_with(
        &self,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> reqwest::Client {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .resolve(STAGE, self.address)
            .resolve(PREVIEW, self.address)
            .resolve("other.test", self.address);
        change(builder).build().unwrap()
    }

    /// The address of a path at a host of the edge.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// Sends bytes as they are, and gives all that comes until the edge closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The edge may close before it has read everything.
        _ = stream.write_all(bytes).await;
        let mut got = Vec::new();
        _ = in_time("the edge closes", stream.read_to_end(&mut got)).await;
        String::from_utf8_lossy(&got).into_owned()
    }

    /// A metric's sample that begins like this.
    pub fn metric(&self, sample: &str) -> u64 {
        let text = self.telemetry.metrics.render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(sample));
        line.unwrap_or_else(|| panic!("no {sample} in {text}")).trim().parse().unwrap()
    }
}

/// A server behind the edge that answers with its name and what it was asked: method, target and headers, a line each.
pub struct Upstream {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
    /// Requests to `/held` are answered once this is notified.
    pub release: Arc<tokio::sync::Semaphore>,
    closing: CancellationToken,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub async fn new(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, closing) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let release = Arc::new(tokio::sync::Semaphore::new(0));
        let (counter, stop, hold) = (asked.clone(), closing.clone(), release.clone());
        let serving = tokio::spawn(async move {
            let open = tokio_util::task::TaskTracker::new();
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => break,
                    accepted = listener.accept() => accepted,
                };
                let (counter, stop, hold) = (counter.clone(), stop.clone(), hold.clone());
                open.spawn(async move {
                    let service = service_fn(move |request| {
                        counter.fetch_add(1, Ordering::SeqCst);
                        respond(name, request, hold.clone())
                    });
                    let stream = TokioIo::new(accepted.unwrap().0);
                    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
                    }
                    _ = connection.await;
                });
            }
            drop(listener);
            open.close();
            open.wait().await;
        });
        Self { address, asked, release, closing, serving }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Ends as a well-behaved server does: what is under way is answered, connections that rest are closed.
    pub async fn end(self) {
        self.closing.cancel();
        in_time("the upstream ends", self.serving).await.unwrap();
    }
}

async fn respond(
    name: &str,
    request: Request<Incoming>,
    hold: Arc<tokio::sync::Semaphore>,
) -> Result<Response<Reply>, Infallible> {
    use std::fmt::Write as _;

    let (parts, body) = request.into_parts();
    let length = drain(body).await;
    if parts.uri.path() == "/held" {
        hold.acquire().await.unwrap().forget();
    }
    let mut text = format!("{name} {} {} {length}\n", parts.method, parts.uri);
    for (key, value) in &parts.headers {
        writeln!(text, "{key}: {}", value.to_str().unwrap()).unwrap();
    }
    let answer = Response::builder()
        .header("x-upstream", name)
        .header("connection", "x-of-this-hop")
        .header("x-of-this-hop", "1")
        .header("keep-alive", "timeout=5")
        .body(Reply::whole(text));
    Ok(answer.unwrap())
}

/// Reads a body to its end; its length.
pub async fn drain(mut body: Incoming) -> usize {
    use hyper::body::Body as _;
    let mut length = 0;
    while let Some(Ok(frame)) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    length
}
