//! Leader epochs: the fencing tokens of this system.

use std::sync::Arc;

use super::{Store, StoreError};

/// What a leader writes in the name of.
#[derive(Debug)]
pub(super) struct Fence {
    lease: String,
    epoch: i64,
}

impl Store {
    /// The store in the hands of who claimed `epoch` for `lease`, or for several leases, their names parted by commas: once
    /// somebody else has claimed one of them, every statement that would write fails with [`StoreError::Fenced`], even one that
    /// was under way.
    #[must_use]
    pub fn leading(&self, lease: &str, epoch: i64) -> Self {
        Self { fence: Some(Arc::new(Fence { lease: lease.to_owned(), epoch })), ..self.clone() }
    }

    /// The first argument of `leads` in a statement.
    pub(super) fn lease(&self) -> Option<&str> {
        self.fence.as_ref().map(|fence| fence.lease.as_str())
    }

    /// The second argument of `leads` in a statement.
    pub(super) fn epoch(&self) -> Option<i64> {
        self.fence.as_ref().map(|fence| fence.epoch)
    }

    /// Gives `holder` an epoch for `lease`, or one for several leases, their names parted by commas. It is higher than every epoch
    /// given out before, for any lease, and at least `at_least` (the lease's own count of transitions, in case the database has
    /// lost rows). Whoever holds an older epoch is refused by every deploy that the new one has written.
    pub async fn leader_epoch_claim(&self, lease: &str, holder: &str, at_least: i64) -> Result<i64, StoreError> {
        let mut at_least = at_least;
        loop {
            let epochs = sqlx::query_scalar!(
                "INSERT INTO leader_epochs AS known (lease, holder, epoch)
                 SELECT name, $2, greatest($3, (SELECT 1 + coalesce(max(epoch), 0) FROM leader_epochs))
                 FROM unnest(string_to_array($1, ',')) AS name ORDER BY name
                 ON CONFLICT (lease) DO UPDATE
                 SET holder = excluded.holder, epoch = greatest(excluded.epoch, known.epoch + 1)
                 RETURNING epoch",
                lease,
                holder,
                at_least
            )
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
            let greatest = epochs.iter().max().copied().unwrap_or(at_least);
            if epochs.iter().all(|epoch| *epoch == greatest) {
                return Ok(greatest);
            }
            // Somebody claimed one of them at the same moment. With one epoch for all, nobody's fence has a gap.
            at_least = greatest + 1;
        }
    }
}
