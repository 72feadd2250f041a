//! What goes on after a change of the protocol: bytes both ways, until either side ends or nobody speaks.

use std::{sync::Arc, time::Duration};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::{serve::Caller, table::Preview};

/// How much is read at once, each way.
const BUFFER: usize = 8 << 10;

/// Passes on what comes from either side.
pub(super) async fn pass_on(
    caller: OnUpgrade,
    upstream: OnUpgrade,
    seen: Arc<Caller>,
    preview: Option<Arc<Preview>>,
    silence: Duration,
) {
    let (Ok(caller), Ok(upstream)) = futures::future::join(caller, upstream).await else {
        tracing::debug!("the protocol was not changed after all");
        return;
    };
    let (mut caller, mut upstream) = (TokioIo::new(caller), TokioIo::new(upstream));
    let copying = copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER, BUFFER);
    let mut copying = std::pin::pin!(copying);
    let look = silence / 40;
    let mut quiet = Duration::ZERO;
    while quiet < silence {
        tokio::select! {
            // How it ended is known to both sides.
            _ = copying.as_mut() => return,
            () = tokio::time::sleep(look) => {
                quiet = if seen.has_moved() { Duration::ZERO } else { quiet + look };
                // Whoever speaks is here; an open connection alone is not somebody.
                if quiet.is_zero() && let Some(preview) = &preview {
                    preview.visited();
                }
            }
        }
    }
}
