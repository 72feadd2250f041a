//! `stagekeeper controller` and `stagekeeper api`: the operator's processes around the controllers: configuration, logs, the
//! HTTP port, signals.

mod gates;

use std::{
    io::{self, IsTerminal as _},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use kube::Client;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::subscriber::set_global_default;

pub use self::gates::Gates;
use super::{Context, failure::Failure};
use crate::{
    cluster::{
        access::{ClusterReviews, Reviews},
        client::install_tls,
        declared::ClusterDeclared,
    },
    config::{Config, Log, LogFormat, OidcConfig, settings::ControllerArgs},
    controllers::{self, RunError},
    domain::clock::{SystemClock, SystemIds},
    http::{
        self,
        api::{Api, Opening},
        hooks::Hooks,
        oidc::Oidc,
    },
    safe::Safe,
    store::Store,
    telemetry::{Telemetry, logs},
};

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It takes part in the election, acts while it leads, and serves the API unless it is told not to.
    Controller,
    /// It serves the API and webhooks, and nothing else.
    Api,
}

/// Reads the configuration and runs until a signal asks to stop.
pub fn start(context: &Context, arguments: &ControllerArgs, part: Part) -> Result<(), Failure> {
    let config = Config::parse(&arguments.values(), context.cluster.access())?;
    install_logs(&config.log)?;
    install_tls();
    let runtime = threads(config.worker_threads.get())
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("threads cannot be started: {error}"), ""))?;
    runtime.block_on(serve(config, part))
}

/// One thread does without what several need to wake each other.
pub(super) fn threads(workers: usize) -> Builder {
    if workers == 1 {
        return Builder::new_current_thread();
    }
    let mut several = Builder::new_multi_thread();
    several.worker_threads(workers);
    several
}

pub(super) fn install_logs(log: &Log) -> Result<(), Failure> {
    let filter = log.filter.clone();
    match log.format {
        LogFormat::Json => set_global_default(logs::json(filter, io::stderr)),
        LogFormat::Pretty => {
            let colour = io::stderr().is_terminal();
            set_global_default(logs::pretty(filter, io::stderr, colour))
        }
    }
    .map_err(|error| Failure::failed(format!("logs cannot be installed: {error}"), ""))?;
    logs::report_panics();
    Ok(())
}

/// Serves the HTTP port and runs the controllers, if they are to run, until the first signal.
async fn serve(config: Config, part: Part) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(Signals::listen()?, shutdown.clone()));
    let listener = listen(config.port.get()).await?;
    let telemetry = Telemetry::default();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        port = config.port,
        database = %config.database,
        identity = config.lease.identity,
        ?part,
        "stagekeeper starts"
    );
    let limits = http::Limits::default();
    let hooks = Hooks::new(telemetry.clone(), limits.body);
    let api = Api::new(telemetry.clone(), limits.body);
    let router = http::router(telemetry.clone(), hooks.clone(), api.clone());
    let port = tokio::spawn(http::serve(listener, router, limits, shutdown.clone()));
    let (audience, oidc) = (config.api_audience.clone(), config.oidc.clone());
    let serves = part == Part::Api || config.serve_api;
    // Webhooks and the API are served as soon as there is a database to store in what they bring, whoever leads.
    let opened = |store: &Store, safe: Option<&Safe>, client: &Client| {
        if !serves {
            return;
        }
        let cluster = Arc::new(ClusterReviews::new(client.clone(), audience));
        let reviews = reviews(oidc, cluster);
        hooks.open(store.clone(), safe.cloned(), Arc::new(SystemClock), Arc::new(SystemIds));
        api.open(Opening {
            store: store.clone(),
            safe: safe.cloned(),
            reviews,
            declared: Arc::new(ClusterDeclared::new(client.clone())),
            gates: Arc::new(Gates),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        });
    };
    let ran = match part {
        Part::Controller => controllers::run(config, telemetry, opened, shutdown.clone()).await,
        Part::Api => controllers::stand_beside(config, telemetry, opened, shutdown.clone()).await,
    };
    // However the controllers ended: without them the port has nothing to tell.
    shutdown.cancel();
    let served = port.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    ran?;
    served.map_err(|error| Failure::failed(format!("the HTTP port failed: {error}"), ""))?;
    tracing::info!("stagekeeper has stopped");
    Ok(())
}

/// Who knows callers: the cluster, and the issuer if there is one.
fn reviews(oidc: Option<OidcConfig>, cluster: Arc<dyn Reviews>) -> Arc<dyn Reviews> {
    let Some(oidc) = oidc else { return cluster };
    match Oidc::new(oidc, cluster.clone(), Arc::new(SystemClock)) {
        Ok(oidc) => Arc::new(oidc),
        Err(why) => {
            tracing::error!(why, "ID tokens are not taken");
            cluster
        }
    }
}

/// Listens on all addresses, of both families where the machine has both.
pub(super) async fn listen(port: u16) -> Result<TcpListener, Failure> {
    let bound = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    };
    bound.map_err(|error| {
        Failure::failed(
            format!("port {port} cannot be listened on: {error}"),
            "choose another with STAGEKEEPER_PORT, or stop what uses it",
        )
    })
}

/// What asks a process to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be heard: {error}"), ""));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The first signal asks everybody to finish; the second one does not wait for them.
pub(super) async fn stop_on_signal(mut signals: Signals, shutdown: CancellationToken) {
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping; a second signal stops at once");
    shutdown.cancel();
    let name = signals.next().await;
    tracing::warn!(signal = name, "stopped at once");
    std::process::exit(130);
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let what = error.to_string();
        match error {
            RunError::Unavailable(_) => Self::unavailable(what, ""),
            RunError::Failed(_) => Self::failed(what, ""),
        }
    }
}
