//! The process: listen, watch, serve, and stop in order.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Certificates, Door, ENDED, Edge, Limits, Lock, Setup, SignIn, follow, serve};
use crate::{
    cluster::client::{Access, Clients, call::Call},
    config::EdgeConfig,
    domain::clock::SystemClock,
    store::Store,
    telemetry::{Part, Telemetry},
};

/// How often the database is looked after, and files that may change.
const PULSE: Duration = Duration::from_secs(5);
/// How often the list of what has ended is read again.
const RELOAD: Duration = Duration::from_mins(10);
/// Connections to the database at most: a statement now and then.
const CONNECTIONS: u32 = 4;

/// Why the edge could not run.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RunError {
    what: String,
    /// The way out.
    pub next: &'static str,
}

fn failed(what: impl ToString, next: &'static str) -> RunError {
    RunError { what: what.to_string(), next }
}

/// Runs until `shutdown`, then lets what is under way end.
///
/// # Errors
/// A port, a file or the configuration of the cluster is not usable. Neither the API server nor Postgres has to answer.
pub async fn run(config: EdgeConfig, telemetry: Telemetry, shutdown: CancellationToken) -> Result<(), RunError> {
    let lock = config.password_file.as_deref().map(Lock::open).transpose();
    let lock = lock.map_err(|why| failed(why, "mount the Secret, or unset STAGEKEEPER_EDGE_PASSWORD_FILE"))?;
    let lock = lock.map(Arc::new);
    let clock = Arc::new(SystemClock);
    let sign_in = config.oidc.clone().map(|oidc| SignIn::open(oidc, clock.clone())).transpose();
    let sign_in = sign_in.map_err(|why| failed(why, "mount the Secret, or unset STAGEKEEPER_EDGE_OIDC_ISSUER"))?;
    let sign_in = sign_in.map(Arc::new);
    let certificates = config.tls.as_ref().map(|tls| Certificates::open(&tls.certificate, &tls.key)).transpose();
    let certificates = certificates.map_err(|why| failed(why, "check the Secret with the certificate"))?;
    let mut doors = vec![Door { listener: listen(config.edge_port.get()).await?, tls: None }];
    if let (Some(tls), Some(certificates)) = (&config.tls, &certificates) {
        let spoken = certificates.config().map_err(|why| failed(why, ""))?;
        doors.push(Door { listener: listen(tls.port.get()).await?, tls: Some(spoken) });
    }
    let store =
        Store::lazy(config.database.expose(), CONNECTIONS).map_err(|error| failed(error, "check DATABASE_URL"))?;
    let client = clients(&config, &telemetry).await?.general;
    let edge = Edge::new(Setup {
        limits: Limits::default(),
        wake_limit: config.wake_limit,
        rate: config.rate,
        access_log: config.access_log,
        details: config.details,
        redirect: config.redirect && config.tls.is_some(),
        lock: lock.clone(),
        sign_in: sign_in.clone(),
        records: Arc::new(store.clone()),
        clock,
        telemetry: telemetry.clone(),
    });
    let mut background = JoinSet::new();
    let watched = follow(edge.clone(), client, config.namespaces.names(), telemetry.readiness.clone());
    background.spawn(watched);
    background.spawn({
        let edge = edge.clone();
        async move { edge.look_after().await }
    });
    background.spawn(look_after_store(edge.clone(), store.clone(), telemetry));
    background.spawn(look_at_files(certificates, lock, sign_in));
    let served = serve(edge.clone(), doors, shutdown).await;
    background.shutdown().await;
    // Who was here a moment ago is not forgotten.
    let last = tokio::time::timeout(PULSE, async {
        edge.write_visits().await;
        store.close().await;
    });
    if last.await.is_err() {
        tracing::warn!("the last visits could not be written down in time");
    }
    served.map_err(|error| failed(format!("a port failed: {error}"), ""))
}

async fn clients(config: &EdgeConfig, telemetry: &Telemetry) -> Result<Clients, RunError> {
    let access = match (&config.cluster.kubeconfig, &config.cluster.context) {
        (None, None) => Access::Infer,
        (path, context) => Access::Kubeconfig { path: path.clone(), context: context.clone() },
    };
    let metrics = telemetry.metrics.clone();
    let on_call = Arc::new(move |call: &Call| metrics.rest_answered(call.verb, call.code));
    Clients::connect(&access, on_call).await.map_err(|error| failed(error, ""))
}

/// Listens on all addresses, of both families where the machine has both.
async fn listen(port: u16) -> Result<TcpListener, RunError> {
    let bound = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    };
    bound.map_err(|error| {
        failed(
            format!("port {port} cannot be listened on: {error}"),
            "choose another with STAGEKEEPER_EDGE_PORT or STAGEKEEPER_EDGE_TLS_PORT, or stop what uses it",
        )
    })
}

/// Tells readiness what the database is like, and reads which subdomains have ended: at once, and again now and then.
async fn look_after_store(edge: Arc<Edge>, store: Store, telemetry: Telemetry) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut read: Option<tokio::time::Instant> = None;
    loop {
        ticks.tick().await;
        let up = store.ping().await.is_ok();
        telemetry.readiness.set(Part::Store, up);
        telemetry.metrics.store_up(up);
        if !up || read.is_some_and(|at| at.elapsed() < RELOAD) {
            continue;
        }
        match store.subdomains_ended(i64::try_from(ENDED).unwrap_or(i64::MAX)).await {
            Ok(ended) => {
                edge.end(ended);
                telemetry.readiness.set(Part::Schema, true);
                read = Some(tokio::time::Instant::now());
            }
            Err(error) => tracing::warn!(%error, "what has ended is not known: its hosts are answered with 404"),
        }
    }
}

/// Takes another certificate, password or key when there is one.
async fn look_at_files(certificates: Option<Arc<Certificates>>, lock: Option<Arc<Lock>>, sign_in: Option<Arc<SignIn>>) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said: [Option<String>; 3] = [None, None, None];
    loop {
        ticks.tick().await;
        let looked = [
            ("certificate", certificates.as_ref().map(|one| one.look_again())),
            ("password", lock.as_ref().map(|one| one.look_again())),
            ("key of sessions", sign_in.as_ref().map(|one| one.look_again())),
        ];
        for ((what, looked), said) in looked.into_iter().zip(&mut said) {
            match looked {
                None => {}
                Some(Ok(changed)) => {
                    if changed {
                        tracing::info!(what, "taken from its files anew");
                    }
                    *said = None;
                }
                // Once, and not at every look.
                Some(Err(why)) if said.as_ref() == Some(&why) => {}
                Some(Err(why)) => {
                    tracing::error!(what, why, "its files are not usable: the one before stays");
                    *said = Some(why);
                }
            }
        }
    }
}
