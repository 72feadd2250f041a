//! What the leader remembers of a stage between passes: a ledger that the database confirms, and what may be lost.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    api::StageStatus,
    controllers::deploy::{ledger::Ledger, prober::Prober},
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
    /// Probes of the deploy in health checking.
    pub prober: Option<Prober>,
    /// The status as last written by this process: newer than what the watch may show.
    pub written: Option<StageStatus>,
    /// When the first change that is not in the status yet was made.
    pub unwritten_since: Option<Timestamp>,
    /// When the serving instance lost readiness.
    pub unready_since: Option<Timestamp>,
}

impl Memory {
    /// What is known of a stage that was just read.
    pub fn new(target: Uuid, project: Uuid, uid: String, ledger: Ledger) -> Self {
        Self {
            target,
            project,
            uid,
            ledger: Some(ledger),
            prober: None,
            written: None,
            unwritten_since: None,
            unready_since: None,
        }
    }
}
