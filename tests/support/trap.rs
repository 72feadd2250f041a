//! Traps for what passes a proxy: one exchange is caught, held as long as the test wants, and then let go or lost.
//!
//! ```text
//! let trap = proxy.trap(When::Answered, |call| call.is_write());
//! let held = trap.sprung("a write").await;   // it has happened, and the operator does not know
//! operator.kill9();
//! held.lose();
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

/// How long a trap waits for its prey.
const PATIENCE: Duration = Duration::from_mins(2);

/// At which moment an exchange is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the server hears of it.
    Asked,
    /// When the server has answered; the client waits for the answer.
    Answered,
}

/// What becomes of a held exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as if nothing had happened.
    Release,
    /// The connection breaks. What has not been sent on never is.
    Lose,
}

/// Waits for exchanges of one sort. Once dropped, everything passes.
pub struct Trap<T> {
    caught: mpsc::UnboundedReceiver<Held<T>>,
}

/// A held exchange. Dropping it loses it.
pub struct Held<T> {
    /// What is held.
    pub what: T,
    verdict: oneshot::Sender<Verdict>,
}

impl<T> Trap<T> {
    /// Waits until something is caught.
    pub async fn sprung(&mut self, what: &str) -> Held<T> {
        let caught = tokio::time::timeout(PATIENCE, self.caught.recv()).await;
        caught.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}")).expect("the proxy lives")
    }
}

impl<T> Held<T> {
    /// It goes on as if nothing had happened.
    pub fn release(self) {
        // The client may have given up.
        let _ = self.verdict.send(Verdict::Release);
    }

    /// The connection breaks.
    pub fn lose(self) {
        let _ = self.verdict.send(Verdict::Lose);
    }
}

struct Set<T> {
    when: When,
    matches: Box<dyn Fn(&T) -> bool + Send>,
    caught: mpsc::UnboundedSender<Held<T>>,
}

/// The state that all connections of a proxy share: its traps, and what passed.
pub struct Traffic<T> {
    traps: Mutex<Vec<Set<T>>>,
    log: Mutex<Vec<T>>,
}

impl<T: Clone> Traffic<T> {
    /// Nothing is caught.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { traps: Mutex::default(), log: Mutex::default() })
    }

    /// Catches everything that matches from now on, until the trap is dropped.
    pub fn trap(&self, when: When, matches: impl Fn(&T) -> bool + Send + 'static) -> Trap<T> {
        let (sender, caught) = mpsc::unbounded_channel();
        locked(&self.traps).push(Set { when, matches: Box::new(matches), caught: sender });
        Trap { caught }
    }

    /// Whether something that is asked for now is to be caught at `when`.
    pub fn catches(&self, when: When, what: &T) -> bool {
        let mut traps = locked(&self.traps);
        traps.retain(|trap| !trap.caught.is_closed());
        traps.iter().any(|trap| trap.when == when && (trap.matches)(what))
    }

    /// Holds an exchange if there is a trap for it.
    pub async fn pass(&self, when: When, what: &T) -> Verdict {
        let verdict = {
            let traps = locked(&self.traps);
            let mut wanted = traps.iter().filter(|trap| trap.when == when && (trap.matches)(what));
            wanted.find_map(|trap| {
                let (verdict, told) = oneshot::channel();
                trap.caught.send(Held { what: what.clone(), verdict }).is_ok().then_some(told)
            })
        };
        match verdict {
            None => Verdict::Release,
            Some(told) => told.await.unwrap_or(Verdict::Lose),
        }
    }

    /// Notes what passes.
    pub fn note(&self, what: T) {
        locked(&self.log).push(what);
    }

    /// Everything that passed so far.
    pub fn log(&self) -> Vec<T> {
        locked(&self.log).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
