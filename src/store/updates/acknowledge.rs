//! Somebody knows: updates are acknowledged by their digest, and what comes after it opens them again.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::UpdateChoice;
use crate::{
    domain::actor::Actor,
    store::{Store, StoreError},
};

impl Store {
    /// Acknowledges updates, and says how many were pending. What becomes newer between the reading of the list and the
    /// writing stays pending: nobody has seen it. Errors: one of the numbers, or the tag of the filter, is not there.
    pub async fn updates_acknowledge(
        &self,
        choice: &UpdateChoice,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.each_chosen(choice, |chosen| self.acknowledge(chosen, actor, now)).await
    }

    /// Opens acknowledged updates again, and says how many there were. Errors as [`Store::updates_acknowledge`].
    pub async fn updates_unacknowledge(
        &self,
        choice: &UpdateChoice,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.each_chosen(choice, |chosen| self.unacknowledge(chosen, actor, now)).await
    }

    async fn acknowledge(
        &self,
        chosen: Vec<(i64, String)>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let (ids, digests): (Vec<i64>, Vec<String>) = chosen.into_iter().unzip();
        // Rows are locked in the order in which they are made, and the audit log after all of them.
        let done = sqlx::query_scalar!(
            r#"WITH chosen AS (
                   SELECT u.id FROM unnest($1::bigint[], $2::text[]) AS asked (id, digest)
                   JOIN image_updates AS u ON u.id = asked.id AND u.new_digest = asked.digest
                   WHERE u.pending AND (SELECT leads($5, $6))
                   ORDER BY u.image, u.host, u.platform FOR UPDATE OF u
               ), done AS (
                   UPDATE image_updates AS u
                   SET acknowledged_digest = u.new_digest, acknowledged_by = $3, acknowledged_at = $4
                   FROM chosen WHERE u.id = chosen.id
                   RETURNING u.id, u.image, u.host, u.platform, u.tag, u.new_digest
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $4, $3, 'update.acknowledge', 'update/' || id,
                          jsonb_build_object('image', image, 'host', host, 'platform', platform, 'tag', tag,
                                             'digest', new_digest) || $7
                   FROM done WHERE (SELECT count(*) FROM done) > 0
               )
               SELECT count(*) AS "done!" FROM done"#,
            &ids,
            &digests,
            actor.to_string(),
            now.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch(),
            self.noted()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(usize::try_from(done).unwrap_or_default())
    }

    async fn unacknowledge(
        &self,
        chosen: Vec<(i64, String)>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let (ids, digests): (Vec<i64>, Vec<String>) = chosen.into_iter().unzip();
        let done = sqlx::query_scalar!(
            r#"WITH chosen AS (
                   SELECT u.id FROM unnest($1::bigint[], $2::text[]) AS asked (id, digest)
                   JOIN image_updates AS u ON u.id = asked.id AND u.new_digest = asked.digest
                   WHERE NOT u.pending AND (SELECT leads($5, $6))
                   ORDER BY u.image, u.host, u.platform FOR UPDATE OF u
               ), done AS (
                   UPDATE image_updates AS u
                   SET acknowledged_digest = NULL, acknowledged_by = NULL, acknowledged_at = NULL
                   FROM chosen WHERE u.id = chosen.id
                   RETURNING u.id, u.image, u.host, u.platform, u.tag, u.new_digest
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $4, $3, 'update.unacknowledge', 'update/' || id,
                          jsonb_build_object('image', image, 'host', host, 'platform', platform, 'tag', tag,
                                             'digest', new_digest) || $7
                   FROM done WHERE (SELECT count(*) FROM done) > 0
               )
               SELECT count(*) AS "done!" FROM done"#,
            &ids,
            &digests,
            actor.to_string(),
            now.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch(),
            self.noted()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(usize::try_from(done).unwrap_or_default())
    }
}
