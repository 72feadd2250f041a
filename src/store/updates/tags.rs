//! Tags: words by which people group updates. They belong to an update, whatever its digest becomes.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::UpdateChoice;
use crate::{
    domain::{actor::Actor, update::TagName},
    store::{Store, StoreError},
};

/// A tag as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateTag {
    /// Identity: kept when it is renamed.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// How many updates have it.
    pub updates: i64,
    /// How many of them are pending.
    pub pending: i64,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// That a name is another tag's.
pub fn tag_taken(name: &TagName) -> StoreError {
    StoreError::Conflict(format!("there is a tag `{name}` already; the case of letters makes no other name"))
}

impl Store {
    /// The tags, by name.
    pub async fn update_tags_list(&self) -> Result<Vec<UpdateTag>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT t.id, t.name, t.created_by, t.created_at AS "created_at: SqlTimestamp",
                      (SELECT count(*) FROM tag_assignments AS a WHERE a.tag_id = t.id) AS "updates!",
                      (SELECT count(*) FROM tag_assignments AS a JOIN image_updates AS u ON u.id = a.update_id
                       WHERE a.tag_id = t.id AND u.pending) AS "pending!"
               FROM update_tags AS t ORDER BY lower(t.name)"#
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| UpdateTag {
            id: row.id,
            name: row.name,
            updates: row.updates,
            pending: row.pending,
            created_by: row.created_by,
            created_at: row.created_at.to_jiff(),
        });
        Ok(rows.collect())
    }

    /// Makes a tag and says its identity. Errors: the name is taken.
    pub async fn update_tag_create(&self, name: &TagName, actor: &Actor, now: Timestamp) -> Result<i64, StoreError> {
        let made = sqlx::query_scalar!(
            r#"WITH made AS (
                   INSERT INTO update_tags (name, created_by) SELECT $1, $2 WHERE leads($4, $5)
                   ON CONFLICT (lower(name)) DO NOTHING RETURNING id
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $3, $2, 'update_tag.create', 'update_tag/' || id, jsonb_build_object('name', $1::text) || $6 FROM made
               )
               SELECT id FROM made"#,
            name.as_str(),
            actor.to_string(),
            now.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch(),
            self.noted()
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        made.ok_or_else(|| tag_taken(name))
    }

    /// Gives a tag another name; its updates keep it. Errors: there is no such tag; the new name is another tag's.
    pub async fn update_tag_rename(
        &self,
        name: &str,
        to: &TagName,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let renamed = sqlx::query_scalar!(
            r#"WITH old AS (
                   SELECT id, name FROM update_tags WHERE lower(name) = lower($1) FOR UPDATE
               ), renamed AS (
                   UPDATE update_tags AS t SET name = $2 FROM old WHERE t.id = old.id AND leads($5, $6)
                   RETURNING t.id, old.name AS before
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $4, $3, 'update_tag.rename', 'update_tag/' || id,
                          jsonb_build_object('from', before, 'to', $2::text) || $7
                   FROM renamed
               )
               SELECT id FROM renamed"#,
            name,
            to.as_str(),
            actor.to_string(),
            now.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch(),
            self.noted()
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| {
            let is_taken = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
            if is_taken { tag_taken(to) } else { self.fault(error) }
        })?;
        renamed.map(|_| ()).ok_or_else(|| StoreError::not_found("tag", name))
    }

    /// Deletes a tag with its assignments and says how many there were; the updates stay. Errors: there is no such tag.
    pub async fn update_tag_delete(&self, name: &str, actor: &Actor, now: Timestamp) -> Result<usize, StoreError> {
        let gone = sqlx::query_scalar!(
            r#"WITH old AS (
                   SELECT id, (SELECT count(*) FROM tag_assignments AS a WHERE a.tag_id = t.id) AS updates
                   FROM update_tags AS t WHERE lower(name) = lower($1)
               ), gone AS (
                   DELETE FROM update_tags AS t USING old WHERE t.id = old.id AND leads($4, $5)
                   RETURNING t.id, t.name, old.updates
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $3, $2, 'update_tag.delete', 'update_tag/' || id,
                          jsonb_build_object('name', name, 'updates', updates) || $6
                   FROM gone
               )
               SELECT updates AS "updates!" FROM gone"#,
            name,
            actor.to_string(),
            now.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch(),
            self.noted()
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let gone = gone.ok_or_else(|| StoreError::not_found("tag", name))?;
        Ok(usize::try_from(gone).unwrap_or_default())
    }

    /// Gives updates a tag, and says how many did not have it. Errors: there is no such tag; one of the numbers, or the tag
    /// of the filter, is not there.
    pub async fn update_tag_assign(
        &self,
        name: &str,
        choice: &UpdateChoice,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let tag = self.update_tag_id(name).await?;
        self.each_chosen(choice, |chosen| self.assign(tag, chosen, actor, now)).await
    }

    /// Takes a tag from updates, and says how many had it. Errors as [`Store::update_tag_assign`].
    pub async fn update_tag_unassign(
        &self,
        name: &str,
        choice: &UpdateChoice,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let tag = self.update_tag_id(name).await?;
        self.each_chosen(choice, |chosen| self.unassign(tag, chosen, actor, now)).await
    }

    async fn assign(
        &self,
        tag: i64,
        chosen: Vec<(i64, String)>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let ids: Vec<i64> = chosen.into_iter().map(|(id, _)| id).collect();
        let done = sqlx::query_scalar!(
            r#"WITH done AS (
                   INSERT INTO tag_assignments (tag_id, update_id, created_by)
                   SELECT $1, asked.id, $3 FROM unnest($2::bigint[]) AS asked (id)
                   WHERE (SELECT leads($5, $6)) ORDER BY asked.id
                   ON CONFLICT DO NOTHING RETURNING update_id
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $4, $3, 'update_tag.assign', 'update_tag/' || $1::bigint,
                          jsonb_build_object('updates', jsonb_agg(update_id ORDER BY update_id)) || $7
                   FROM done HAVING count(*) > 0
               )
               SELECT count(*) AS "done!" FROM done"#,
            tag,
            &ids,
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

    async fn unassign(
        &self,
        tag: i64,
        chosen: Vec<(i64, String)>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let ids: Vec<i64> = chosen.into_iter().map(|(id, _)| id).collect();
        let done = sqlx::query_scalar!(
            r#"WITH done AS (
                   DELETE FROM tag_assignments
                   WHERE tag_id = $1 AND update_id = ANY ($2::bigint[]) AND (SELECT leads($5, $6))
                   RETURNING update_id
               ), noted AS (
                   INSERT INTO audit_log (at, actor, action, subject, details)
                   SELECT $4, $3, 'update_tag.unassign', 'update_tag/' || $1::bigint,
                          jsonb_build_object('updates', jsonb_agg(update_id ORDER BY update_id)) || $7
                   FROM done HAVING count(*) > 0
               )
               SELECT count(*) AS "done!" FROM done"#,
            tag,
            &ids,
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

    /// Identity of the tag of this name, in any case of letters.
    pub(super) async fn update_tag_id(&self, name: &str) -> Result<i64, StoreError> {
        sqlx::query_scalar!("SELECT id FROM update_tags WHERE lower(name) = lower($1)", name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.fault(error))?
            .ok_or_else(|| StoreError::not_found("tag", name))
    }
}
