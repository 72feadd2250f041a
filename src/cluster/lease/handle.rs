//! How the rest of the process learns whether it leads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

/// Whether this process leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Leadership {
    /// It does not, and who does is not known.
    #[default]
    Unknown,
    /// Another does.
    Following {
        /// The other's identity.
        leader: String,
    },
    /// It does.
    Leading {
        /// Grows with every change of leadership; at least 1.
        epoch: u64,
    },
}

/// Tells whether this process leads. Cheap to clone; all clones tell the same.
#[derive(Debug, Clone, Default)]
pub struct LeaseHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The epoch, and until when it may be acted upon.
    term: Mutex<Option<(u64, Instant)>>,
    state: watch::Sender<Leadership>,
    floor: AtomicU64,
}

impl LeaseHandle {
    /// Whether this process leads at this instant. Needs nobody's help to become false: a process that was stopped
    /// for a while is no leader when it goes on.
    pub fn is_leader(&self) -> bool {
        self.epoch().is_some()
    }

    /// The epoch, while this process leads.
    pub fn epoch(&self) -> Option<u64> {
        let term = *self.0.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.filter(|(_, until)| Instant::now() < *until).map(|(epoch, _)| epoch)
    }

    /// The state and its changes.
    pub fn states(&self) -> watch::Receiver<Leadership> {
        self.0.state.subscribe()
    }

    /// Waits until this process leads, and answers the epoch.
    pub async fn elected(&self) -> u64 {
        let mut states = self.states();
        loop {
            if let Leadership::Leading { epoch } = *states.borrow_and_update() {
                return epoch;
            }
            if states.changed().await.is_err() {
                // The sender lives in this very handle.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the term of this epoch has ended: another leads, nobody does, or we do with another epoch.
    pub async fn ended(&self, epoch: u64) {
        let mut states = self.states();
        let _ = states.wait_for(|state| *state != Leadership::Leading { epoch }).await;
    }

    /// Makes every epoch from now on greater than this one: the greatest that the journal has seen. Matters when the
    /// Lease was deleted and with it the count. A leader with a lower epoch gets a new one at its next renewal.
    pub fn raise_floor(&self, epoch: u64) {
        self.0.floor.fetch_max(epoch, Ordering::SeqCst);
    }

    pub(super) fn floor(&self) -> u64 {
        self.0.floor.load(Ordering::SeqCst)
    }

    pub(super) fn lead(&self, epoch: u64, until: Instant) {
        *self.0.term.lock().unwrap_or_else(PoisonError::into_inner) = Some((epoch, until));
        self.publish(Leadership::Leading { epoch });
    }

    pub(super) fn follow(&self, leader: &str) {
        *self.0.term.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.publish(if leader.is_empty() {
            Leadership::Unknown
        } else {
            Leadership::Following { leader: leader.to_owned() }
        });
    }

    fn publish(&self, new: Leadership) {
        self.0.state.send_if_modified(|state| {
            let changed = *state != new;
            *state = new;
            changed
        });
    }
}
