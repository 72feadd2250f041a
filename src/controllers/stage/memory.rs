//! What the leader remembers of a stage between passes: a ledger that the database confirms, and what may be lost.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{checked::Checked, newer::Told, promoted::Proven};
use crate::{
    api::{RequestStatus, Stage, StageStatus},
    controllers::{
        deploy::{ledger::Ledger, prober::Prober},
        strangers::Answered,
    },
};

/// What is remembered of one stage.
#[derive(Debug)]
pub struct Memory {
    /// The stage's row.
    pub target: Uuid,
    /// The project's row.
    pub project: Uuid,
    /// UID of the object that the row belongs to.
    pub uid: String,
    /// What the database says. `None` after a lost race or an error: it is read again.
    pub ledger: Option<Ledger>,
    /// The ledger was compared with what the cluster tells.
    pub compared: bool,
    /// Probes of the deploy in health checking.
    pub prober: Option<Prober>,
    /// The status as last written by this process: newer than what the watch may show.
    pub written: Option<Box<StageStatus>>,
    /// What others wrote into the status.
    pub answered: Answered,
    /// When the first change that is not in the status yet was made.
    pub unwritten_since: Option<Timestamp>,
    /// When the serving instance lost readiness.
    pub unready_since: Option<Timestamp>,
    /// The retry request that was acted on.
    pub handled_retry: Option<String>,
    /// What the declarations amounted to.
    pub checked: Option<Checked>,
    /// What the update list was told.
    pub told: Told,
    /// The request of an annotation, as far as this process knows it.
    pub request: Option<RequestStatus>,
    /// What succeeded on the stages before.
    pub candidates: Option<Arc<Vec<Proven>>>,
    /// Groups of which nothing is left to do here.
    pub groups_settled: Vec<Uuid>,
}

impl Memory {
    /// The retry request that was acted on last: by this process, or by one before it as the status tells.
    pub fn handled_retry(&self, stage: &Stage) -> Option<String> {
        let told = || stage.status.as_ref().and_then(|status| status.last_handled_retry.clone());
        self.handled_retry.clone().or_else(told)
    }

    /// The watch shows this status: one copy of it is enough.
    pub fn shown(&mut self, status: Option<&StageStatus>) {
        if self.written.as_deref() == status {
            self.written = None;
        }
    }

    /// What is known of a stage that was just read.
    pub fn new(target: Uuid, project: Uuid, uid: String, ledger: Ledger) -> Self {
        Self {
            target,
            project,
            uid,
            ledger: Some(ledger),
            compared: false,
            prober: None,
            written: None,
            answered: Answered::default(),
            unwritten_since: None,
            unready_since: None,
            handled_retry: None,
            checked: None,
            told: Told::default(),
            request: None,
            candidates: None,
            groups_settled: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_kept_until_the_watch_shows_it() {
        let mut memory = Memory::new(Uuid::nil(), Uuid::nil(), "u".into(), Ledger::default());
        let status = |images: &str| StageStatus { images: Some(images.into()), ..StageStatus::default() };
        memory.written = Some(Box::new(status("web:2")));
        for older in [None, Some(status("web:1"))] {
            memory.shown(older.as_ref());
            assert!(memory.written.is_some(), "the watch is behind: {older:?}");
        }
        memory.shown(Some(&status("web:2")));
        assert_eq!(memory.written, None);
    }
}
