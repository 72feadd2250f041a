//! What is remembered about a registry while the process runs, whatever its settings: its pace, and how it lists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::pace::Pace;
use super::paging::Paging;

/// Most hosts that are remembered.
const MAX_KEPT: usize = 4096;

/// One host that is asked.
pub(super) struct Peer {
    pub(super) pace: Pace,
    pub(super) paging: Paging,
}

/// The hosts by name: `HOST[:PORT]`, as references write registries.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<String, Arc<Peer>>>);

impl Peers {
    /// The host of this name, asked at this rate from now on.
    pub(super) fn get(&self, name: &str, rate: Option<f64>) -> Arc<Peer> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = kept.get(name) {
            peer.pace.set(rate);
            return peer.clone();
        }
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, peer| Arc::strong_count(peer) > 1 || !peer.pace.is_idle());
        }
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, peer| Arc::strong_count(peer) > 1);
        }
        let peer = Arc::new(Peer { pace: Pace::new(rate), paging: Paging::default() });
        kept.insert(name.to_owned(), peer.clone());
        peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_remembered_up_to_a_bound_and_those_that_rest_the_longest() {
        let peers = Peers::default();
        peers.get("resting.test", None).pace.refused(None);
        for number in 0..MAX_KEPT + 10 {
            peers.get(&format!("{number}.test"), None);
        }
        assert!(peers.get("resting.test", None).pace.ready_at().is_some());
        assert!(peers.0.lock().unwrap().len() <= MAX_KEPT);
    }
}
