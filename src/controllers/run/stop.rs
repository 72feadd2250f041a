//! Work that ends when the term or the process does.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// What `work` gives, or nothing when it is stopped before.
pub(super) async fn until_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        value = work => Some(value),
    }
}
