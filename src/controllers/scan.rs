//! The image book's questions, put to real registries, as whoever the project says.

mod dates;
mod echo;
mod logins;

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

pub use self::echo::masked;
use self::logins::Logins;
use super::images::{About, Asked, Asker, LoginRef, Refusal, Reply, TagList};
use crate::{
    domain::{actor::Actor, clock::Clock, image::Repository},
    registry::{
        Access, Credential, HostSettings, Listing, RateLimit, Registry, RegistryError, RegistryOptions, Selector,
    },
    safe::{Owner, Safe, SafeError, login},
    store::{Store, StoreError, StoredRegistry},
};

/// Every registry, over one client.
#[derive(Clone)]
pub struct Registries {
    registry: Arc<Registry>,
    store: Store,
    safe: Option<Safe>,
    logins: Arc<Logins>,
    clock: Arc<dyn Clock>,
}

impl Registries {
    /// With the default deadlines and limits. Without a safe, nobody in particular asks.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(store: Store, safe: Option<Safe>, clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        let logins = Arc::new(Logins::new(clock.clone()));
        let registry = Arc::new(Registry::new(RegistryOptions::default(), clock.clone())?);
        Ok(Self { registry, store, safe, logins, clock })
    }

    /// Drops what was opened of a project: its credentials have changed.
    pub fn forget(&self, namespace: &str, project: &str) {
        self.logins.forget(namespace, project);
    }

    /// How single registries are spoken to from now on; says which of it cannot be used.
    pub fn configure(&self, settings: BTreeMap<String, HostSettings>) -> Vec<(String, RegistryError)> {
        self.registry.configure(settings)
    }

    async fn answer(&self, asked: &Asked) -> Result<Reply, Refusal> {
        let question = &*asked.question;
        let repository = &question.repository;
        let credential = match &question.login {
            None => Credential::Anonymous,
            Some(login) => {
                let host = repository.registry();
                self.logins.get(login, host, self.credential(login, repository)).await?
            }
        };
        let access = Access { credential, insecure: question.insecure };
        let answer = match &question.about {
            About::Tags => {
                let known = asked.validator.as_deref().and_then(|text| text.parse().ok());
                let listing = self.registry.list_tags(repository, &access, known.as_ref()).await;
                listing.map(|listing| match listing {
                    Listing::Unchanged => Reply::Unchanged,
                    Listing::Tags(tags) => {
                        let validator = tags.validator.as_ref().map(ToString::to_string);
                        Reply::Tags(tags.names.into_iter().collect::<TagList>(), validator)
                    }
                })
            }
            About::Tag(tag, platform) => {
                let found = self.registry.resolve(repository, Selector::Tag(tag), platform.as_ref(), &access).await;
                found.map(|resolved| Reply::Digest(resolved.digest))
            }
            About::Dates(platform) => self.dates(asked, platform.as_ref(), &access).await.map(Reply::Dates),
        };
        let is_early = |error: &RegistryError| {
            matches!(error, RegistryError::RateLimited { limit: RateLimit::Rate | RateLimit::Resting, .. })
        };
        if answer.as_ref().is_err_and(is_early) {
            return Ok(Reply::Later);
        }
        answer.map_err(|error| {
            if let (Some(login), RegistryError::Denied { .. }) = (&question.login, &error) {
                // Somebody may be correcting it: the next question is asked with what is stored then.
                self.logins.drop_if(login, repository.registry(), &access.credential);
            }
            Refusal {
                reason: error.reason(),
                message: masked(&error.to_string(), &access.credential),
                transient: error.is_transient(),
                retry_after: error.retry_after(),
            }
        })
    }

    /// Opened, and recorded.
    async fn credential(&self, of: &LoginRef, repository: &Repository) -> Result<Credential, Refusal> {
        let LoginRef { namespace, project, credential: name } = of;
        let Some(safe) = &self.safe else {
            return Err(refusal(
                "NoEncryptionKeys",
                true,
                format!(
                    "credential {name} cannot be opened: this operator has no encryption keys; set STAGEKEEPER_ENCRYPTION_KEYS"
                ),
            ));
        };
        let missing = || {
            refusal(
                "CredentialMissing",
                true,
                format!(
                    "project {project} has no credential {name}: store it with `stagekeeper credential set {project} {name} \
             --host {} --user NAME`",
                    repository.registry()
                ),
            )
        };
        let row = self.store.project_get(namespace, project).await.map_err(away)?.ok_or_else(missing)?;
        let owner = Owner { project: row.id, namespace, name: project };
        let purpose = format!("ask {} for tags", repository.registry());
        let value =
            safe.take(&owner, name, &Actor::Controller, &purpose).await.map_err(unopened)?.ok_or_else(missing)?;
        let found = login::for_host(&value, repository.registry());
        let found =
            found.map_err(|error| refusal("CredentialUnusable", false, format!("credential {name}: {error}")))?;
        match found {
            Some(login) => Ok(Credential::Basic { user: login.user, secret: login.secret }),
            None => Err(refusal(
                "CredentialForAnotherHost",
                true,
                format!(
                    "credential {name} of project {project} has no login for {}: it goes to the registries that it is for, and \
                 to no other; `stagekeeper credential show {project} {name}` lists them",
                    repository.registry()
                ),
            )),
        }
    }
}

/// What is stored about single registries, as the client takes it.
pub fn settings(stored: Vec<StoredRegistry>) -> BTreeMap<String, HostSettings> {
    let known = stored.into_iter().map(|StoredRegistry { settings, .. }| {
        let host = HostSettings {
            insecure: settings.insecure,
            ca_pem: settings.ca_pem,
            requests_per_second: settings.requests_per_second,
            token_realms: settings.token_realms,
        };
        (settings.host, host)
    });
    known.collect()
}

fn refusal(reason: &'static str, transient: bool, message: String) -> Refusal {
    Refusal { reason, message, transient, retry_after: None }
}

fn away(error: StoreError) -> Refusal {
    refusal(error.reason(), true, error.to_string())
}

fn unopened(error: SafeError) -> Refusal {
    match error {
        SafeError::Store(error) => away(error),
        other => refusal("CredentialUnusable", false, other.to_string()),
    }
}

impl Asker for Registries {
    fn ask(&self, asked: Asked) -> BoxFuture<'static, Result<Reply, Refusal>> {
        let registries = self.clone();
        async move { registries.answer(&asked).await }.boxed()
    }

    fn ready_at(&self, repository: &Repository) -> Option<Instant> {
        self.registry.ready_at(repository)
    }
}
