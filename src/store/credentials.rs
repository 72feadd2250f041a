//! Credentials: what Stagekeeper itself logs in with. Values come and go sealed; nothing here can open them.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Store, StoreError, encryption_keys::key_id};
use crate::{
    crypto::{Sealed, Wrapped},
    domain::{actor::Actor, credential::CredentialKind},
};

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Identity: kept over every new value, and when a deleted name comes back.
    pub id: Uuid,
    /// Its name among the project's.
    pub name: String,
    /// What it is for.
    pub kind: CredentialKind,
    /// How many times it was written.
    pub version: i64,
    /// The registries that it is for.
    pub hosts: Vec<String>,
    /// Where its value came from.
    pub origin: String,
    /// When it stops to be accepted, as far as anybody knows.
    pub expires_at: Option<Timestamp>,
    /// Who made it.
    pub created_by: String,
    /// Who wrote it last.
    pub updated_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was written last.
    pub updated_at: Timestamp,
    /// When it was opened last.
    pub last_used_at: Option<Timestamp>,
}

/// What a credential becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// Its identity: a new one, or that of the row that has the name.
    pub id: Uuid,
    /// Its project.
    pub project: Uuid,
    /// Its name among the project's.
    pub name: String,
    /// What it is for.
    pub kind: CredentialKind,
    /// One more than the row's, 1 if there is none.
    pub version: i64,
    /// Its value, sealed for this row and version.
    pub sealed: Sealed,
    /// The registries that it is for.
    pub hosts: Vec<String>,
    /// Where its value came from.
    pub origin: String,
    /// When it stops to be accepted, as far as anybody knows.
    pub expires_at: Option<Timestamp>,
    /// Who writes it.
    pub actor: Actor,
}

/// Identity and version of the row that has a name, deleted or not: what the next value is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialSlot {
    /// Its identity.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
}

/// A credential with its value, sealed, and what that is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCredential {
    /// Its name among the project's.
    pub name: String,
    /// Its identity and version.
    pub slot: CredentialSlot,
    /// What it is for.
    pub kind: CredentialKind,
    /// The registries that it is for.
    pub hosts: Vec<String>,
    /// Where its value came from.
    pub origin: String,
    /// When it stops to be accepted, as far as anybody knows.
    pub expires_at: Option<Timestamp>,
    /// Its value.
    pub sealed: Sealed,
}

/// That a credential was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialUse {
    /// Which one.
    pub credential: Uuid,
    /// Its version then.
    pub version: i64,
    /// By whom.
    pub actor: String,
    /// What for.
    pub purpose: String,
    /// When.
    pub at: Timestamp,
}

struct Row {
    id: Uuid,
    name: String,
    kind: String,
    version: i64,
    hosts: Vec<String>,
    origin: String,
    expires_at: Option<SqlTimestamp>,
    created_by: String,
    updated_by: String,
    created_at: SqlTimestamp,
    updated_at: SqlTimestamp,
    last_used_at: Option<SqlTimestamp>,
}

impl TryFrom<Row> for Credential {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let kind = row.kind.parse().map_err(|why| StoreError::corrupt("credential", &row.id, &why))?;
        Ok(Self {
            id: row.id,
            name: row.name,
            kind,
            version: row.version,
            hosts: row.hosts,
            origin: row.origin,
            expires_at: row.expires_at.map(SqlTimestamp::to_jiff),
            created_by: row.created_by,
            updated_by: row.updated_by,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
            last_used_at: row.last_used_at.map(SqlTimestamp::to_jiff),
        })
    }
}

impl Store {
    /// The project's credentials by name. A project has a handful.
    pub async fn credentials_list(&self, project: Uuid) -> Result<Vec<Credential>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT id, name, kind, version, hosts, origin, expires_at AS "expires_at: SqlTimestamp", created_by,
                      updated_by, created_at AS "created_at: SqlTimestamp", updated_at AS "updated_at: SqlTimestamp",
                      last_used_at AS "last_used_at: SqlTimestamp"
               FROM credentials WHERE project_id = $1 AND deleted_at IS NULL ORDER BY name"#,
            project
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(Credential::try_from).collect()
    }

    /// The sealed values of these credentials, with what each is bound to; names that the project has not are left out.
    pub async fn credentials_sealed(&self, project: Uuid, names: &[&str]) -> Result<Vec<SealedCredential>, StoreError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let rows = sqlx::query!(
            r#"SELECT id, name, kind, version, hosts, origin, expires_at AS "expires_at: SqlTimestamp", key_id AS "key_id!",
                      wrapped_key AS "wrapped_key!", body AS "body!"
               FROM credentials WHERE project_id = $1 AND name = ANY($2) AND deleted_at IS NULL"#,
            project,
            &names
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| {
            let wrapped = Wrapped { key: key_id(&row.key_id)?, bytes: row.wrapped_key };
            Ok(SealedCredential {
                kind: row.kind.parse().map_err(|why| StoreError::corrupt("credential", &row.id, &why))?,
                name: row.name,
                slot: CredentialSlot { id: row.id, version: row.version },
                hosts: row.hosts,
                origin: row.origin,
                expires_at: row.expires_at.map(SqlTimestamp::to_jiff),
                sealed: Sealed { wrapped, body: row.body },
            })
        });
        rows.collect()
    }

    /// The row that has a name, deleted or not.
    pub async fn credential_slot(&self, project: Uuid, name: &str) -> Result<Option<CredentialSlot>, StoreError> {
        sqlx::query_as!(
            CredentialSlot,
            "SELECT id, version FROM credentials WHERE project_id = $1 AND name = $2",
            project,
            name
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// Writes a value: compare and set on the version, with its entry in the audit log in the same statement.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else wrote it meanwhile: seal it for the version after theirs.
    pub async fn credential_put(&self, new: &NewCredential, now: Timestamp) -> Result<(), StoreError> {
        let done = sqlx::query!(
            "WITH put AS (
                 INSERT INTO credentials AS known (id, project_id, name, kind, version, key_id, wrapped_key, body, hosts,
                                                   origin, expires_at, created_by, updated_by)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12 WHERE leads($13, $14)
                 ON CONFLICT (project_id, name) DO UPDATE
                 SET kind = excluded.kind, version = excluded.version, key_id = excluded.key_id,
                     wrapped_key = excluded.wrapped_key, body = excluded.body, hosts = excluded.hosts,
                     origin = excluded.origin, expires_at = excluded.expires_at, updated_by = excluded.updated_by,
                     deleted_at = NULL
                 WHERE known.id = excluded.id AND known.version = excluded.version - 1
                 RETURNING id, version
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $15, $12, 'credential.put', 'credential/' || id,
                    jsonb_build_object('project', $2::uuid, 'name', $3::text, 'kind', $4::text, 'version', version,
                                       'origin', $10::text, 'hosts', to_jsonb($9::text[])) || $16
             FROM put",
            new.id,
            new.project,
            new.name,
            new.kind.word(),
            new.version,
            new.sealed.key().as_str(),
            new.sealed.wrapped.bytes,
            new.sealed.body,
            &new.hosts,
            new.origin,
            new.expires_at.map(|at| at.to_sqlx()) as Option<SqlTimestamp>,
            new.actor.to_string(),
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp,
            self.noted()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if done.rows_affected() == 1 {
            Ok(())
        } else {
            Err(StoreError::Conflict(format!("credential {} was written by somebody else meanwhile", new.name)))
        }
    }

    /// Says where a value came from that is what it was: compare and set on the version, audited. False when the row was
    /// written meanwhile.
    pub async fn credential_origin_put(
        &self,
        slot: CredentialSlot,
        origin: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH put AS (
                 UPDATE credentials SET origin = $3, updated_by = $4
                 WHERE id = $1 AND version = $2 AND deleted_at IS NULL AND leads($5, $6)
                 RETURNING id, project_id, name, version
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $7, $4, 'credential.origin', 'credential/' || id,
                    jsonb_build_object('project', project_id, 'name', name, 'version', version, 'origin', $3::text) || $8
             FROM put",
            slot.id,
            slot.version,
            origin,
            actor.to_string(),
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp,
            self.noted()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes a credential: its value is gone at once, who had it and when stays. False when there is none.
    pub async fn credential_delete(
        &self,
        project: Uuid,
        name: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH gone AS (
                 UPDATE credentials SET key_id = NULL, wrapped_key = NULL, body = NULL, deleted_at = $3, updated_by = $4
                 WHERE project_id = $1 AND name = $2 AND deleted_at IS NULL AND leads($5, $6)
                 RETURNING id, version
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $3, $4, 'credential.delete', 'credential/' || id,
                    jsonb_build_object('project', $1::uuid, 'name', $2::text, 'version', version) || $7
             FROM gone",
            project,
            name,
            now.to_sqlx() as SqlTimestamp,
            actor.to_string(),
            self.lease(),
            self.epoch(),
            self.noted()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }
}
