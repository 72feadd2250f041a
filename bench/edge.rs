//! The edge with a table made by hand: what `bench/edge` compares with nginx and `HAProxy`.
//!
//! Everything is as in `stagekeeper edge` but for the API server and Postgres, neither of which a request asks.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Instant};

use clap::Parser;
use futures::future::BoxFuture;
use jiff::Timestamp;
use stagekeeper::{
    domain::clock::SystemClock,
    edge::{
        Door, Edge, Limits, Setup, serve,
        table::{EndpointView, EnvironmentView, Objects, Phase, ServiceView, SliceView, Table},
        wake::Records,
    },
    store::StoreError,
    telemetry::Telemetry,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves `h0.bench.test`, `h1.bench.test`, … from one upstream.
#[derive(Parser)]
struct Cli {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where every host leads.
    #[arg(long)]
    upstream: SocketAddr,
    /// Number of hosts, each of an environment of its own.
    #[arg(long, default_value_t = 10)]
    hosts: usize,
    /// Threads that run tasks.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Forgets what it is told.
struct Nowhere;

impl Records for Nowhere {
    fn touch<'a>(&'a self, _: &'a [(String, Timestamp)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn wake<'a>(&'a self, _: &'a str, _: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn objects(hosts: usize, upstream: SocketAddr) -> Objects {
    let mut objects = Objects::default();
    for number in 0..hosts {
        let (place, host) = (format!("home-{number}"), format!("h{number}.bench.test"));
        let service =
            ServiceView { created: 1, hosts: vec![host.clone()], port: "http".into(), project: Some("bench".into()) };
        objects.services.insert((place.clone(), "web".into()), service);
        let endpoints = vec![EndpointView { address: upstream.ip(), ready: true, lingers: false }];
        let slice = SliceView { service: "web".into(), endpoints, ports: vec![("http".into(), upstream.port())] };
        objects.slices.insert((place.clone(), "web-1".into()), slice);
        let environment = EnvironmentView {
            place,
            project: "bench".into(),
            subdomain: format!("h{number}"),
            hosts: vec![host],
            phase: Phase::Ready,
            awake: true,
            ..EnvironmentView::default()
        };
        objects.environments.insert(("bench".into(), format!("env-{number}")), environment);
    }
    objects
}

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let mut threads = if cli.threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if cli.threads > 1 {
        threads.worker_threads(cli.threads);
    }
    threads.enable_all().build()?.block_on(run(cli))
}

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let edge = Edge::new(Setup {
        limits: Limits::default(),
        wake_limit: std::time::Duration::from_secs(30),
        rate: None,
        access_log: false,
        details: false,
        redirect: false,
        lock: None,
        sign_in: None,
        records: Arc::new(Nowhere),
        clock: Arc::new(SystemClock),
        telemetry: Telemetry::default(),
    });
    let began = Instant::now();
    edge.replace(Table::build(&objects(cli.hosts, cli.upstream), &Table::default(), began));
    eprintln!("{} hosts in {:?}", cli.hosts, began.elapsed());
    let looking = tokio::spawn({
        let edge = edge.clone();
        async move { edge.look_after().await }
    });
    let listener = TcpListener::bind(cli.listen).await?;
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.cancel();
        }
    });
    serve(edge.clone(), vec![Door { listener, tls: None }], stop).await?;
    looking.abort();
    Ok(())
}
