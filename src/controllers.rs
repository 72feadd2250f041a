//! Controllers: observe, validate, advance the deploy machine, apply, write status.

pub mod backoff;
pub mod images;
pub mod stage;

use tokio_util::sync::CancellationToken;

use crate::{config::Config, telemetry::Telemetry};

/// Why the controllers ended before they were asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster or the database cannot be reached; the next start may go well.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Runs every controller until `shutdown`.
///
/// # Errors
/// What the controllers need cannot be had.
#[expect(clippy::needless_pass_by_value, reason = "the controllers keep them")]
pub async fn run(
    _config: Config,
    _telemetry: Telemetry,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    shutdown.cancelled().await;
    Ok(())
}
