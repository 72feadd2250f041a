//! Bringing every row under the primary key.

use super::{Safe, SafeError, TRIES};
use crate::{
    crypto::{KeyId, OpenError, Wrapping as _},
    store::{Class, Retirement, SealedTable, WrappedRow},
};

/// Rows that are read and written with one statement each.
const BATCH: i64 = 500;

/// How far a rotation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Rows that were wrapped anew.
    pub done: u64,
    /// Rows that were under other keys when it began.
    pub of: u64,
}

impl Safe {
    /// Wraps every data key that another key wraps with the primary key, in batches; values are not touched. What was
    /// done when it is interrupted stays done, and the next one goes on with the rest. `told` hears of each batch.
    ///
    /// # Errors
    /// When a data key does not unwrap, or the database is away.
    pub async fn rotate(&self, mut told: impl FnMut(Rotated)) -> Result<Rotated, SafeError> {
        // Keys that change on the way do not change this one's.
        let safe = self.with_keys(self.keys());
        safe.ready().await?;
        let primary = safe.primary();
        let mut others = safe.store.encryption_keys_list().await?;
        others.retain(|key| key.id != primary && key.rows > 0);
        let of = others.iter().map(|key| key.rows).sum::<i64>();
        let mut rotated = Rotated { done: 0, of: u64::try_from(of).unwrap_or_default() };
        told(rotated);
        for key in others {
            for table in SealedTable::ALL {
                let mut after = None;
                loop {
                    let rows = safe.store.wrapped_list(table, &key.id, after, BATCH).await?;
                    let Some(last) = rows.last() else { break };
                    after = Some(last.id);
                    let mut wrapped = Vec::with_capacity(rows.len());
                    for row in rows {
                        let bytes = safe.rewrapped(&row).await?;
                        wrapped.push((row, bytes));
                    }
                    rotated.done += safe.replace(table, &primary, &wrapped).await?;
                    told(rotated);
                }
            }
        }
        Ok(rotated)
    }

    /// Retires a key that no row needs any more.
    ///
    /// # Errors
    /// [`crate::store::StoreError::NotFound`] for a key that was never used.
    pub async fn retire(&self, key: &KeyId) -> Result<Retirement, SafeError> {
        Ok(self.store.encryption_key_retire(key, self.clock.now()).await?)
    }

    /// Stores a batch. Who writes some of its rows at the same moment may be let first: a row that is another one by then
    /// is left alone.
    async fn replace(&self, table: SealedTable, key: &KeyId, rows: &[(WrappedRow, Vec<u8>)]) -> Result<u64, SafeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.store.wrapped_replace(table, key, rows).await {
                Err(error) if error.class() == Class::Conflict && tries < TRIES => {}
                done => return Ok(done?),
            }
        }
    }

    async fn rewrapped(&self, row: &WrappedRow) -> Result<Vec<u8>, SafeError> {
        let wrapped = self.keys().rewrap(&row.wrapped).await;
        let named = |error| SafeError::Open { what: "row", name: row.id.to_string(), error: OpenError::Wrap(error) };
        Ok(wrapped.map_err(named)?.bytes)
    }
}
