//! Where webhooks are received: a random path for each that a project declares.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::json;
use uuid::Uuid;

use super::{Project, Store, StoreError};
use crate::domain::actor::Actor;

/// A webhook as a project declares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeclaredReceiver {
    /// Its name among the project's.
    pub name: String,
    /// Who sends to it.
    pub source: String,
    /// Names of the credentials that deliveries are signed with, either of them.
    pub credentials: Vec<String>,
    /// What images call the registry that sends, if it does not say so itself.
    pub registry: Option<String>,
}

/// A receiver for a declared webhook, should there be none yet. No `Debug`: who knows the token may send.
pub struct NewReceiver {
    /// Its identity.
    pub id: Uuid,
    /// The secret part of its path.
    pub token: String,
    /// What it is for.
    pub declared: DeclaredReceiver,
}

/// A receiver that a project has, with its path.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultReceiver {
    /// What it is for.
    pub declared: DeclaredReceiver,
    /// The secret part of its path.
    pub token: String,
    /// Until when the token before this one is good, if it still was when this was written.
    pub old_token_until: Option<Timestamp>,
}

/// Without the token: who knows it may send.
impl std::fmt::Debug for VaultReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultReceiver").field("declared", &self.declared).finish_non_exhaustive()
    }
}

/// A receiver that was found by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Its identity.
    pub id: Uuid,
    /// Whose it is.
    pub project: Project,
    /// What it is for.
    pub declared: DeclaredReceiver,
    /// Those of its credentials that there are, with their versions.
    pub secrets: Vec<(String, i64)>,
}

pub(super) struct Row {
    pub(super) project_id: Uuid,
    pub(super) name: String,
    pub(super) source: String,
    pub(super) credentials: Vec<String>,
    pub(super) registry: Option<String>,
    pub(super) token: String,
    pub(super) old_token_until: Option<SqlTimestamp>,
}

impl From<Row> for VaultReceiver {
    fn from(row: Row) -> Self {
        let Row { project_id: _, name, source, credentials, registry, token, old_token_until } = row;
        Self {
            declared: DeclaredReceiver { name, source, credentials, registry },
            token,
            old_token_until: old_token_until.map(SqlTimestamp::to_jiff),
        }
    }
}

impl Store {
    /// The receiver with the path that has this hash, if there is one: that of its token, or of the one before for as long
    /// as that is good.
    pub async fn receiver_find(&self, token_hash: &[u8], now: Timestamp) -> Result<Option<Receiver>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT receiver.id, project_id, namespace, projects.name AS project, receiver.name, source, credentials,
                      registry,
                      ARRAY(SELECT name FROM credentials AS secret
                            WHERE secret.project_id = receiver.project_id AND secret.name = ANY(receiver.credentials)
                                AND kind = 'webhook' AND secret.deleted_at IS NULL ORDER BY name) AS "names!",
                      ARRAY(SELECT version FROM credentials AS secret
                            WHERE secret.project_id = receiver.project_id AND secret.name = ANY(receiver.credentials)
                                AND kind = 'webhook' AND secret.deleted_at IS NULL ORDER BY name) AS "versions!"
               FROM webhook_receivers AS receiver JOIN projects ON projects.id = project_id
               WHERE (token_hash = $1 OR (old_token_hash = $1 AND old_token_until > $2))
                   AND receiver.deleted_at IS NULL AND projects.deleted_at IS NULL"#,
            token_hash,
            now.to_sqlx() as SqlTimestamp
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(row.map(|row| Receiver {
            id: row.id,
            project: Project { id: row.project_id, namespace: row.namespace, name: row.project },
            declared: DeclaredReceiver {
                name: row.name,
                source: row.source,
                credentials: row.credentials,
                registry: row.registry,
            },
            secrets: row.names.into_iter().zip(row.versions).collect(),
        }))
    }

    /// The receivers of a project, by name.
    pub async fn receivers_list(&self, project: Uuid) -> Result<Vec<VaultReceiver>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT project_id, name, source, credentials, registry, token,
                      old_token_until AS "old_token_until: SqlTimestamp"
               FROM webhook_receivers WHERE project_id = $1 AND deleted_at IS NULL ORDER BY name"#,
            project
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(VaultReceiver::from).collect())
    }

    /// Makes these the receivers of a project, and no others; audited. One that was there before keeps its path, however
    /// long it was not declared. Says how many changed.
    pub async fn receivers_declare(
        &self,
        project: Uuid,
        receivers: &[NewReceiver],
        actor: &Actor,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let declared: Vec<_> = receivers
            .iter()
            .map(|NewReceiver { id, token, declared }| {
                json!({"id": id, "token": token, "name": declared.name, "source": declared.source,
                       "credentials": declared.credentials, "registry": declared.registry})
            })
            .collect();
        let done = sqlx::query!(
            "WITH declared AS (
                 SELECT * FROM jsonb_to_recordset($2::jsonb)
                     AS one (id uuid, name text, source text, credentials text[], registry text, token text)
             ), put AS (
                 INSERT INTO webhook_receivers AS known (id, project_id, name, source, credentials, registry, token)
                 SELECT id, $1, name, source, credentials, registry, token FROM declared WHERE leads($5, $6)
                 ON CONFLICT (project_id, name) DO UPDATE
                 SET source = excluded.source, credentials = excluded.credentials, registry = excluded.registry,
                     deleted_at = NULL
                 WHERE (known.source, known.credentials, known.registry, known.deleted_at)
                     IS DISTINCT FROM (excluded.source, excluded.credentials, excluded.registry, NULL::timestamptz)
                 RETURNING id, name, source, credentials, registry
             ), gone AS (
                 UPDATE webhook_receivers SET deleted_at = $3
                 WHERE project_id = $1 AND deleted_at IS NULL AND leads($5, $6)
                     AND NOT EXISTS (SELECT FROM declared WHERE declared.name = webhook_receivers.name)
                 RETURNING id, name
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $3, $4, 'webhook.put', 'webhook/' || id,
                    jsonb_build_object('project', $1::uuid, 'name', name, 'source', source, 'credentials', credentials,
                                       'registry', registry)
             FROM put
             UNION ALL
             SELECT $3, $4, 'webhook.delete', 'webhook/' || id, jsonb_build_object('project', $1::uuid, 'name', name)
             FROM gone",
            project,
            serde_json::Value::Array(declared),
            now.to_sqlx() as SqlTimestamp,
            actor.to_string(),
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }

    /// Gives a receiver a new token; the one before is good until `keep`, or no longer. Audited. False when there is no
    /// such receiver.
    pub async fn receiver_rotate(
        &self,
        project: Uuid,
        name: &str,
        token: &str,
        keep: Option<Timestamp>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH put AS (
                 UPDATE webhook_receivers
                 SET old_token_hash = CASE WHEN $4::timestamptz IS NULL THEN NULL ELSE token_hash END,
                     old_token_until = $4, token = $3
                 WHERE project_id = $1 AND name = $2 AND deleted_at IS NULL AND leads($7, $8)
                 RETURNING id
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $5, $6, 'webhook.rotate', 'webhook/' || id,
                    jsonb_build_object('project', $1::uuid, 'name', $2::text, 'oldUntil', $4::timestamptz)
             FROM put",
            project,
            name,
            token,
            keep.map(|at| at.to_sqlx()) as Option<SqlTimestamp>,
            now.to_sqlx() as SqlTimestamp,
            actor.to_string(),
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }
}
