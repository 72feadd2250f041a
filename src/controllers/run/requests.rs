//! The leader reads what people ask of stages, and wakes those stages.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stop::until_stopped;
use crate::{
    controllers::{asked::Asked, backoff, trigger::Triggers},
    domain::{clock::Clock, share::Share},
    store::Store,
};

/// Requests that are read at once.
const BATCH: i64 = 500;

/// Longest pause before trying again with a database that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// So long after the last request, and when all have their answer, the work on what was asked for begins.
const REST: Duration = Duration::from_millis(100);

/// What it takes to hand requests to their stages.
pub(super) struct Taker {
    pub(super) store: Store,
    pub(super) share: Arc<Share>,
    pub(super) asked: Arc<Asked>,
    pub(super) triggers: Triggers,
    pub(super) clock: Arc<dyn Clock>,
    /// Stages whose work may begin at once.
    pub(super) starts: usize,
    /// Told when there may be something to do.
    pub(super) woken: Arc<Notify>,
}

impl Taker {
    /// Hands over what there is, and then what comes, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let known = self.asked.known();
            let read = self.store.requests_pending(&self.share, &known, BATCH);
            let pause = match until_stopped(&stop, read).await {
                None => return,
                Some(Ok(requests)) => {
                    failures = 0;
                    let more = !requests.is_empty();
                    for key in self.asked.put(requests) {
                        self.triggers.stage(&key);
                    }
                    if more {
                        continue;
                    }
                    None
                }
                Some(Err(error)) => {
                    failures += 1;
                    tracing::warn!(%error, "what is asked of stages cannot be read; trying again");
                    Some(backoff::delay("requests", failures).min(PATIENCE))
                }
            };
            let rest = async {
                match pause {
                    None => self.heard().await,
                    Some(pause) => tokio::time::sleep(pause).await,
                }
            };
            if until_stopped(&stop, rest).await.is_none() {
                return;
            }
        }
    }

    /// Waits until there may be something to do, and gives out turns meanwhile.
    async fn heard(&self) {
        let heard = self.woken.notified();
        tokio::pin!(heard);
        while self.asked.waiting() > 0 {
            if tokio::time::timeout(REST, &mut heard).await.is_ok() {
                return;
            }
            for key in self.asked.turns(self.starts, self.clock.now()) {
                self.triggers.stage(&key);
            }
        }
        heard.await;
    }
}
