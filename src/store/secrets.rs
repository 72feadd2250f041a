//! Secrets: values that a project's workloads get, one row per version. Values come and go sealed; nothing here can open
//! them.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Store, StoreError, encryption_keys::key_id};
use crate::{
    crypto::{Sealed, Wrapped},
    domain::{
        actor::Actor,
        secret::{SecretId, stamp},
    },
};

/// Versions of a secret that are kept, the newest of them in use.
pub const KEPT_VERSIONS: i64 = 20;

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Identity: kept over every new value, and when a deleted name comes back.
    pub id: Uuid,
    /// Its name, and the service that it is for.
    pub secret: SecretId,
    /// How many times it was written.
    pub version: i64,
    /// Where its value came from.
    pub origin: String,
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

/// What a secret becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// Its identity: a new one, or that of the row that has the name.
    pub id: Uuid,
    /// Its project.
    pub project: Uuid,
    /// Its name, and the service that it is for.
    pub secret: SecretId,
    /// One more than the row's, 1 if there is none.
    pub version: i64,
    /// Identity of the row that the value is sealed for: always a new one.
    pub value: Uuid,
    /// Its value, sealed for that row.
    pub sealed: Sealed,
    /// Where its value came from.
    pub origin: String,
    /// Who writes it.
    pub actor: Actor,
}

/// Identity and version of the row that has a name, deleted or not: what the next value is written over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSlot {
    /// Its name, and the service that it is for.
    pub secret: SecretId,
    /// Its identity.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
    /// Where its value came from.
    pub origin: String,
}

/// One version of a secret, sealed, with what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Its name, and the service that it is for.
    pub secret: SecretId,
    /// Identity of the secret.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
    /// Identity of the row that the value is sealed for.
    pub value: Uuid,
    /// When it was written.
    pub created_at: Timestamp,
    /// Its value.
    pub sealed: Sealed,
}

impl SealedSecret {
    /// Which value it is.
    pub fn stamp(&self) -> i64 {
        stamp_of(self.version, self.created_at)
    }
}

/// That a secret was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Which one.
    pub secret: Uuid,
    /// The version that was opened.
    pub version: i64,
    /// By whom.
    pub actor: String,
    /// What for.
    pub purpose: String,
    /// When.
    pub at: Timestamp,
}

/// A secret's name and service as their columns hold them.
pub(super) fn secret_id(service: String, name: String) -> SecretId {
    SecretId { name, service: Some(service).filter(|service| !service.is_empty()) }
}

/// Which value a version is: the moment at which it was written is its own. The row of a secret and that of its value have
/// the same one, because one transaction wrote both.
pub(super) fn stamp_of(version: i64, written: Timestamp) -> i64 {
    stamp(version, written.as_microsecond().cast_unsigned())
}

/// The column `service` of a secret.
fn service(secret: &SecretId) -> String {
    secret.service.clone().unwrap_or_default()
}

impl Store {
    /// The project's secrets, those for all services first, by name.
    pub async fn secrets_list(&self, project: Uuid) -> Result<Vec<Secret>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT id, service, name, version, origin, created_by, updated_by,
                      created_at AS "created_at: SqlTimestamp", updated_at AS "updated_at: SqlTimestamp",
                      last_used_at AS "last_used_at: SqlTimestamp"
               FROM secrets WHERE project_id = $1 AND deleted_at IS NULL ORDER BY service, name"#,
            project
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| Secret {
            id: row.id,
            secret: secret_id(row.service, row.name),
            version: row.version,
            origin: row.origin,
            created_by: row.created_by,
            updated_by: row.updated_by,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
            last_used_at: row.last_used_at.map(SqlTimestamp::to_jiff),
        });
        Ok(rows.collect())
    }

    /// The rows that have these names, deleted or not; names without a row are left out.
    pub async fn secret_slots(&self, project: Uuid, secrets: &[SecretId]) -> Result<Vec<SecretSlot>, StoreError> {
        let services: Vec<String> = secrets.iter().map(service).collect();
        let names: Vec<String> = secrets.iter().map(|secret| secret.name.clone()).collect();
        let rows = sqlx::query!(
            "SELECT known.id, known.service, known.name, known.version, known.origin
             FROM unnest($2::text[], $3::text[]) AS wanted (service, name)
             JOIN secrets AS known
                 ON known.project_id = $1 AND known.service = wanted.service AND known.name = wanted.name",
            project,
            &services,
            &names
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| SecretSlot {
            secret: secret_id(row.service, row.name),
            id: row.id,
            version: row.version,
            origin: row.origin,
        });
        Ok(rows.collect())
    }

    /// The sealed values of these versions, with what each is bound to; versions that are gone are left out.
    pub async fn secret_sealed(
        &self,
        project: Uuid,
        versions: &[(SecretId, i64)],
    ) -> Result<Vec<SealedSecret>, StoreError> {
        let services: Vec<String> = versions.iter().map(|(secret, _)| service(secret)).collect();
        let names: Vec<String> = versions.iter().map(|(secret, _)| secret.name.clone()).collect();
        let numbers: Vec<i64> = versions.iter().map(|(_, version)| *version).collect();
        let rows = sqlx::query!(
            r#"SELECT secrets.id, secrets.service, secrets.name, value.id AS value, value.version,
                      value.key_id AS "key_id!", value.wrapped_key AS "wrapped_key!", value.body AS "body!",
                      value.created_at AS "created_at: SqlTimestamp"
               FROM unnest($2::text[], $3::text[], $4::bigint[]) AS wanted (service, name, version)
               JOIN secrets
                   ON secrets.project_id = $1 AND secrets.service = wanted.service AND secrets.name = wanted.name
               JOIN secret_versions AS value ON value.secret_id = secrets.id AND value.version = wanted.version
               WHERE secrets.deleted_at IS NULL AND value.key_id IS NOT NULL"#,
            project,
            &services,
            &names,
            &numbers
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| {
            let wrapped = Wrapped { key: key_id(&row.key_id)?, bytes: row.wrapped_key };
            Ok(SealedSecret {
                secret: secret_id(row.service, row.name),
                id: row.id,
                version: row.version,
                value: row.value,
                created_at: row.created_at.to_jiff(),
                sealed: Sealed { wrapped, body: row.body },
            })
        });
        rows.collect()
    }

    /// Writes values, all or none: compare and set on each version, with their entries in the audit log in the same
    /// statement. Versions that are older than the newest [`KEPT_VERSIONS`] go.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when somebody else wrote one of them meanwhile: seal them for the versions after theirs.
    pub async fn secrets_put(&self, new: &[NewSecret], now: Timestamp) -> Result<(), StoreError> {
        // Whoever writes several locks their rows in one order, so that nobody waits in a circle.
        let mut new: Vec<&NewSecret> = new.iter().collect();
        new.sort_by(|one, other| one.secret.cmp(&other.secret));
        let mut all = self.pool.begin().await.map_err(|error| self.fault(error))?;
        let done = sqlx::query!(
            "WITH new AS (
                 SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::uuid[], $7::text[],
                                      $8::bytea[], $9::bytea[], $10::text[], $11::text[])
                     AS new (id, project_id, service, name, version, value, key_id, wrapped_key, body, origin, actor)
             ), put AS (
                 INSERT INTO secrets AS known (id, project_id, service, name, version, origin, created_by, updated_by)
                 SELECT id, project_id, service, name, version, origin, actor, actor FROM new
                 WHERE (SELECT leads($12, $13))
                 ON CONFLICT (project_id, service, name) DO UPDATE
                 SET version = excluded.version, origin = excluded.origin, updated_by = excluded.updated_by,
                     deleted_at = NULL
                 WHERE known.id = excluded.id AND known.version = excluded.version - 1
                 RETURNING id
             ), kept AS (
                 INSERT INTO secret_versions (id, secret_id, version, key_id, wrapped_key, body, created_by)
                 SELECT value, id, version, key_id, wrapped_key, body, actor FROM new JOIN put USING (id)
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $14, actor, 'secret.put', 'secret/' || id,
                    jsonb_build_object('project', project_id, 'service', service, 'name', name, 'version', version,
                                       'origin', origin) || $15
             FROM new JOIN put USING (id)",
            &new.iter().map(|one| one.id).collect::<Vec<_>>(),
            &new.iter().map(|one| one.project).collect::<Vec<_>>(),
            &new.iter().map(|one| service(&one.secret)).collect::<Vec<_>>(),
            &new.iter().map(|one| one.secret.name.clone()).collect::<Vec<_>>(),
            &new.iter().map(|one| one.version).collect::<Vec<_>>(),
            &new.iter().map(|one| one.value).collect::<Vec<_>>(),
            &new.iter().map(|one| one.sealed.key().to_string()).collect::<Vec<_>>(),
            &new.iter().map(|one| one.sealed.wrapped.bytes.clone()).collect::<Vec<_>>(),
            &new.iter().map(|one| one.sealed.body.clone()).collect::<Vec<_>>(),
            &new.iter().map(|one| one.origin.clone()).collect::<Vec<_>>(),
            &new.iter().map(|one| one.actor.to_string()).collect::<Vec<_>>(),
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp,
            self.noted()
        )
        .execute(&mut *all)
        .await
        .map_err(|error| self.fault(error))?;
        if usize::try_from(done.rows_affected()) != Ok(new.len()) {
            return Err(StoreError::Conflict("a secret was written by somebody else meanwhile".into()));
        }
        sqlx::query!(
            "DELETE FROM secret_versions AS old USING unnest($1::uuid[], $2::bigint[]) AS new (id, version)
             WHERE old.secret_id = new.id AND old.version <= new.version - $3",
            &new.iter().map(|one| one.id).collect::<Vec<_>>(),
            &new.iter().map(|one| one.version).collect::<Vec<_>>(),
            KEPT_VERSIONS
        )
        .execute(&mut *all)
        .await
        .map_err(|error| self.fault(error))?;
        all.commit().await.map_err(|error| self.fault(error))
    }

    /// Says where values came from that are what they were: compare and set on each version, audited. Rows that were
    /// written meanwhile stay as they are.
    pub async fn secret_origins_put(
        &self,
        project: Uuid,
        origins: &[(SecretSlot, String)],
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = origins.iter().map(|(slot, _)| slot.id).collect();
        let versions: Vec<i64> = origins.iter().map(|(slot, _)| slot.version).collect();
        let texts: Vec<String> = origins.iter().map(|(_, origin)| origin.clone()).collect();
        sqlx::query!(
            "WITH put AS (
                 UPDATE secrets SET origin = new.origin, updated_by = $5
                 FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS new (id, version, origin)
                 WHERE secrets.project_id = $1 AND secrets.id = new.id AND secrets.version = new.version
                     AND secrets.deleted_at IS NULL AND (SELECT leads($6, $7))
                 RETURNING secrets.id, secrets.service, secrets.name, secrets.version, secrets.origin
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $8, $5, 'secret.origin', 'secret/' || id,
                    jsonb_build_object('project', $1::uuid, 'service', service, 'name', name, 'version', version,
                                       'origin', origin) || $9
             FROM put",
            project,
            &ids,
            &versions,
            &texts,
            actor.to_string(),
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp,
            self.noted()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Deletes a secret: the values of all its versions are gone at once, who had it and when stays. False when there is
    /// none.
    pub async fn secret_delete(
        &self,
        project: Uuid,
        secret: &SecretId,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH gone AS (
                 UPDATE secrets SET deleted_at = $4, updated_by = $5
                 WHERE project_id = $1 AND service = $2 AND name = $3 AND deleted_at IS NULL AND leads($6, $7)
                 RETURNING id, version
             ), emptied AS (
                 UPDATE secret_versions SET key_id = NULL, wrapped_key = NULL, body = NULL
                 FROM gone WHERE secret_id = gone.id AND key_id IS NOT NULL
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $4, $5, 'secret.delete', 'secret/' || id,
                    jsonb_build_object('project', $1::uuid, 'service', $2::text, 'name', $3::text, 'version', version) || $8
             FROM gone",
            project,
            service(secret),
            secret.name,
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
