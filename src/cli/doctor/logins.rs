//! As whom registries are asked, where the keys and the database are at hand.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    cli::{database, owner::person},
    config::{
        self,
        settings::{DatabaseArgs, KeyArgs},
    },
    controllers::scan::settings,
    domain::clock::{SystemClock, SystemIds},
    registry::HostSettings,
    safe::{
        Owner, Safe, SafeError,
        login::{self, Login},
    },
    store::Store,
};

/// What credentials are opened for here.
const PURPOSE: &str = "doctor";

/// A credential of a Project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Whose {
    pub(super) namespace: String,
    pub(super) project: String,
    pub(super) credential: String,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential {} of Project {}/{}", self.credential, self.namespace, self.project)
    }
}

/// Why there is no login.
pub(super) enum Unable {
    /// Nothing can be opened here.
    Closed { why: String, next: String },
    /// The credential is not what it should be.
    Wrong { why: String, next: String },
}

/// The credentials, as far as they can be opened here.
pub(super) struct Logins {
    store: Option<Store>,
    safe: Option<Safe>,
}

impl Logins {
    /// Whatever is at hand. What is wrong with keys and database is found by the checks of their own.
    pub(super) async fn open(keys: &KeyArgs, arguments: &DatabaseArgs) -> Self {
        let store = database::connect(arguments).await.ok();
        let keyring = config::keyring(&keys.values()).ok();
        let safe = store
            .clone()
            .zip(keyring)
            .map(|(store, keyring)| Safe::new(store, Arc::new(keyring), Arc::new(SystemClock), Arc::new(SystemIds)));
        Self { store, safe }
    }

    /// What is set for single registries; nothing where that cannot be read.
    pub(super) async fn settings(&self) -> BTreeMap<String, HostSettings> {
        let Some(store) = &self.store else { return BTreeMap::new() };
        store.registries_list().await.map(settings).unwrap_or_default()
    }

    /// The login of a credential for exactly this registry. It is recorded who opened it.
    pub(super) async fn get(&self, whose: &Whose, host: &str) -> Result<Login, Unable> {
        let Whose { namespace, project, credential } = whose;
        let closed = |why: &str, next: &str| Unable::Closed { why: why.into(), next: next.into() };
        let Some(store) = &self.store else {
            return Err(closed("the database cannot be asked", "run doctor again when the database answers"));
        };
        let Some(safe) = &self.safe else {
            let next = "set STAGEKEEPER_ENCRYPTION_KEYS or STAGEKEEPER_ENCRYPTION_KEYS_FILE, as the operator has it";
            return Err(closed("there are no usable encryption keys here", next));
        };
        let set = format!("`stagekeeper credential set {project} {credential} --host {host} --user NAME` stores it");
        let wrong = |why: String| Unable::Wrong { why: format!("{whose} {why}"), next: set.clone() };
        let away = |error: &dyn fmt::Display| Unable::Closed { why: error.to_string(), next: String::new() };
        let Some(row) = store.project_get(namespace, project).await.map_err(|error| away(&error))? else {
            return Err(wrong("is not stored".into()));
        };
        let owner = Owner { project: row.id, namespace, name: project };
        let taken = safe.take(&owner, credential, &person(), PURPOSE).await.map_err(|error| match error {
            SafeError::Store(error) => away(&error),
            other => Unable::Wrong { why: format!("{whose}: {other}"), next: set.clone() },
        })?;
        let value = taken.ok_or_else(|| wrong("is not stored".into()))?;
        let found = login::for_host(&value, host).map_err(|error| wrong(format!("holds no logins: {error}")))?;
        found.ok_or_else(|| wrong(format!("has no login for {host}")))
    }
}
