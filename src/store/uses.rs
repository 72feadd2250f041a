//! Who opened what, when and what for: appended on every opening, kept for as long as deploys are.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{CredentialUse, SecretUse, Store, StoreError};

impl Store {
    /// Records that credentials were opened, in one statement. What was purged meanwhile is left out.
    pub async fn credential_uses_append(&self, uses: &[CredentialUse]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = uses.iter().map(|one| one.credential).collect();
        let versions: Vec<i64> = uses.iter().map(|one| one.version).collect();
        let actors: Vec<String> = uses.iter().map(|one| one.actor.clone()).collect();
        let purposes: Vec<String> = uses.iter().map(|one| one.purpose.clone()).collect();
        let times: Vec<SqlTimestamp> = uses.iter().map(|one| one.at.to_sqlx()).collect();
        sqlx::query!(
            "WITH told AS (
                 SELECT uses.* FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
                     AS uses (credential_id, version, actor, purpose, at)
                 JOIN credentials ON credentials.id = uses.credential_id
             ), last AS (
                 -- Locked in one order, so that nobody who records the same credentials waits in a circle.
                 SELECT known.id, used.at FROM credentials AS known
                 JOIN (SELECT credential_id, max(at) AS at FROM told GROUP BY credential_id) AS used
                     ON used.credential_id = known.id
                 ORDER BY known.id FOR NO KEY UPDATE OF known
             ), used AS (
                 UPDATE credentials SET last_used_at = greatest(last_used_at, last.at) FROM last
                 WHERE credentials.id = last.id
             )
             INSERT INTO credential_uses (credential_id, version, actor, purpose, at)
             SELECT credential_id, version, actor, purpose, at FROM told",
            &ids,
            &versions,
            &actors,
            &purposes,
            &times as &[SqlTimestamp]
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Records that secrets were opened, in one statement. What was purged meanwhile is left out.
    pub async fn secret_uses_append(&self, uses: &[SecretUse]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = uses.iter().map(|one| one.secret).collect();
        let versions: Vec<i64> = uses.iter().map(|one| one.version).collect();
        let actors: Vec<String> = uses.iter().map(|one| one.actor.clone()).collect();
        let purposes: Vec<String> = uses.iter().map(|one| one.purpose.clone()).collect();
        let times: Vec<SqlTimestamp> = uses.iter().map(|one| one.at.to_sqlx()).collect();
        sqlx::query!(
            r#"WITH told AS (
                 SELECT uses.* FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
                     AS uses (secret_id, version, actor, purpose, at)
                 JOIN secrets ON secrets.id = uses.secret_id
             ), last AS (
                 -- Locked in one order, so that nobody who records or writes the same secrets waits in a circle.
                 SELECT known.id, used.at FROM secrets AS known
                 JOIN (SELECT secret_id, max(at) AS at FROM told GROUP BY secret_id) AS used ON used.secret_id = known.id
                 ORDER BY known.project_id, known.name COLLATE "C", known.service COLLATE "C" FOR NO KEY UPDATE OF known
             ), used AS (
                 UPDATE secrets SET last_used_at = greatest(last_used_at, last.at) FROM last WHERE secrets.id = last.id
             )
             INSERT INTO secret_uses (secret_id, version, actor, purpose, at)
             SELECT secret_id, version, actor, purpose, at FROM told"#,
            &ids,
            &versions,
            &actors,
            &purposes,
            &times as &[SqlTimestamp]
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Deletes at most `limit` records of uses from before `before`, the oldest first; says how many went.
    pub async fn uses_prune(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let credentials = sqlx::query!(
            "DELETE FROM credential_uses WHERE id = ANY(ARRAY(
                 SELECT id FROM credential_uses WHERE at < $1 AND (SELECT leads($3, $4)) ORDER BY at, id LIMIT $2))",
            before.to_sqlx() as SqlTimestamp,
            limit,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?
        .rows_affected();
        let secrets = sqlx::query!(
            "DELETE FROM secret_uses WHERE id = ANY(ARRAY(
                 SELECT id FROM secret_uses WHERE at < $1 AND (SELECT leads($3, $4)) ORDER BY at, id LIMIT $2))",
            before.to_sqlx() as SqlTimestamp,
            limit.saturating_sub_unsigned(credentials),
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?
        .rows_affected();
        Ok(credentials + secrets)
    }
}
