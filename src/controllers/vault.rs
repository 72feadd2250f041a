//! What the leader knows of every project's credentials and secrets: names, versions and dates, never a value.
//!
//! Passes read it from memory. It follows the database, which tells of each change; what changed is read again, and
//! whoever it concerns gets another pass.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    domain::{
        credential::CredentialKind,
        secret::{SecretId, SecretVersions},
        share::Share,
    },
    store::{Store, StoreError, VaultCredential, VaultProject, VaultReceiver, VaultSecret},
};

/// Namespace and name of a project.
pub type ProjectName = (String, String);

/// What is known of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// Its row.
    pub project: Uuid,
    /// Its credentials, by name.
    pub credentials: BTreeMap<String, VaultCredential>,
    /// Its secrets.
    pub secrets: BTreeMap<SecretId, VaultSecret>,
    /// Which of its secrets have a value, and which.
    pub versions: Arc<SecretVersions>,
    /// Stamps of its registry credentials, by name.
    pub logins: Arc<BTreeMap<String, i64>>,
    /// Where it receives webhooks, by name.
    pub receivers: Vec<VaultReceiver>,
}

impl From<VaultProject> for Holdings {
    fn from(row: VaultProject) -> Self {
        let versions = row.versions();
        let registry = |one: &&VaultCredential| one.kind == CredentialKind::Registry;
        let logins = row.credentials.iter().filter(registry).map(|one| (one.name.clone(), one.stamp)).collect();
        Self {
            project: row.id,
            credentials: row.credentials.into_iter().map(|one| (one.name.clone(), one)).collect(),
            secrets: row.secrets.into_iter().map(|one| (one.secret.clone(), one)).collect(),
            versions: versions.into(),
            logins: Arc::new(logins),
            receivers: row.receivers,
        }
    }
}

impl Holdings {
    /// A project that has nothing yet.
    pub fn none(project: Uuid) -> Self {
        Self {
            project,
            credentials: BTreeMap::new(),
            secrets: BTreeMap::new(),
            versions: Arc::default(),
            logins: Arc::default(),
            receivers: Vec::new(),
        }
    }

    /// The credentials that stop to be accepted at some time, with that time.
    pub fn expiries(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.credentials.values().filter_map(|one| Some((one.name.as_str(), one.expires_at?)))
    }
}

#[derive(Default)]
struct Inner {
    all: HashMap<ProjectName, Arc<Holdings>>,
    names: HashMap<Uuid, ProjectName>,
}

/// What is known of every project that has a row.
#[derive(Default)]
pub struct Vault {
    inner: Mutex<Inner>,
    /// Held from reading the database until what was read is known: of two who read, the later one has the last word.
    reading: tokio::sync::Mutex<()>,
}

impl Vault {
    /// What is known of a project; none if it has no row yet.
    pub fn of(&self, namespace: &str, project: &str) -> Option<Arc<Holdings>> {
        self.lock().all.get(&(namespace.to_owned(), project.to_owned())).cloned()
    }

    /// Reads one project again; says whether that is news. A project that is gone is forgotten.
    ///
    /// # Errors
    /// The database is away.
    pub async fn reread(
        &self,
        store: &Store,
        project: Uuid,
        is_watched: impl Fn(&str) -> bool,
    ) -> Result<Option<ProjectName>, StoreError> {
        let _reading = self.reading.lock().await;
        Ok(match store.vault_project(project).await? {
            Some(row) if is_watched(&row.namespace) => self.learn(row),
            Some(_) => None,
            None => self.forget(project),
        })
    }

    /// Reads the projects of a share again; says which are news.
    ///
    /// # Errors
    /// The database is away.
    pub async fn reread_all(&self, store: &Store, share: &Share) -> Result<Vec<ProjectName>, StoreError> {
        let _reading = self.reading.lock().await;
        Ok(self.learn_all(store.vault_load(share).await?))
    }

    /// Takes what was read of one project; says whether that is news.
    fn learn(&self, row: VaultProject) -> Option<ProjectName> {
        let name = (row.namespace.clone(), row.name.clone());
        let all = Holdings::from(row);
        let mut inner = self.lock();
        if inner.all.get(&name).is_some_and(|before| **before == all) {
            return None;
        }
        inner.names.insert(all.project, name.clone());
        inner.all.insert(name.clone(), Arc::new(all));
        Some(name)
    }

    /// The project with this row is gone.
    fn forget(&self, project: Uuid) -> Option<ProjectName> {
        let mut inner = self.lock();
        let name = inner.names.remove(&project)?;
        inner.all.remove(&name);
        Some(name)
    }

    /// Takes what was read of all projects; says which are news.
    pub fn learn_all(&self, rows: Vec<VaultProject>) -> Vec<ProjectName> {
        let known: HashSet<Uuid> = rows.iter().map(|row| row.id).collect();
        let gone: Vec<Uuid> = self.lock().names.keys().filter(|id| !known.contains(id)).copied().collect();
        let gone = gone.into_iter().filter_map(|id| self.forget(id)).collect::<Vec<_>>();
        rows.into_iter().filter_map(|row| self.learn(row)).chain(gone).collect()
    }

    /// The projects that receive webhooks.
    pub fn receiving(&self) -> Vec<ProjectName> {
        let inner = self.lock();
        inner.all.iter().filter(|(_, all)| !all.receivers.is_empty()).map(|(name, _)| name.clone()).collect()
    }

    /// Every credential with a date, as namespace, project, name and date.
    pub fn expiries(&self) -> Vec<(String, String, String, Timestamp)> {
        let inner = self.lock();
        let all = inner.all.iter().flat_map(|((namespace, project), all)| {
            all.expiries().map(|(name, at)| (namespace.clone(), project.clone(), name.to_owned(), at))
        });
        all.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u128, name: &str, stamp: i64) -> VaultProject {
        let secret = VaultSecret {
            secret: SecretId::for_all("KEY"),
            stamp,
            origin: "command line".into(),
            updated_by: "user:jane".into(),
        };
        VaultProject {
            id: Uuid::from_u128(number),
            namespace: "acme".into(),
            name: name.into(),
            credentials: Vec::new(),
            secrets: vec![secret],
            receivers: Vec::new(),
        }
    }

    fn name(project: &str) -> ProjectName {
        ("acme".to_owned(), project.to_owned())
    }

    #[test]
    fn only_news_are_news_and_what_is_gone_is_one() {
        let vault = Vault::default();
        assert_eq!(vault.learn_all(vec![row(1, "shop", 1), row(2, "blog", 1)]), [name("shop"), name("blog")]);
        assert_eq!(vault.learn(row(1, "shop", 1)), None);
        assert_eq!(vault.learn(row(1, "shop", 2)), Some(name("shop")));
        let held = vault.of("acme", "shop").expect("it is known");
        assert_eq!(held.versions.get(&SecretId::for_all("KEY")), Some(&2));
        assert_eq!(vault.learn_all(vec![row(1, "shop", 2)]), [name("blog")]);
        assert!(vault.of("acme", "blog").is_none());
        assert_eq!(vault.forget(Uuid::from_u128(9)), None);
    }
}
