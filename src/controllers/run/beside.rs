//! A process that serves the API and webhooks and leads nothing: what it needs of the cluster and of the database.

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{CLOSING, PULSE, RunError, connect, keys::follow_keys, open_safe, stop::until_stopped};
use crate::{
    config::{Config, key_file::KeyFile},
    domain::clock::{Clock, Ids, SystemClock, SystemIds},
    safe::Safe,
    store::{MigrationState, Store, StoreError},
    telemetry::{Part, Telemetry},
};

/// Runs until `shutdown`, beside those that [`run`](super::run). It watches nothing and migrates nothing: it waits until the
/// database has the schema. `opened` is told when there is something to serve.
pub async fn stand_beside(
    config: Config,
    telemetry: Telemetry,
    opened: impl FnOnce(&Store, Option<&Safe>, &Client),
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let clients = connect(&config, &telemetry).await?;
    // There are no watches that could be missing.
    telemetry.readiness.set(Part::Watches, true);
    let Some(store) = until_stopped(&shutdown, Store::connect(config.database.expose())).await else {
        return Ok(());
    };
    let store = store?;
    let Some(migrated) = until_stopped(&shutdown, until_migrated(&store)).await else {
        return Ok(());
    };
    migrated?;
    telemetry.readiness.set(Part::Schema, true);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let safe = open_safe(&config, &store, &clock, &ids).await?;
    opened(&store, safe.as_ref(), &clients.general);
    let keys = safe.zip(config.keys_file).map(|(safe, path)| tokio::spawn(follow_keys(safe, KeyFile::new(path))));
    until_stopped(&shutdown, look_after(&store, &telemetry)).await;
    if let Some(keys) = keys {
        keys.abort();
    }
    if tokio::time::timeout(CLOSING, store.close()).await.is_err() {
        tracing::warn!("the connections to the database could not be closed in time");
    }
    Ok(())
}

/// Waits for whoever migrates.
async fn until_migrated(store: &Store) -> Result<(), StoreError> {
    let mut told = false;
    loop {
        let status = store.migrate_status().await?;
        if status.iter().all(|migration| migration.state != MigrationState::Pending) {
            return Ok(());
        }
        if !told {
            tracing::info!(
                "waiting for the database's schema: the controller migrates it, or `stagekeeper migrate up`"
            );
            told = true;
        }
        tokio::time::sleep(PULSE).await;
    }
}

/// Tells readiness what the database is like, for ever.
async fn look_after(store: &Store, telemetry: &Telemetry) {
    let mut ticks = tokio::time::interval(PULSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let up = store.ping().await;
        telemetry.readiness.set(Part::Store, up.is_ok());
        telemetry.metrics.store_up(up.is_ok());
    }
}
