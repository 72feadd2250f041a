//! Keys that change while the operator runs.

use std::{sync::Arc, time::Duration};

use crate::{
    config::key_file::KeyFile,
    safe::{Safe, SafeError},
};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// Uses whatever keys the file has, as soon as they are found to be the right ones. Wrong or incomplete ones are told, and
/// the old ones stay in use until the file is corrected.
pub(super) async fn follow_keys(safe: Safe, mut file: KeyFile) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(read) = file.changed() else { continue };
        let path = file.path().display().to_string();
        let keyring = match read {
            Ok(keyring) => Arc::new(keyring),
            Err(why) => {
                tracing::warn!(file = %path, %why, "the changed encryption keys are not usable: the old ones stay in use");
                continue;
            }
        };
        let before = safe.key_ids();
        match safe.change_keys(keyring).await {
            Ok(_) if safe.key_ids() == before => {}
            Ok(_) => {
                let keys: Vec<String> = safe.key_ids().iter().map(ToString::to_string).collect();
                tracing::info!(file = %path, keys = keys.join(","), "the encryption keys have changed, and are in use");
            }
            Err(SafeError::Store(error)) => {
                file.forget();
                tracing::warn!(file = %path, %error, "changed encryption keys cannot be checked: trying again");
            }
            Err(why) => {
                tracing::warn!(file = %path, %why, "the changed encryption keys are refused: the old ones stay in use");
            }
        }
    }
}
