//! How registries are spoken to.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::{Store, StoreError};
use crate::domain::actor::Actor;

/// How one registry is spoken to. Nothing of this is secret.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistrySettings {
    /// The registry, as `HOST[:PORT]` in lower case.
    pub host: String,
    /// Whether plain HTTP is spoken.
    pub insecure: bool,
    /// Certificates in PEM that are trusted besides those of the machine.
    pub ca_pem: Option<String>,
    /// Requests per second at most; the usual rate when none is given. More than 0.
    pub requests_per_second: Option<f64>,
    /// Other hosts that a login for this one may be sent to for a token, as `HOST[:PORT]`.
    pub token_realms: Vec<String>,
}

/// How one registry is spoken to, and who said so.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRegistry {
    /// How.
    pub settings: RegistrySettings,
    /// Who wrote it last.
    pub updated_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was written last.
    pub updated_at: Timestamp,
}

impl Store {
    /// Every registry that something was said about, by host. Installations have a handful.
    pub async fn registries_list(&self) -> Result<Vec<StoredRegistry>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT host, insecure, ca_pem, requests_per_second, token_realms, updated_by,
                      created_at AS "created_at: SqlTimestamp", updated_at AS "updated_at: SqlTimestamp"
               FROM registries ORDER BY host"#
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| StoredRegistry {
            settings: RegistrySettings {
                host: row.host,
                insecure: row.insecure,
                ca_pem: row.ca_pem,
                requests_per_second: row.requests_per_second,
                token_realms: row.token_realms,
            },
            updated_by: row.updated_by,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        });
        Ok(rows.collect())
    }

    /// Says how a registry is spoken to, in place of what was said before; audited. Writes nothing, and says false, when it
    /// is what was said before.
    pub async fn registry_put(
        &self,
        settings: &RegistrySettings,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH put AS (
                 INSERT INTO registries AS known
                     (host, insecure, ca_pem, requests_per_second, token_realms, updated_by)
                 SELECT $1, $2, $3, $4, $5, $6 WHERE leads($7, $8)
                 ON CONFLICT (host) DO UPDATE
                 SET insecure = excluded.insecure, ca_pem = excluded.ca_pem,
                     requests_per_second = excluded.requests_per_second, token_realms = excluded.token_realms,
                     updated_by = excluded.updated_by
                 WHERE (known.insecure, known.ca_pem, known.requests_per_second, known.token_realms)
                     IS DISTINCT FROM
                     (excluded.insecure, excluded.ca_pem, excluded.requests_per_second, excluded.token_realms)
                 RETURNING host
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $9, $6, 'registry.put', 'registry/' || host,
                    jsonb_build_object('insecure', $2::boolean, 'ca', $3::text, 'requestsPerSecond', $4::double precision,
                                       'tokenRealms', to_jsonb($5::text[]))
             FROM put",
            settings.host,
            settings.insecure,
            settings.ca_pem,
            settings.requests_per_second,
            &settings.token_realms,
            actor.to_string(),
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets what was said about a registry; audited. False when nothing was.
    pub async fn registry_delete(&self, host: &str, actor: &Actor, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH gone AS (DELETE FROM registries WHERE host = $1 AND leads($2, $3) RETURNING host)
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $4, $5, 'registry.delete', 'registry/' || host, '{}' FROM gone",
            host,
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp,
            actor.to_string()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }
}
