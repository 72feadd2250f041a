//! The process: watch always, act while leading, stop in order.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::beside::stand_beside;
use self::{keys::follow_keys, stop::until_stopped, term::Ended};
use crate::{
    cluster::{
        client::{Access, Clients, call::Call},
        index::{Index, Scope},
        lease::{LeaseConfig, Seats, Timing, WallClock},
    },
    config::{Config, Namespaces, key_file::KeyFile},
    domain::{
        clock::{Clock, Ids, SystemClock, SystemIds},
        share::Share,
    },
    safe::{Safe, SafeError},
    store::{Class as StoreClass, Store, StoreError},
    telemetry::{Part, Telemetry},
};

mod behind;
mod beside;
mod dora;
mod hooks;
mod house;
mod keys;
mod previews;
mod requests;
mod scans;
mod stop;
mod term;
mod turns;
mod vault;
mod watched;

/// How often the database and the watches are looked after. Costs one read.
const PULSE: Duration = Duration::from_secs(2);

/// How long closing the connections to the database may take.
const CLOSING: Duration = Duration::from_secs(3);

/// Why the process could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster or the database cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<SafeError> for RunError {
    fn from(error: SafeError) -> Self {
        match error {
            SafeError::Store(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error.class() {
            StoreClass::Unavailable => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What lives as long as the process.
#[derive(Clone)]
struct Process {
    config: Arc<Config>,
    telemetry: Telemetry,
    client: Client,
    store: Store,
    /// What the database has sealed, if there are keys to it.
    safe: Option<Safe>,
    index: Index,
    /// The namespaces that are watched.
    watched: Share,
    /// The namespace that it runs in.
    namespace: Arc<str>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// Runs until `shutdown`: prepares the schema, keeps the watches, takes part in the election, and acts while elected.
/// `opened` is told of the database, of the safe if there are keys, and of the cluster, before anything acts.
pub async fn run(
    config: Config,
    telemetry: Telemetry,
    opened: impl FnOnce(&Store, Option<&Safe>, &Client),
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let clients = connect(&config, &telemetry).await?;
    let Some(store) = until_stopped(&shutdown, open_store(&config)).await else {
        return Ok(());
    };
    let store = store?;
    telemetry.readiness.set(Part::Schema, true);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let safe = open_safe(&config, &store, &clock, &ids).await?;
    opened(&store, safe.as_ref(), &clients.general);
    let scope = match &config.namespaces {
        Namespaces::All => Scope::Cluster,
        Namespaces::Only(names) => Scope::Namespaces(names.iter().cloned().collect()),
    };
    let lease = lease_config(&config, clients.namespace());
    let process = Process {
        telemetry,
        client: clients.general.clone(),
        store,
        safe,
        index: Index::relisting(&scope, config.relist),
        watched: Share::of(config.namespaces.names()),
        namespace: lease.namespace.as_str().into(),
        clock,
        ids,
        config: Arc::new(config),
    };
    let mut background = JoinSet::new();
    let index = process.index.clone();
    let client = process.client.clone();
    background.spawn(async move { index.run(client).await });
    background.spawn(look_after(process.clone()));
    if let (Some(safe), Some(path)) = (&process.safe, &process.config.keys_file) {
        background.spawn(follow_keys(safe.clone(), KeyFile::new(path.clone())));
    }

    let clock = process.clock.clone();
    let wall_clock: WallClock = Arc::new(move || clock.now());
    let (candidates, seats) = Seats::new(&clients.lease, &lease, process.config.shards.get(), &wall_clock);
    let resign = CancellationToken::new();
    let election = tokio::spawn(Seats::run(candidates, resign.clone()));
    let terms = terms(&process, &seats, &shutdown).await;
    // Leadership is given away only when nothing of the term is running any more.
    resign.cancel();
    if let Err(error) = election.await {
        tracing::error!(%error, "the election ended badly");
    }
    background.shutdown().await;
    // A database that hangs must not keep the process: what was not committed is not lost by that.
    if tokio::time::timeout(CLOSING, process.store.close()).await.is_err() {
        tracing::warn!("the connections to the database could not be closed in time");
    }
    terms
}

/// Waits for the database and brings its schema up to date.
async fn open_store(config: &Config) -> Result<Store, RunError> {
    let store = Store::connect(config.database.expose()).await?;
    for file in store.migrate_up().await? {
        tracing::info!(file, "migrated");
    }
    Ok(store)
}

/// Finds out whether the keys are the right ones before anything is written with them.
async fn open_safe(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
) -> Result<Option<Safe>, RunError> {
    let Some(keys) = &config.keys else {
        return Ok(None);
    };
    let safe = Safe::new(store.clone(), keys.clone(), clock.clone(), ids.clone());
    safe.ready().await?;
    Ok(Some(safe))
}

async fn connect(config: &Config, telemetry: &Telemetry) -> Result<Clients, RunError> {
    let access = match (&config.cluster.kubeconfig, &config.cluster.context) {
        (None, None) => Access::Infer,
        (path, context) => Access::Kubeconfig { path: path.clone(), context: context.clone() },
    };
    let metrics = telemetry.metrics.clone();
    let on_call = Arc::new(move |call: &Call| {
        metrics.rest_answered(call.verb, call.code);
        if call.is_write() && call.resource != "leases" {
            tracing::debug!(verb = call.verb, path = call.path, code = call.code, "wrote to the API server");
        }
    });
    Clients::connect(&access, on_call).await.map_err(|error| RunError::Failed(error.to_string()))
}

fn lease_config(config: &Config, namespace: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: config.lease.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: config.lease.name.clone(),
        identity: config.lease.identity.clone(),
        timing: Timing::default(),
    }
}

/// Term after term, until `shutdown`.
async fn terms(process: &Process, seats: &Seats, shutdown: &CancellationToken) -> Result<(), RunError> {
    while let Some(mandate) = until_stopped(shutdown, seats.elected()).await {
        let stop = shutdown.child_token();
        let guard = stop.clone();
        let ended = {
            let (seats, mandate) = (seats.clone(), mandate.clone());
            tokio::spawn(async move {
                seats.outlived(&mandate).await;
                guard.cancel();
            })
        };
        let tell = |leads| {
            for shard in mandate.shards().0 {
                process.telemetry.metrics.leads(shard, leads);
            }
        };
        tell(true);
        let led = term::lead(process, &mandate, stop).await;
        tell(false);
        ended.abort();
        // What others asked for is theirs now that nothing of the term runs.
        seats.hand_over();
        tracing::info!(epoch = mandate.epochs().1, "the term has ended");
        if let Ended::Behind(epoch) = led?
            && until_stopped(shutdown, mandate.surpass(epoch.unsigned_abs())).await.is_none()
        {
            break;
        }
    }
    Ok(())
}

/// Tells readiness what the database and the watches are like.
async fn look_after(process: Process) {
    let readiness = process.telemetry.readiness.clone();
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let up = process.store.ping().await;
        readiness.set(Part::Store, up.is_ok());
        process.telemetry.metrics.store_up(up.is_ok());
        readiness.set(Part::Watches, process.index.is_synced() && process.index.is_healthy());
    }
}
