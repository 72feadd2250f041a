//! The secrets of receivers, opened for a minute at the most: not for each delivery, and never beyond a new value.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    domain::actor::Actor,
    safe::{Owner, Plaintext, Safe},
    store::Receiver,
    webhook::Source,
};

/// How long an opened secret is kept.
const KEPT: Duration = Duration::from_mins(1);

struct Opened {
    /// Which secrets, in which versions.
    versions: Vec<(String, i64)>,
    values: Arc<Vec<Plaintext>>,
    at: Instant,
}

/// Opened secrets, by receiver.
#[derive(Default)]
pub(super) struct Secrets {
    opened: Arc<Mutex<HashMap<Uuid, Opened>>>,
    /// Held while some are opened: of many deliveries at once, one opens and the others wait for it.
    opening: tokio::sync::Mutex<()>,
}

impl Secrets {
    /// The secrets of a receiver. Each opening is recorded as the safe records it.
    ///
    /// # Errors
    /// They cannot be opened, in words that hold nothing of them.
    pub(super) async fn of(
        &self,
        safe: &Safe,
        receiver: &Receiver,
        source: Source,
    ) -> Result<Arc<Vec<Plaintext>>, String> {
        if let Some(values) = self.kept(receiver) {
            return Ok(values);
        }
        let _opening = self.opening.lock().await;
        if let Some(values) = self.kept(receiver) {
            return Ok(values);
        }
        let project = &receiver.project;
        let owner = Owner { project: project.id, namespace: &project.namespace, name: &project.name };
        let names: Vec<&str> = receiver.secrets.iter().map(|(name, _)| name.as_str()).collect();
        let (actor, purpose) =
            (Actor::Webhook(source.word().to_owned()), format!("webhook {}", receiver.declared.name));
        let taken = safe.take_many(&owner, &names, &actor, &purpose).await.map_err(|error| error.to_string())?;
        let mut versions = Vec::with_capacity(names.len());
        let mut values = Vec::with_capacity(names.len());
        for ((name, _), taken) in receiver.secrets.iter().zip(taken) {
            if let Some((version, value)) = taken {
                versions.push((name.clone(), version));
                values.push(value);
            }
        }
        let (values, at) = (Arc::new(values), Instant::now());
        lock(&self.opened).insert(receiver.id, Opened { versions, values: values.clone(), at });
        let (opened, id) = (self.opened.clone(), receiver.id);
        tokio::spawn(async move {
            tokio::time::sleep_until(at + KEPT).await;
            let mut opened = lock(&opened);
            if opened.get(&id).is_some_and(|one| one.at == at) {
                opened.remove(&id);
            }
        });
        Ok(values)
    }

    fn kept(&self, receiver: &Receiver) -> Option<Arc<Vec<Plaintext>>> {
        let opened = lock(&self.opened);
        let one = opened.get(&receiver.id)?;
        let is_current = one.versions == receiver.secrets && one.at.elapsed() < KEPT;
        is_current.then(|| one.values.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
