//! Every sealed value, whichever table has it: what verifying and rotating go through, a batch at a time.

use uuid::Uuid;

use super::{SealedRow, SealedTable, Store, StoreError, WrappedRow, encryption_keys::key_id};
use crate::crypto::{KeyId, Sealed, Wrapped};

/// A row as both tables give it.
struct SealedParts {
    id: Uuid,
    namespace: String,
    project: String,
    name: String,
    version: i64,
    key_id: String,
    wrapped_key: Vec<u8>,
    body: Vec<u8>,
}

struct WrappedParts {
    id: Uuid,
    wrapped_key: Vec<u8>,
}

impl Store {
    /// The next sealed values of a table, in order of their ids.
    pub async fn sealed_list(
        &self,
        table: SealedTable,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let rows =
            match table {
                SealedTable::Credentials => sqlx::query_as!(
                    SealedParts,
                    r#"SELECT credentials.id, projects.namespace, projects.name AS project, credentials.name, version,
                              key_id AS "key_id!", wrapped_key AS "wrapped_key!", body AS "body!"
                       FROM credentials JOIN projects ON projects.id = project_id
                       WHERE key_id IS NOT NULL
                         AND credentials.id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
                       ORDER BY credentials.id LIMIT $2"#,
                    after,
                    limit
                )
                .fetch_all(&self.pool)
                .await,
                SealedTable::SecretVersions => {
                    sqlx::query_as!(
                        SealedParts,
                        r#"SELECT value.id, projects.namespace, projects.name AS project,
                              secrets.service || '/' || secrets.name AS "name!", value.version, key_id AS "key_id!",
                              wrapped_key AS "wrapped_key!", body AS "body!"
                       FROM secret_versions AS value JOIN secrets ON secrets.id = secret_id
                           JOIN projects ON projects.id = project_id
                       WHERE key_id IS NOT NULL
                         AND value.id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
                       ORDER BY value.id LIMIT $2"#,
                        after,
                        limit
                    )
                    .fetch_all(&self.pool)
                    .await
                }
            };
        let rows = rows.map_err(|error| self.fault(error))?.into_iter().map(|row| {
            let wrapped = Wrapped { key: key_id(&row.key_id)?, bytes: row.wrapped_key };
            Ok(SealedRow {
                table,
                id: row.id,
                namespace: row.namespace,
                project: row.project,
                name: row.name,
                version: row.version,
                sealed: Sealed { wrapped, body: row.body },
            })
        });
        rows.collect()
    }

    /// The next rows of a table that this key wraps, in order of their ids.
    pub async fn wrapped_list(
        &self,
        table: SealedTable,
        key: &KeyId,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<WrappedRow>, StoreError> {
        let rows = match table {
            SealedTable::Credentials => {
                sqlx::query_as!(
                    WrappedParts,
                    r#"SELECT id, wrapped_key AS "wrapped_key!" FROM credentials
                       WHERE key_id = $1 AND id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
                       ORDER BY id LIMIT $3"#,
                    key.as_str(),
                    after,
                    limit
                )
                .fetch_all(&self.pool)
                .await
            }
            SealedTable::SecretVersions => {
                sqlx::query_as!(
                    WrappedParts,
                    r#"SELECT id, wrapped_key AS "wrapped_key!" FROM secret_versions
                       WHERE key_id = $1 AND id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
                       ORDER BY id LIMIT $3"#,
                    key.as_str(),
                    after,
                    limit
                )
                .fetch_all(&self.pool)
                .await
            }
        };
        let row = |id, bytes| WrappedRow { id, wrapped: Wrapped { key: key.clone(), bytes } };
        let rows = rows.map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|found| row(found.id, found.wrapped_key)).collect())
    }

    /// Stores data keys under the key that they are wrapped by now, each only if it is still the one that was read: what
    /// was written meanwhile is wrapped by its writer. One statement; says how many.
    pub async fn wrapped_replace(
        &self,
        table: SealedTable,
        key: &KeyId,
        rows: &[(WrappedRow, Vec<u8>)],
    ) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = rows.iter().map(|(row, _)| row.id).collect();
        let before: Vec<Vec<u8>> = rows.iter().map(|(row, _)| row.wrapped.bytes.clone()).collect();
        let after: Vec<Vec<u8>> = rows.iter().map(|(_, bytes)| bytes.clone()).collect();
        let done = match table {
            SealedTable::Credentials => {
                sqlx::query!(
                    "UPDATE credentials SET key_id = $1, wrapped_key = new.after
                     FROM unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS new (id, before, after)
                     WHERE credentials.id = new.id AND credentials.wrapped_key = new.before",
                    key.as_str(),
                    &ids,
                    &before,
                    &after
                )
                .execute(&self.pool)
                .await
            }
            SealedTable::SecretVersions => {
                sqlx::query!(
                    "UPDATE secret_versions SET key_id = $1, wrapped_key = new.after
                     FROM unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS new (id, before, after)
                     WHERE secret_versions.id = new.id AND secret_versions.wrapped_key = new.before",
                    key.as_str(),
                    &ids,
                    &before,
                    &after
                )
                .execute(&self.pool)
                .await
            }
        };
        Ok(done.map_err(|error| self.fault(error))?.rows_affected())
    }
}
