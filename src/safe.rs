//! The safe: sealed values in Postgres. What is put in is sealed for its row, what is taken out is recorded with who took
//! it and what for, and the keys can be changed while everything runs.
//!
//! The one room that has both the keys and the rows. Nothing of a value stays here: whoever takes one out drops it.

mod canary;
pub mod login;
mod rotate;
mod secrets;
mod token;

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

pub use self::{
    canary::{Checked, Verified},
    rotate::Rotated,
    secrets::SecretDeposit,
    token::{random, token},
};
/// What is put in and taken out.
pub use crate::crypto::Plaintext;
use crate::{
    crypto::{self, KeyId, Keyring, OpenError, Place, SealError, Wrapping as _},
    domain::{
        actor::Actor,
        clock::{Clock, Ids},
        credential::CredentialKind,
    },
    store::{Class, CredentialUse, NewCredential, SealedCredential, SealedTable, Store, StoreError},
};

/// How often a value is sealed anew because somebody else wrote the same credential at the same moment.
const TRIES: usize = 5;

/// What a value was opened for that another one was compared with.
const WHAT_COMPARED: &str = "compare";

/// Sealed values in Postgres, with the keys to them. Cheap to clone.
#[derive(Clone)]
pub struct Safe {
    store: Store,
    /// Whatever is begun ends with the keys that it began with.
    keys: Arc<RwLock<Arc<Keyring>>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// Whose credentials these are.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The project's row.
    pub project: Uuid,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A value to be put in.
pub struct Deposit<'a> {
    /// Its name among the project's.
    pub name: &'a str,
    /// What it is for.
    pub kind: CredentialKind,
    /// The value.
    pub value: &'a Plaintext,
    /// The registries that it is for.
    pub hosts: Vec<String>,
    /// Where it came from.
    pub origin: String,
    /// When it stops to be accepted, as far as anybody knows.
    pub expires_at: Option<Timestamp>,
    /// Who puts it in.
    pub actor: Actor,
}

/// What became of a value that was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It was there already: nothing was written, but where it came from if that is another place now.
    Same,
    /// It is stored as this version, the first or one more than the one before.
    Changed(i64),
}

/// Why the safe did not do what it was asked. No text of these holds anything of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SafeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was to be written over is not what the caller has seen.
    #[error("it was written by somebody else meanwhile")]
    Changed,
    /// A value was not sealed.
    #[error("{what} {name} cannot be sealed: {error}")]
    Seal {
        /// What it is the value of.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        error: SealError,
    },
    /// A value was not opened.
    #[error("{what} {name} cannot be opened: {error}")]
    Open {
        /// What it is the value of.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        error: OpenError,
    },
    /// A key of the keyring is not the one that this database knows under its id.
    #[error("the key {key} is not the one that this database was sealed with: {error}")]
    WrongKey {
        /// Its id.
        key: KeyId,
        /// What opening its canary said.
        error: OpenError,
    },
    /// The machine gives no random bytes.
    #[error("no random bytes can be had: {0}")]
    Random(String),
    /// The primary key was retired.
    #[error("the key {0} was retired: put another one first; `stagekeeper keys generate` makes one")]
    Retired(KeyId),
    /// A key that rows still need is not in the keyring.
    #[error(
        "{rows} values were sealed with the key {key}, which is not in the keyring: add it behind the first one, and take it \
         away when `stagekeeper keys retire {key}` allows it"
    )]
    Missing {
        /// Its id.
        key: KeyId,
        /// How many rows need it.
        rows: i64,
    },
}

impl std::fmt::Debug for Safe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Safe").field("keys", &self.key_ids()).finish_non_exhaustive()
    }
}

impl Safe {
    /// The safe of a database, with the keys to it. [`Safe::check`] says whether they are the right ones.
    pub fn new(store: Store, keys: Arc<Keyring>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, keys: Arc::new(RwLock::new(keys)), clock, ids }
    }

    /// The key that everything is sealed with from now on.
    pub fn primary(&self) -> KeyId {
        self.keys().primary().clone()
    }

    /// The keys at hand, the primary first.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.keys().ids().cloned().collect()
    }

    /// Takes these keys in place of those at hand, in every clone of this safe, if they are the right ones
    /// ([`Safe::ready`]). Otherwise the old ones stay in use.
    ///
    /// # Errors
    /// As [`Safe::ready`].
    pub async fn change_keys(&self, keys: Arc<Keyring>) -> Result<Checked, SafeError> {
        let checked = self.with_keys(keys.clone()).ready().await?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(checked)
    }

    /// This safe with keys that nobody changes.
    fn with_keys(&self, keys: Arc<Keyring>) -> Self {
        Self { keys: Arc::new(RwLock::new(keys)), ..self.clone() }
    }

    fn keys(&self) -> Arc<Keyring> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same over another store, such as one that writes for a leader only: what a former leader is still about to put
    /// in is refused.
    #[must_use]
    pub fn over(&self, store: Store) -> Self {
        Self { store, ..self.clone() }
    }

    /// Puts a value in, in place of the one that has the name. One that is stored already with the same kind, registries
    /// and expiry is not written again.
    ///
    /// # Errors
    /// When it is too long, or the database is away.
    pub async fn put(&self, owner: &Owner<'_>, deposit: &Deposit<'_>) -> Result<Kept, SafeError> {
        self.put_over(owner, deposit, None).await
    }

    /// The same, only over this `version` of the credential if one is named.
    ///
    /// # Errors
    /// [`SafeError::Changed`] when it is another one, or there is none.
    pub async fn put_over(
        &self,
        owner: &Owner<'_>,
        deposit: &Deposit<'_>,
        version: Option<i64>,
    ) -> Result<Kept, SafeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let known = self.store.credentials_sealed(owner.project, &[deposit.name]).await?.pop();
            if version.is_some() && version != known.as_ref().map(|known| known.slot.version) {
                return Err(SafeError::Changed);
            }
            if let Some(known) = &known
                && self.is_same(owner, deposit, known).await?
            {
                let (actor, now) = (&deposit.actor, self.clock.now());
                if known.origin == deposit.origin
                    || self.store.credential_origin_put(known.slot, &deposit.origin, actor, now).await?
                {
                    return Ok(Kept::Same);
                }
            }
            let slot = match known {
                Some(known) => Some(known.slot),
                None => self.store.credential_slot(owner.project, deposit.name).await?,
            };
            let id = slot.map_or_else(|| self.ids.next(), |slot| slot.id);
            let version = slot.map_or(1, |slot| slot.version + 1);
            let place = place(owner, deposit.name, id, version);
            let sealed = crypto::seal(&*self.keys(), &place, deposit.value.expose()).await;
            let unsealed = |error| SafeError::Seal { what: "credential", name: deposit.name.to_owned(), error };
            let new = NewCredential {
                id,
                project: owner.project,
                name: deposit.name.to_owned(),
                kind: deposit.kind,
                version,
                sealed: sealed.map_err(unsealed)?,
                hosts: deposit.hosts.clone(),
                origin: deposit.origin.clone(),
                expires_at: deposit.expires_at,
                actor: deposit.actor.clone(),
            };
            match self.store.credential_put(&new, self.clock.now()).await {
                Err(error) if error.class() == Class::Conflict && tries < TRIES => {}
                done => return Ok(done.map(|()| Kept::Changed(version))?),
            }
        }
    }

    /// Takes a value out, and records by whom and what for before giving it away. None when there is no such credential.
    ///
    /// # Errors
    /// When it does not open, or the database is away.
    pub async fn take(
        &self,
        owner: &Owner<'_>,
        name: &str,
        actor: &Actor,
        purpose: &str,
    ) -> Result<Option<Plaintext>, SafeError> {
        let taken = self.take_many(owner, &[name], actor, purpose).await?;
        Ok(taken.into_iter().flatten().map(|(_, value)| value).next())
    }

    /// Takes values out with their versions, in the order of their names, and records by whom and what for before giving any
    /// away. None for what there is not.
    ///
    /// # Errors
    /// When one does not open, or the database is away.
    pub async fn take_many(
        &self,
        owner: &Owner<'_>,
        names: &[&str],
        actor: &Actor,
        purpose: &str,
    ) -> Result<Vec<Option<(i64, Plaintext)>>, SafeError> {
        let sealed = self.store.credentials_sealed(owner.project, names).await?;
        let mut taken = Vec::with_capacity(names.len());
        let mut uses = Vec::with_capacity(names.len());
        for name in names {
            let Some(one) = sealed.iter().find(|one| one.name == *name) else {
                taken.push(None);
                continue;
            };
            let opened = self.opened(owner, one).await;
            let value =
                opened.map_err(|error| SafeError::Open { what: "credential", name: one.name.clone(), error })?;
            uses.push(self.used(one, actor, purpose));
            taken.push(Some((one.slot.version, value)));
        }
        if !uses.is_empty() {
            self.store.credential_uses_append(&uses).await?;
        }
        Ok(taken)
    }

    /// Whether a deposit is what is stored. What does not open is not: it is written over.
    async fn is_same(
        &self,
        owner: &Owner<'_>,
        deposit: &Deposit<'_>,
        known: &SealedCredential,
    ) -> Result<bool, SafeError> {
        // Postgres keeps microseconds.
        let instant = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
        let described = known.kind == deposit.kind
            && known.hosts == deposit.hosts
            && instant(known.expires_at) == instant(deposit.expires_at);
        if !described {
            return Ok(false);
        }
        let Ok(value) = self.opened(owner, known).await else { return Ok(false) };
        self.store.credential_uses_append(&[self.used(known, &deposit.actor, WHAT_COMPARED)]).await?;
        Ok(value.expose().ct_eq(deposit.value.expose()).into())
    }

    async fn opened(&self, owner: &Owner<'_>, one: &SealedCredential) -> Result<Plaintext, OpenError> {
        crypto::open(&*self.keys(), &place(owner, &one.name, one.slot.id, one.slot.version), &one.sealed).await
    }

    fn used(&self, one: &SealedCredential, actor: &Actor, purpose: &str) -> CredentialUse {
        CredentialUse {
            credential: one.slot.id,
            version: one.slot.version,
            actor: actor.to_string(),
            purpose: purpose.to_owned(),
            at: self.clock.now(),
        }
    }
}

fn place<'a>(owner: &Owner<'a>, name: &'a str, id: Uuid, version: i64) -> Place<'a> {
    let (namespace, project) = (owner.namespace, owner.name);
    Place { table: SealedTable::Credentials.name(), id, namespace, project, name, version }
}
