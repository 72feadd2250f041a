//! Whether the keys are the right ones, found out before anything is written with them.

use uuid::Uuid;

use super::{Safe, SafeError};
use crate::{
    crypto::{self, KeyId, OpenError, Place, WrapError, Wrapping as _},
    store::{EncryptionKey, SealedRow, SealedTable},
};

/// What is sealed as a canary: its content does not matter.
const CANARY: &[u8] = b"stagekeeper";

/// What [`Safe::check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Keys whose canary was opened.
    pub opened: Vec<KeyId>,
    /// Keys of the keyring that this database has not seen yet.
    pub new: Vec<KeyId>,
}

/// What [`Safe::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many values there are.
    pub of: u64,
    /// Those that do not open: which, in words, and why.
    pub broken: Vec<(String, OpenError)>,
}

/// Rows that are read with one statement.
const BATCH: i64 = 200;

impl Safe {
    /// Opens every value in its place, a batch at a time, and drops it at once.
    ///
    /// # Errors
    /// When the database is away. What does not open is no error here, but found.
    pub async fn verify(&self) -> Result<Verified, SafeError> {
        let mut verified = Verified { of: 0, broken: Vec::new() };
        for table in SealedTable::ALL {
            let mut after = None;
            loop {
                let rows = self.store.sealed_list(table, after, BATCH).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.id);
                for row in &rows {
                    verified.of += 1;
                    let place = Place {
                        table: table.name(),
                        id: row.id,
                        namespace: &row.namespace,
                        project: &row.project,
                        name: &row.name,
                        version: row.version,
                    };
                    if let Err(error) = crypto::open(&*self.keys(), &place, &row.sealed).await {
                        verified.broken.push((called(row), error));
                    }
                }
            }
        }
        Ok(verified)
    }

    /// Opens the canary of every key that is both known and at hand.
    ///
    /// # Errors
    /// The first key that is not what it should be: nothing is to be written then.
    pub async fn check(&self) -> Result<Checked, SafeError> {
        let known = self.store.encryption_keys_list().await?;
        let mut checked = Checked { opened: Vec::new(), new: Vec::new() };
        let keys = self.keys();
        for id in keys.ids() {
            match known.iter().find(|key| key.id == *id) {
                None => checked.new.push(id.clone()),
                Some(key) => {
                    self.open_canary(key).await?;
                    checked.opened.push(id.clone());
                }
            }
        }
        let primary = known.iter().find(|key| key.id == *keys.primary());
        if primary.is_some_and(|key| key.retired_at.is_some()) {
            return Err(SafeError::Retired(keys.primary().clone()));
        }
        let at_hand = |key: &EncryptionKey| keys.ids().any(|id| *id == key.id);
        if let Some(key) = known.iter().find(|key| key.rows > 0 && !at_hand(key)) {
            return Err(SafeError::Missing { key: key.id.clone(), rows: key.rows });
        }
        Ok(checked)
    }

    /// [`Safe::check`], and then a canary for the primary key if it has none yet: what it wraps from now on can be told
    /// from what another key of its id would. Whoever is second opens what the first one left.
    ///
    /// # Errors
    /// As [`Safe::check`].
    pub async fn ready(&self) -> Result<Checked, SafeError> {
        // What is checked is what is written with.
        let keys = self.keys();
        let safe = self.with_keys(keys.clone());
        let checked = safe.check().await?;
        if !checked.new.contains(keys.primary()) {
            return Ok(checked);
        }
        let sealed = crypto::seal(&*keys, &place(keys.primary()), CANARY).await;
        let canary = sealed.map_err(|error| SafeError::Seal {
            what: "the canary of key",
            name: keys.primary().to_string(),
            error,
        })?;
        if safe.store.encryption_key_add(&canary, safe.clock.now()).await? {
            tracing::info!(key = %keys.primary(), "a key is used for the first time");
        }
        safe.check().await
    }

    async fn open_canary(&self, key: &EncryptionKey) -> Result<(), SafeError> {
        let opened = crypto::open(&*self.keys(), &place(&key.id), &key.canary).await;
        match opened {
            Ok(_) => Ok(()),
            Err(OpenError::Wrap(WrapError::Unavailable(why))) => {
                let error = OpenError::Wrap(WrapError::Unavailable(why));
                Err(SafeError::Open { what: "the canary of key", name: key.id.to_string(), error })
            }
            Err(error) => Err(SafeError::WrongKey { key: key.id.clone(), error }),
        }
    }
}

fn place(id: &KeyId) -> Place<'_> {
    Place { table: "encryption_keys", id: Uuid::nil(), namespace: "", project: "", name: id.as_str(), version: 1 }
}

/// A row as people know it.
fn called(row: &SealedRow) -> String {
    let what = match (row.table, row.name.split_once('/')) {
        (SealedTable::SecretVersions, Some(("", name))) => format!("secret {name}"),
        (SealedTable::SecretVersions, Some((service, name))) => format!("secret {name} of service {service}"),
        _ => format!("credential {}", row.name),
    };
    format!("{what} of project {}/{}, version {}", row.namespace, row.project, row.version)
}
