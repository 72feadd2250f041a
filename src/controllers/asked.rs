//! Requests that wait for a pass of their stage: read from the database by one task, settled by the passes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{cluster::index::StageKey, store::StoredRequest};

/// Longest time that the work of a deploy which was asked for waits until others have their answers.
pub const OTHERS_FIRST: Duration = Duration::from_secs(10);

/// What was asked of each stage and is not settled, in the order in which it was asked.
#[derive(Debug)]
pub struct Asked {
    inner: Mutex<Inner>,
    woken: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    by_stage: HashMap<StageKey, Vec<Arc<StoredRequest>>>,
    /// Stages whose work waits for its turn, in order.
    parked: VecDeque<StageKey>,
    /// Stages whose work is begun at the moment.
    starting: HashSet<StageKey>,
}

impl Inner {
    /// Whether somebody waits for an answer who has asked lately, of another stage than `but`. What cannot be answered for
    /// longer, such as a request of a stage whose Project is missing, holds up nobody else.
    fn is_asked(&self, now: Timestamp, but: Option<&StageKey>) -> bool {
        let lately = |request: &Arc<StoredRequest>| request.at.saturating_add(OTHERS_FIRST).is_ok_and(|end| now < end);
        self.by_stage.iter().any(|(key, requests)| Some(key) != but && requests.iter().any(lately))
    }
}

impl Asked {
    /// Nothing yet; `woken` asks for another look into the database.
    pub fn new(woken: Arc<Notify>) -> Self {
        Self { inner: Mutex::default(), woken }
    }

    /// Takes requests over that were read, and says whose pass is due.
    pub fn put(&self, requests: Vec<StoredRequest>) -> Vec<StageKey> {
        let by_stage = &mut self.lock().by_stage;
        let mut due: HashSet<StageKey> = HashSet::new();
        for request in requests {
            let key = StageKey::new(request.namespace.as_str(), request.stage.as_str());
            let waiting = by_stage.entry(key.clone()).or_default();
            if waiting.iter().all(|known| known.id != request.id) {
                waiting.push(Arc::new(request));
                waiting.sort_by_key(|request| request.id);
            }
            due.insert(key);
        }
        due.into_iter().collect()
    }

    /// What waits for a stage.
    pub fn of(&self, key: &StageKey) -> Vec<Arc<StoredRequest>> {
        self.lock().by_stage.get(key).cloned().unwrap_or_default()
    }

    /// A request was settled.
    pub fn settled(&self, key: &StageKey, id: Uuid) {
        let by_stage = &mut self.lock().by_stage;
        if let Some(waiting) = by_stage.get_mut(key) {
            waiting.retain(|request| request.id != id);
            if waiting.is_empty() {
                by_stage.remove(key);
            }
        }
    }

    /// Nobody knows any more which of a stage's are settled: they are read again.
    pub fn forget(&self, key: &StageKey) {
        if self.lock().by_stage.remove(key).is_some() {
            self.woken.notify_one();
        }
    }

    /// Whether the work of a deploy that was asked for may begin now: when nobody else waits for an answer, unless it is `late`,
    /// and fewer than `most` begin theirs. Otherwise its turn comes.
    pub fn may_start(&self, key: &StageKey, most: usize, late: bool, now: Timestamp) -> bool {
        let mut inner = self.lock();
        let others = inner.is_asked(now, Some(key));
        if (late || !others) && inner.starting.len() < most {
            inner.parked.retain(|parked| parked != key);
            inner.starting.insert(key.clone());
            return true;
        }
        if inner.parked.is_empty() {
            self.woken.notify_one();
        }
        if !inner.parked.contains(key) {
            inner.parked.push_back(key.clone());
        }
        false
    }

    /// The work is begun.
    pub fn started(&self, key: &StageKey) {
        self.lock().starting.remove(key);
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lock().parked.len()
    }

    /// Whose turn it is: nobody's while one waits for an answer.
    pub fn turns(&self, most: usize, now: Timestamp) -> Vec<StageKey> {
        let mut inner = self.lock();
        let free = if inner.is_asked(now, None) { 0 } else { most.saturating_sub(inner.starting.len()) };
        let free = free.min(inner.parked.len());
        inner.parked.drain(..free).collect()
    }

    /// Everything that waits.
    pub fn known(&self) -> Vec<Uuid> {
        self.lock().by_stage.values().flatten().map(|request| request.id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        actor::Actor,
        request::{Action, Origin, RequestState, Via},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn request(number: u128, stage: &str) -> StoredRequest {
        StoredRequest {
            id: Uuid::from_u128(number),
            target: Uuid::from_u128(number),
            namespace: "acme".into(),
            project: "shop".into(),
            stage: stage.into(),
            action: Action::Approve { release: None },
            actor: Actor::User("ada".into()),
            groups: Vec::new(),
            reason: String::new(),
            origin: Origin { via: Via::Api, verified: true, source: None, request_id: None },
            group: None,
            state: RequestState::Pending,
            message: None,
            deploy: None,
            at: Timestamp::UNIX_EPOCH,
            settled_at: None,
        }
    }

    #[test]
    fn work_begins_when_all_have_their_answer_and_a_few_at_a_time() {
        let asked = Asked::new(Arc::new(Notify::new()));
        let key = |stage: &str| StageKey::new("acme", stage);
        let (dev, live) = (key("dev"), key("live"));
        assert_eq!(asked.put(vec![request(1, "dev"), request(2, "dev")]), std::slice::from_ref(&dev));
        assert!(asked.may_start(&dev, 1, false, at(1)), "nobody else has asked");
        asked.started(&dev);

        asked.put(vec![request(3, "live")]);
        assert!(!asked.may_start(&dev, 1, false, at(1)));
        assert_eq!(asked.waiting(), 1);
        asked.settled(&dev, Uuid::from_u128(1));
        asked.settled(&live, Uuid::from_u128(3));
        assert_eq!(asked.turns(1, at(1)), [], "one of its own is left");
        asked.settled(&dev, Uuid::from_u128(2));
        assert_eq!(asked.turns(1, at(1)), std::slice::from_ref(&dev));
        assert_eq!(asked.waiting(), 0);

        assert!(asked.may_start(&dev, 1, false, at(1)));
        assert!(!asked.may_start(&live, 1, false, at(1)), "one at a time");
        assert!(!asked.may_start(&live, 1, false, at(1)));
        assert_eq!(asked.turns(1, at(1)), []);
        asked.started(&dev);
        assert_eq!(asked.turns(1, at(1)), std::slice::from_ref(&live));
        assert_eq!(asked.turns(1, at(1)), [], "once");

        asked.put(vec![request(4, "live")]);
        assert!(!asked.may_start(&dev, 1, false, at(1)));
        assert!(asked.may_start(&dev, 1, true, at(1)), "it has waited for long enough");
        assert_eq!(asked.waiting(), 0);
        asked.started(&dev);
        assert!(asked.may_start(&dev, 1, false, at(10)), "a request that nobody can answer holds up nobody");
    }
}
