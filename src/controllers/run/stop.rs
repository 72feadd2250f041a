//! Work that ends when the term or the process does.

use std::future::Future;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What `work` gives, or nothing when it is stopped before.
pub(super) async fn until_stopped<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.cancelled() => None,
        value = work => Some(value),
    }
}

/// A controller that ends in order after `stop`, or at once if its objects have never been listed: until then it does
/// nothing, and it would wait for the list before it ends.
pub(super) async fn ended_in_order(
    stop: &CancellationToken,
    listed: watch::Receiver<bool>,
    controller: impl Future<Output = ()>,
) {
    let unborn = async {
        stop.cancelled().await;
        if *listed.borrow() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = controller => {}
        () = unborn => {}
    }
}

#[cfg(test)]
mod tests;
