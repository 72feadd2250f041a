//! The secrets of a project's workloads: several at a time, and only what changed.

use std::collections::HashMap;

use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Kept, Owner, Safe, SafeError, TRIES, WHAT_COMPARED};
use crate::{
    crypto::{self, OpenError, Place, Plaintext},
    domain::{
        actor::Actor,
        secret::{SecretId, number},
    },
    store::{Class, NewSecret, SealedSecret, SealedTable, SecretSlot, SecretUse},
};

/// The value of a secret to be put in.
pub struct SecretDeposit<'a> {
    /// Its name, and the service that it is for.
    pub id: SecretId,
    /// The value.
    pub value: &'a Plaintext,
    /// Where it came from.
    pub origin: String,
    /// Who puts it in.
    pub actor: Actor,
}

/// What there is already under a deposit's name.
struct Known {
    slot: Option<SecretSlot>,
    same: bool,
}

impl Safe {
    /// Puts values in, all or none, each in place of the one that has its name; values that are there already are not
    /// written again. Says what became of each, in their order. No name may come twice.
    ///
    /// # Errors
    /// One is too long, or the database is away.
    pub async fn secrets_put(&self, owner: &Owner<'_>, deposits: &[SecretDeposit<'_>]) -> Result<Vec<Kept>, SafeError> {
        self.secrets_put_over(owner, deposits, None).await
    }

    /// The same, only over this `version` of each secret if one is named.
    ///
    /// # Errors
    /// [`SafeError::Changed`] when one has another version, or there is none.
    pub async fn secrets_put_over(
        &self,
        owner: &Owner<'_>,
        deposits: &[SecretDeposit<'_>],
        version: Option<i64>,
    ) -> Result<Vec<Kept>, SafeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let known = self.secrets_known(owner, deposits).await?;
            let seen = |known: &Known| version.is_none() || version == known.slot.as_ref().map(|slot| slot.version);
            if !known.iter().all(seen) {
                return Err(SafeError::Changed);
            }
            let mut new = Vec::new();
            let mut kept = Vec::with_capacity(deposits.len());
            for (deposit, known) in deposits.iter().zip(&known) {
                if known.same {
                    kept.push(Kept::Same);
                    continue;
                }
                let one = self.sealed_secret(owner, deposit, known.slot.as_ref()).await?;
                kept.push(Kept::Changed(one.version));
                new.push(one);
            }
            if !new.is_empty() {
                match self.store.secrets_put(&new, self.clock.now()).await {
                    Err(error) if error.class() == Class::Conflict && tries < TRIES => continue,
                    done => done?,
                }
            }
            self.origins_put(owner, deposits, known).await?;
            return Ok(kept);
        }
    }

    /// Whether each of these values is what is stored under its name already: what [`Safe::secrets_put`] would leave alone.
    ///
    /// # Errors
    /// The database is away.
    pub async fn secrets_same(
        &self,
        owner: &Owner<'_>,
        deposits: &[SecretDeposit<'_>],
    ) -> Result<Vec<bool>, SafeError> {
        let known = self.secrets_known(owner, deposits).await?;
        Ok(known.into_iter().map(|one| one.same).collect())
    }

    /// Takes these values out, by their stamps and in their order, and records by whom and what for before giving any away. None for what is
    /// gone: deleted, or older than the versions that are kept.
    ///
    /// # Errors
    /// One does not open, or the database is away.
    pub async fn secrets_take(
        &self,
        owner: &Owner<'_>,
        stamps: &[(SecretId, i64)],
        actor: &Actor,
        purpose: &str,
    ) -> Result<Vec<Option<Plaintext>>, SafeError> {
        let versions: Vec<(SecretId, i64)> = stamps.iter().map(|(id, stamp)| (id.clone(), number(*stamp))).collect();
        let sealed = self.store.secret_sealed(owner.project, &versions).await?;
        let sealed: HashMap<(&SecretId, i64), &SealedSecret> =
            sealed.iter().map(|one| ((&one.secret, one.stamp()), one)).collect();
        let mut taken = Vec::with_capacity(stamps.len());
        let mut uses = Vec::with_capacity(stamps.len());
        for (id, stamp) in stamps {
            let Some(one) = sealed.get(&(id, *stamp)) else {
                taken.push(None);
                continue;
            };
            let opened = self.opened_secret(owner, one).await;
            taken.push(Some(opened.map_err(|error| SafeError::Open {
                what: "secret",
                name: id.to_string(),
                error,
            })?));
            uses.push(self.secret_use(one.id, one.version, actor, purpose));
        }
        if !uses.is_empty() {
            self.store.secret_uses_append(&uses).await?;
        }
        Ok(taken)
    }

    /// What is there already: two statements to read, one to record that values were opened.
    async fn secrets_known(&self, owner: &Owner<'_>, deposits: &[SecretDeposit<'_>]) -> Result<Vec<Known>, SafeError> {
        let ids: Vec<SecretId> = deposits.iter().map(|deposit| deposit.id.clone()).collect();
        let slots = self.store.secret_slots(owner.project, &ids).await?;
        let versions: Vec<(SecretId, i64)> = slots.iter().map(|slot| (slot.secret.clone(), slot.version)).collect();
        let sealed = self.store.secret_sealed(owner.project, &versions).await?;
        let sealed: HashMap<&SecretId, &SealedSecret> = sealed.iter().map(|one| (&one.secret, one)).collect();
        let mut slots: HashMap<SecretId, SecretSlot> =
            slots.into_iter().map(|slot| (slot.secret.clone(), slot)).collect();
        let mut known = Vec::with_capacity(deposits.len());
        let mut uses = Vec::new();
        for deposit in deposits {
            let mut same = false;
            // What does not open is not the same: it is written over.
            if let Some(one) = sealed.get(&deposit.id)
                && let Ok(value) = self.opened_secret(owner, one).await
            {
                same = value.expose().ct_eq(deposit.value.expose()).into();
                uses.push(self.secret_use(one.id, one.version, &deposit.actor, WHAT_COMPARED));
            }
            known.push(Known { slot: slots.remove(&deposit.id), same });
        }
        if !uses.is_empty() {
            self.store.secret_uses_append(&uses).await?;
        }
        Ok(known)
    }

    async fn sealed_secret(
        &self,
        owner: &Owner<'_>,
        deposit: &SecretDeposit<'_>,
        slot: Option<&SecretSlot>,
    ) -> Result<NewSecret, SafeError> {
        let version = slot.map_or(1, |slot| slot.version + 1);
        let value = self.ids.next();
        let name = name(&deposit.id);
        let sealed = crypto::seal(&*self.keys(), &place(owner, &name, value, version), deposit.value.expose()).await;
        Ok(NewSecret {
            id: slot.map_or_else(|| self.ids.next(), |slot| slot.id),
            project: owner.project,
            secret: deposit.id.clone(),
            version,
            value,
            sealed: sealed.map_err(|error| SafeError::Seal { what: "secret", name: deposit.id.to_string(), error })?,
            origin: deposit.origin.clone(),
            actor: deposit.actor.clone(),
        })
    }

    /// Remembers where values came from that are what they were.
    async fn origins_put(
        &self,
        owner: &Owner<'_>,
        deposits: &[SecretDeposit<'_>],
        known: Vec<Known>,
    ) -> Result<(), SafeError> {
        let moved = deposits.iter().zip(known).filter(|(_, known)| known.same).filter_map(|(deposit, known)| {
            let slot = known.slot.filter(|slot| slot.origin != deposit.origin)?;
            Some(((slot, deposit.origin.clone()), &deposit.actor))
        });
        let (moved, actors): (Vec<_>, Vec<_>) = moved.unzip();
        let Some(actor) = actors.first() else { return Ok(()) };
        Ok(self.store.secret_origins_put(owner.project, &moved, actor, self.clock.now()).await?)
    }

    async fn opened_secret(&self, owner: &Owner<'_>, one: &SealedSecret) -> Result<Plaintext, OpenError> {
        let name = name(&one.secret);
        crypto::open(&*self.keys(), &place(owner, &name, one.value, one.version), &one.sealed).await
    }

    fn secret_use(&self, secret: Uuid, version: i64, actor: &Actor, purpose: &str) -> SecretUse {
        let (actor, purpose) = (actor.to_string(), purpose.to_owned());
        SecretUse { secret, version, actor, purpose, at: self.clock.now() }
    }
}

/// A secret's name as its value is bound to it. Neither part has a `/` in it.
fn name(secret: &SecretId) -> String {
    format!("{}/{}", secret.service.as_deref().unwrap_or_default(), secret.name)
}

fn place<'a>(owner: &Owner<'a>, name: &'a str, value: Uuid, version: i64) -> Place<'a> {
    let (namespace, project) = (owner.namespace, owner.name);
    Place { table: SealedTable::SecretVersions.name(), id: value, namespace, project, name, version }
}
