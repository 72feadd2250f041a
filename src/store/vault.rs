//! What there is in the safe, without any value: read whole at the start, then project by project as Postgres tells of
//! changes.

use std::{collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::postgres::{PgListener, PgNotification};
use uuid::Uuid;

use super::{
    Project, Store, StoreError, VaultReceiver, receivers,
    secrets::{secret_id, stamp_of},
};
use crate::domain::{
    credential::CredentialKind,
    secret::{SecretId, SecretVersions},
    share::Share,
};

/// What the triggers of the migrations tell on.
const CHANNEL: &str = "stagekeeper_vault";

/// A listener that heard nothing for so long asks whether it is still connected: a connection that ends without a word
/// looks like one on which nothing happens.
const SILENCE: Duration = Duration::from_secs(20);

/// What a project has in the safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultProject {
    /// Identity.
    pub id: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its credentials by name.
    pub credentials: Vec<VaultCredential>,
    /// Its secrets, those for all services first, by name.
    pub secrets: Vec<VaultSecret>,
    /// Where it receives webhooks, by name.
    pub receivers: Vec<VaultReceiver>,
}

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultCredential {
    /// Its name among the project's.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    /// Which value it has, as [`stamp`] says.
    pub stamp: i64,
    /// What it is for.
    pub kind: CredentialKind,
    /// The registries that it is for.
    pub hosts: Vec<String>,
    /// When it stops to be accepted, as far as anybody knows.
    pub expires_at: Option<Timestamp>,
    /// Where its value came from.
    pub origin: String,
    /// Who wrote it last.
    pub updated_by: String,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecret {
    /// Its name, and the service that it is for.
    pub secret: SecretId,
    /// Which value it has, as [`stamp`] says.
    pub stamp: i64,
    /// Where its value came from.
    pub origin: String,
    /// Who wrote it last.
    pub updated_by: String,
}

impl VaultProject {
    /// Which value each of its secrets has.
    pub fn versions(&self) -> SecretVersions {
        self.secrets.iter().map(|one| (one.secret.clone(), one.stamp)).collect()
    }
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultChange {
    /// Something of this project, or the project itself.
    Project(Uuid),
    /// How registries are spoken to.
    Registries,
    /// A webhook was received, and waits to be worked on.
    Inbox,
    /// Somebody asked something of a stage.
    Requests,
    /// Somebody wants this environment awake.
    Environment(Uuid),
    /// Somebody accepted the listing of the question with this key.
    Accepted(String),
    /// A webhook of another share said that there is news of the images in this repository.
    Hint {
        /// The epoch of the leader that tells it.
        epoch: i64,
        /// The repository.
        repository: String,
    },
    /// Nobody knows: the connection was lost and has been made anew. Everything is to be read again.
    Unheard,
}

/// Hears of changes as they are committed. It has a connection of its own beside the pool.
pub struct VaultChanges {
    store: Store,
    /// None while the connection is lost.
    listener: Option<PgListener>,
    silence: Duration,
}

impl fmt::Debug for VaultChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultChanges").field("connected", &self.listener.is_some()).finish_non_exhaustive()
    }
}

struct CredentialRow {
    project_id: Uuid,
    name: String,
    id: Uuid,
    version: i64,
    kind: String,
    hosts: Vec<String>,
    expires_at: Option<SqlTimestamp>,
    origin: String,
    updated_by: String,
    updated_at: SqlTimestamp,
}

impl TryFrom<CredentialRow> for VaultCredential {
    type Error = StoreError;

    fn try_from(row: CredentialRow) -> Result<Self, StoreError> {
        Ok(Self {
            kind: row.kind.parse().map_err(|why| StoreError::corrupt("credential", &row.id, &why))?,
            name: row.name,
            id: row.id,
            stamp: stamp_of(row.version, row.updated_at.to_jiff()),
            hosts: row.hosts,
            expires_at: row.expires_at.map(SqlTimestamp::to_jiff),
            origin: row.origin,
            updated_by: row.updated_by,
        })
    }
}

struct SecretRow {
    project_id: Uuid,
    service: String,
    name: String,
    version: i64,
    origin: String,
    updated_by: String,
    updated_at: SqlTimestamp,
}

impl From<SecretRow> for VaultSecret {
    fn from(row: SecretRow) -> Self {
        Self {
            secret: secret_id(row.service, row.name),
            stamp: stamp_of(row.version, row.updated_at.to_jiff()),
            origin: row.origin,
            updated_by: row.updated_by,
        }
    }
}

impl Store {
    /// What every project of this share has, without values. Four
    /// statements, however many projects there are. Begin to listen first ([`Store::vault_changes`]), so that nothing is
    /// missed between the two.
    pub async fn vault_load(&self, share: &Share) -> Result<Vec<VaultProject>, StoreError> {
        let projects = sqlx::query_as!(
            Project,
            "SELECT id, namespace, name FROM projects
             WHERE deleted_at IS NULL AND in_share(namespace, $1, $2, $3) ORDER BY namespace, name",
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let credentials = sqlx::query_as!(
            CredentialRow,
            r#"SELECT project_id, credentials.name, credentials.id, version, kind, hosts,
                      expires_at AS "expires_at: SqlTimestamp", origin, updated_by,
                      credentials.updated_at AS "updated_at: SqlTimestamp"
               FROM credentials JOIN projects ON projects.id = project_id
               WHERE credentials.deleted_at IS NULL AND projects.deleted_at IS NULL
                   AND in_share(namespace, $1, $2, $3)
               ORDER BY credentials.name"#,
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let secrets = sqlx::query_as!(
            SecretRow,
            r#"SELECT project_id, service, secrets.name, version, origin, updated_by,
                      secrets.updated_at AS "updated_at: SqlTimestamp"
             FROM secrets JOIN projects ON projects.id = project_id
             WHERE secrets.deleted_at IS NULL AND projects.deleted_at IS NULL
                 AND in_share(namespace, $1, $2, $3)
             ORDER BY service, secrets.name"#,
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let receivers = sqlx::query_as!(
            receivers::Row,
            r#"SELECT project_id, receiver.name, source, credentials, registry, token,
                      old_token_until AS "old_token_until: SqlTimestamp"
               FROM webhook_receivers AS receiver JOIN projects ON projects.id = project_id
               WHERE receiver.deleted_at IS NULL AND projects.deleted_at IS NULL
                   AND in_share(namespace, $1, $2, $3)
               ORDER BY receiver.name"#,
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let mut all = together(projects, credentials, secrets)?;
        let places: HashMap<Uuid, usize> = all.iter().zip(0..).map(|(project, at)| (project.id, at)).collect();
        for row in receivers {
            if let Some(at) = places.get(&row.project_id) {
                all[*at].receivers.push(row.into());
            }
        }
        Ok(all)
    }

    /// What one project has, without values; None when there is no such project, or it is deleted.
    pub async fn vault_project(&self, id: Uuid) -> Result<Option<VaultProject>, StoreError> {
        let project = sqlx::query_as!(
            Project,
            "SELECT id, namespace, name FROM projects WHERE id = $1 AND deleted_at IS NULL",
            id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let Some(project) = project else { return Ok(None) };
        let credentials = sqlx::query_as!(
            CredentialRow,
            r#"SELECT project_id, name, id, version, kind, hosts, expires_at AS "expires_at: SqlTimestamp", origin, updated_by,
                      updated_at AS "updated_at: SqlTimestamp"
               FROM credentials WHERE project_id = $1 AND deleted_at IS NULL ORDER BY name"#,
            id
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let secrets = sqlx::query_as!(
            SecretRow,
            r#"SELECT project_id, service, name, version, origin, updated_by, updated_at AS "updated_at: SqlTimestamp"
             FROM secrets
             WHERE project_id = $1 AND deleted_at IS NULL ORDER BY service, name"#,
            id
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let receivers = self.receivers_list(id).await?;
        Ok(together(vec![project], credentials, secrets)?.pop().map(|project| VaultProject { receivers, ..project }))
    }

    /// Tells all leaders of news of the images in these repositories.
    ///
    /// # Errors
    /// The database is away; somebody else leads.
    pub async fn hints_tell(&self, repositories: &[String]) -> Result<(), StoreError> {
        sqlx::query!(
            r#"SELECT count(pg_notify($1, 'hint ' || $3::bigint || ' ' || repository)) AS "told!"
               FROM unnest($2::text[]) AS repository WHERE leads($4, $3)"#,
            CHANNEL,
            repositories,
            self.epoch().unwrap_or_default(),
            self.lease()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Begins to listen for changes.
    ///
    /// # Errors
    /// The database is away.
    pub async fn vault_changes(&self) -> Result<VaultChanges, StoreError> {
        self.vault_changes_after(SILENCE).await
    }

    /// [`Store::vault_changes`] that asks for its connection after so long a silence.
    ///
    /// # Errors
    /// The database is away.
    pub async fn vault_changes_after(&self, silence: Duration) -> Result<VaultChanges, StoreError> {
        let mut changes = VaultChanges { store: self.clone(), listener: None, silence };
        changes.connect().await?;
        Ok(changes)
    }
}

impl VaultChanges {
    /// Waits for the next change. Nothing is lost when it is given up halfway.
    ///
    /// # Errors
    /// The connection is lost and the database is away: call again after a while, until it says
    /// [`VaultChange::Unheard`].
    pub async fn next(&mut self) -> Result<VaultChange, StoreError> {
        loop {
            let Some(listener) = &mut self.listener else {
                self.connect().await?;
                return Ok(VaultChange::Unheard);
            };
            match tokio::time::timeout(self.silence, listener.try_recv()).await {
                Ok(Ok(Some(told))) => return Ok(change(&told)),
                Ok(Ok(None)) => self.listener = None,
                Ok(Err(error)) => {
                    tracing::debug!(error = %self.store.fault(error), "the listener's connection is lost");
                    self.listener = None;
                }
                Err(_) => {
                    let patience = self.store.pool.options().get_acquire_timeout();
                    let asked = sqlx::query("SELECT 1").execute(&mut *listener);
                    if !matches!(tokio::time::timeout(patience, asked).await, Ok(Ok(_))) {
                        self.listener = None;
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        let store = &self.store;
        // A pool of one, made like the store's own: the listener keeps its connection for good, and takes none from others.
        let options = store.pool.options().clone().min_connections(0).max_connections(1).max_lifetime(None);
        let own = options.connect_lazy_with((*store.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await.map_err(|error| store.fault(error))?;
        // What is lost is told, not mended in silence.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(|error| store.fault(error))?;
        self.listener = Some(listener);
        Ok(())
    }
}

/// What a word on the channel means. One that is unknown comes from a newer version of the schema.
fn change(told: &PgNotification) -> VaultChange {
    match told.payload() {
        "registries" => VaultChange::Registries,
        "inbox" => VaultChange::Inbox,
        "requests" => VaultChange::Requests,
        word => match word.split_once(' ') {
            Some(("scan", key)) => VaultChange::Accepted(key.to_owned()),
            Some(("hint", told)) => hint(told).unwrap_or(VaultChange::Unheard),
            Some(("environment", id)) => id.parse().map_or(VaultChange::Unheard, VaultChange::Environment),
            _ => word.parse().map_or(VaultChange::Unheard, VaultChange::Project),
        },
    }
}

fn hint(told: &str) -> Option<VaultChange> {
    let (epoch, repository) = told.split_once(' ')?;
    Some(VaultChange::Hint { epoch: epoch.parse().ok()?, repository: repository.to_owned() })
}

/// Each project with what is its own. What belongs to none of them came after they were read.
fn together(
    projects: Vec<Project>,
    credentials: Vec<CredentialRow>,
    secrets: Vec<SecretRow>,
) -> Result<Vec<VaultProject>, StoreError> {
    let places: HashMap<Uuid, usize> = projects.iter().zip(0..).map(|(project, at)| (project.id, at)).collect();
    let bare = |Project { id, namespace, name }| VaultProject {
        id,
        namespace,
        name,
        credentials: Vec::new(),
        secrets: Vec::new(),
        receivers: Vec::new(),
    };
    let mut all: Vec<VaultProject> = projects.into_iter().map(bare).collect();
    for row in credentials {
        if let Some(at) = places.get(&row.project_id) {
            all[*at].credentials.push(row.try_into()?);
        }
    }
    for row in secrets {
        if let Some(at) = places.get(&row.project_id) {
            all[*at].secrets.push(row.into());
        }
    }
    Ok(all)
}
