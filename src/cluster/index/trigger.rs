//! The queue of stages whose children changed.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;

use super::StageKey;

/// Each stage is in it at most once, so it never grows beyond the number of stages, however slow its reader is.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<StageKey>,
    queued: HashSet<StageKey>,
}

impl Queue {
    pub(super) fn push(&self, key: &StageKey) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.queued.insert(key.clone()) {
                return;
            }
            state.order.push_back(key.clone());
        }
        self.reader.wake();
    }

    fn pop(&self) -> Option<StageKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = state.order.pop_front()?;
        state.queued.remove(&key);
        Some(key)
    }
}

/// The stages whose children changed, each at most once until it is read. Never ends. Meant for one reader: of
/// several, each change reaches one.
#[derive(Debug, Clone)]
pub struct Triggers(pub(super) Arc<Queue>);

impl Stream for Triggers {
    type Item = StageKey;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StageKey>> {
        if let Some(key) = self.0.pop() {
            return Poll::Ready(Some(key));
        }
        self.0.reader.register(cx.waker());
        // Something may have been pushed between the look and the registration.
        self.0.pop().map_or(Poll::Pending, |key| Poll::Ready(Some(key)))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[tokio::test]
    async fn a_stage_waits_once_however_often_it_changes() {
        let queue = Arc::new(Queue::default());
        let mut triggers = Triggers(queue.clone());
        let (a, b) = (StageKey::new("shop", "a"), StageKey::new("shop", "b"));
        for key in [&a, &b, &a, &a] {
            queue.push(key);
        }
        assert_eq!(triggers.next().await, Some(a.clone()));
        assert_eq!(triggers.next().await, Some(b));
        assert_eq!(triggers.next().now_or_never(), None, "nothing is left");
        queue.push(&a);
        assert_eq!(triggers.next().await, Some(a), "after it was read it counts again");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let queue = Arc::new(Queue::default());
        let mut triggers = Triggers(queue.clone());
        let reader = tokio::spawn(async move { triggers.next().await });
        tokio::task::yield_now().await;
        queue.push(&StageKey::new("shop", "a"));
        assert_eq!(reader.await.unwrap(), Some(StageKey::new("shop", "a")));
    }
}
