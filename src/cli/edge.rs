//! `stagekeeper edge`: the proxy's process: configuration, logs, a port for health and metrics, signals.

use std::io;

use tokio_util::sync::CancellationToken;

use super::{
    Context,
    controller::{Signals, install_logs, listen, stop_on_signal, threads},
    failure::Failure,
};
use crate::{
    cluster::client::install_tls,
    config::{EdgeConfig, edge::EdgeArgs},
    edge, http,
    telemetry::Telemetry,
};

/// Reads the configuration and runs until a signal asks to stop.
pub fn start(context: &Context, arguments: &EdgeArgs) -> Result<(), Failure> {
    let config = EdgeConfig::parse(&arguments.values(), context.cluster.access())?;
    install_logs(&config.log)?;
    install_tls();
    let runtime = threads(config.worker_threads.get())
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("threads cannot be started: {error}"), ""))?;
    runtime.block_on(serve(config))
}

/// Serves until the first signal. The port for health outlives the others: who drains is not dead.
async fn serve(config: EdgeConfig) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(Signals::listen()?, shutdown.clone()));
    let listener = listen(config.port.get()).await?;
    let telemetry = Telemetry::default();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        port = config.port,
        edge_port = config.edge_port,
        edge_tls_port = config.tls.as_ref().map(|tls| tls.port.get()),
        database = %config.database,
        password = config.password_file.is_some(),
        oidc = config.oidc.as_ref().map(|oidc| oidc.issuer.as_str()),
        "the edge starts"
    );
    let drained = CancellationToken::new();
    let router = http::edge_router(telemetry.clone());
    let port = tokio::spawn(http::serve(listener, router, http::Limits::default(), drained.clone()));
    let ran = edge::run(config, telemetry, shutdown).await;
    drained.cancel();
    let served = port.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    ran.map_err(|error| Failure::failed(error.to_string(), error.next))?;
    served.map_err(|error| Failure::failed(format!("the port for health and metrics failed: {error}"), ""))?;
    tracing::info!("the edge has stopped");
    Ok(())
}
