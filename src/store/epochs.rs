//! Leader epochs: the fencing tokens of this system.

use super::{Store, StoreError};

impl Store {
    /// Gives `holder` an epoch for `lease` that is higher than every epoch given out before, for any lease, and at least
    /// `at_least` (the lease's own count of transitions, in case the database has lost rows). Whoever holds an older
    /// epoch is refused by every deploy that the new one has written.
    pub async fn leader_epoch_claim(&self, lease: &str, holder: &str, at_least: i64) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            "INSERT INTO leader_epochs AS known (lease, holder, epoch)
             SELECT $1, $2, greatest($3, 1 + coalesce(max(epoch), 0)) FROM leader_epochs
             ON CONFLICT (lease) DO UPDATE
             SET holder = excluded.holder, epoch = greatest(excluded.epoch, known.epoch + 1)
             RETURNING epoch",
            lease,
            holder,
            at_least
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }
}
