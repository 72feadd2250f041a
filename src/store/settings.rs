//! Settings of the whole installation: one row.

use super::{Store, StoreError};

/// What holds for the whole installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Days that deploys are kept.
    pub deploy_retention_days: i32,
    /// Days that log lines are kept.
    pub log_retention_days: i32,
}

impl Store {
    /// The settings.
    pub async fn settings_get(&self) -> Result<Settings, StoreError> {
        sqlx::query_as!(Settings, "SELECT deploy_retention_days, log_retention_days FROM settings")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fault(error))
    }

    /// Replaces the settings. Writes nothing when nothing changed.
    pub async fn settings_put(&self, settings: Settings) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE settings SET deploy_retention_days = $1, log_retention_days = $2
             WHERE (deploy_retention_days, log_retention_days) IS DISTINCT FROM ($1, $2)",
            settings.deploy_retention_days,
            settings.log_retention_days
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }
}
