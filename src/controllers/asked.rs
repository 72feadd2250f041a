//! Requests that wait for a pass of their stage: read from the database by one task, settled by the passes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::{cluster::index::StageKey, store::StoredRequest};

/// What was asked of each stage and is not settled, in the order in which it was asked.
#[derive(Debug)]
pub struct Asked {
    by_stage: Mutex<HashMap<StageKey, Vec<Arc<StoredRequest>>>>,
    woken: Arc<Notify>,
}

impl Asked {
    /// Nothing yet; `woken` asks for another look into the database.
    pub fn new(woken: Arc<Notify>) -> Self {
        Self { by_stage: Mutex::default(), woken }
    }

    /// Takes requests over that were read, and says whose pass is due.
    pub fn put(&self, requests: Vec<StoredRequest>) -> Vec<StageKey> {
        let mut by_stage = self.lock();
        let mut due: Vec<StageKey> = Vec::new();
        for request in requests {
            let key = StageKey::new(request.namespace.as_str(), request.stage.as_str());
            let waiting = by_stage.entry(key.clone()).or_default();
            if waiting.iter().all(|known| known.id != request.id) {
                waiting.push(Arc::new(request));
                waiting.sort_by_key(|request| request.id);
            }
            if !due.contains(&key) {
                due.push(key);
            }
        }
        due
    }

    /// What waits for a stage.
    pub fn of(&self, key: &StageKey) -> Vec<Arc<StoredRequest>> {
        self.lock().get(key).cloned().unwrap_or_default()
    }

    /// A request was settled.
    pub fn settled(&self, key: &StageKey, id: Uuid) {
        let mut by_stage = self.lock();
        if let Some(waiting) = by_stage.get_mut(key) {
            waiting.retain(|request| request.id != id);
            if waiting.is_empty() {
                by_stage.remove(key);
            }
        }
    }

    /// Nobody knows any more which of a stage's are settled: they are read again.
    pub fn forget(&self, key: &StageKey) {
        if self.lock().remove(key).is_some() {
            self.woken.notify_one();
        }
    }

    /// Everything that waits.
    pub fn known(&self) -> Vec<Uuid> {
        self.lock().values().flatten().map(|request| request.id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StageKey, Vec<Arc<StoredRequest>>>> {
        self.by_stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
