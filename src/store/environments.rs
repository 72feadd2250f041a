//! Environments: targets that live for a while, each with a subdomain that nobody ever has again.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Store, StoreError, stages::NewStage};
use crate::domain::share::Share;

/// An environment to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvironment {
    /// Its row as a target.
    pub stage: NewStage,
    /// The subdomain that it gets if it has none.
    pub subdomain: String,
    /// The namespace that its objects are to be in.
    pub place: String,
    /// When it was made.
    pub born: Timestamp,
}

/// The life of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Identity, which is that of the target too.
    pub id: Uuid,
    /// Its project's row.
    pub project_id: Uuid,
    /// UID of the object that this is the life of.
    pub uid: String,
    /// The first part of its hosts.
    pub subdomain: String,
    /// The namespace that its objects are in.
    pub place: String,
    /// When it was made.
    pub born: Timestamp,
    /// Until when somebody extended it.
    pub extended: Option<Timestamp>,
    /// Somebody asked that it does not end by itself.
    pub pinned: bool,
    /// When somebody last looked at it.
    pub active: Timestamp,
    /// When somebody asked that it wakes.
    pub wake_asked: Option<Timestamp>,
    /// When somebody asked that it sleeps.
    pub sleep_asked: Option<Timestamp>,
    /// Since when it sleeps.
    pub asleep: Option<Timestamp>,
    /// Since when its end is decided, and why.
    pub ending: Option<(Timestamp, String)>,
}

/// The life of an environment with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Its namespace.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its life.
    pub life: Environment,
}

/// What became of a [`NewEnvironment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// This is its life.
    Known(Box<Environment>),
    /// The subdomain was given out before: another one is needed.
    SubdomainTaken,
}

struct Row {
    id: Uuid,
    project_id: Uuid,
    uid: String,
    subdomain: String,
    place: String,
    born_at: SqlTimestamp,
    extended_until: Option<SqlTimestamp>,
    pinned: bool,
    active_at: SqlTimestamp,
    wake_asked_at: Option<SqlTimestamp>,
    sleep_asked_at: Option<SqlTimestamp>,
    asleep_since: Option<SqlTimestamp>,
    ending_since: Option<SqlTimestamp>,
    ending_because: String,
}

impl From<Row> for Environment {
    fn from(row: Row) -> Self {
        let at = |at: Option<SqlTimestamp>| at.map(SqlTimestamp::to_jiff);
        Self {
            id: row.id,
            project_id: row.project_id,
            uid: row.uid,
            subdomain: row.subdomain,
            place: row.place,
            born: row.born_at.to_jiff(),
            extended: at(row.extended_until),
            pinned: row.pinned,
            active: row.active_at.to_jiff(),
            wake_asked: at(row.wake_asked_at),
            sleep_asked: at(row.sleep_asked_at),
            asleep: at(row.asleep_since),
            ending: row.ending_since.map(|at| (at.to_jiff(), row.ending_because)),
        }
    }
}

impl Store {
    /// The life of an environment, unless its target is deleted.
    pub async fn environment_get(&self, id: Uuid) -> Result<Option<Environment>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT e.id, s.project_id, e.uid, e.subdomain, e.place, e.born_at AS "born_at: SqlTimestamp",
                    e.extended_until AS "extended_until: SqlTimestamp", e.pinned, e.active_at AS "active_at: SqlTimestamp",
                    e.wake_asked_at AS "wake_asked_at: SqlTimestamp", e.sleep_asked_at AS "sleep_asked_at: SqlTimestamp",
                    e.asleep_since AS "asleep_since: SqlTimestamp", e.ending_since AS "ending_since: SqlTimestamp",
                    e.ending_because
             FROM environments AS e JOIN stages AS s ON s.id = e.id
             WHERE e.id = $1 AND s.deleted_at IS NULL"#,
            id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(row.map(Environment::from))
    }

    /// The life of the environment of this name, unless it is deleted.
    pub async fn environment_find(&self, namespace: &str, name: &str) -> Result<Option<Environment>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT e.id, s.project_id, e.uid, e.subdomain, e.place, e.born_at AS "born_at: SqlTimestamp",
                    e.extended_until AS "extended_until: SqlTimestamp", e.pinned, e.active_at AS "active_at: SqlTimestamp",
                    e.wake_asked_at AS "wake_asked_at: SqlTimestamp", e.sleep_asked_at AS "sleep_asked_at: SqlTimestamp",
                    e.asleep_since AS "asleep_since: SqlTimestamp", e.ending_since AS "ending_since: SqlTimestamp",
                    e.ending_because
             FROM stages AS s JOIN environments AS e ON e.id = s.id
             WHERE s.namespace = $1 AND s.name = $2 AND s.deleted_at IS NULL"#,
            namespace,
            name
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(row.map(Environment::from))
    }

    /// The environment of this name with its life, unless there is none or it is deleted.
    pub async fn environment_row(&self, namespace: &str, name: &str) -> Result<Option<EnvironmentRow>, StoreError> {
        let Some(life) = self.environment_find(namespace, name).await? else { return Ok(None) };
        let target = self.stage_get(namespace, name).await?;
        Ok(target.map(|target| EnvironmentRow {
            namespace: target.namespace,
            project: target.project,
            name: target.name,
            life,
        }))
    }

    /// The environments of a namespace, or of one of its projects, by name, from the one behind `after` on.
    pub async fn environments_list(
        &self,
        namespace: &str,
        project: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<EnvironmentRow>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT e.id, s.project_id, e.uid, e.subdomain, e.place, e.born_at AS "born_at: SqlTimestamp",
                    e.extended_until AS "extended_until: SqlTimestamp", e.pinned, e.active_at AS "active_at: SqlTimestamp",
                    e.wake_asked_at AS "wake_asked_at: SqlTimestamp", e.sleep_asked_at AS "sleep_asked_at: SqlTimestamp",
                    e.asleep_since AS "asleep_since: SqlTimestamp", e.ending_since AS "ending_since: SqlTimestamp",
                    e.ending_because, s.name, p.name AS project
             FROM stages AS s JOIN environments AS e ON e.id = s.id JOIN projects AS p ON p.id = s.project_id
             WHERE s.namespace = $1 AND s.name > coalesce($3, '') AND s.deleted_at IS NULL
                 AND ($2::text IS NULL OR p.name = $2)
             ORDER BY s.name LIMIT $4"#,
            namespace,
            project,
            after,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let at = |at: Option<SqlTimestamp>| at.map(SqlTimestamp::to_jiff);
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let life = Environment {
                id: row.id,
                project_id: row.project_id,
                uid: row.uid,
                subdomain: row.subdomain,
                place: row.place,
                born: row.born_at.to_jiff(),
                extended: at(row.extended_until),
                pinned: row.pinned,
                active: row.active_at.to_jiff(),
                wake_asked: at(row.wake_asked_at),
                sleep_asked: at(row.sleep_asked_at),
                asleep: at(row.asleep_since),
                ending: row.ending_since.map(|since| (since.to_jiff(), row.ending_because)),
            };
            all.push(EnvironmentRow { namespace: namespace.to_owned(), project: row.project, name: row.name, life });
        }
        Ok(all)
    }

    /// Namespace, name and UID of every environment that lives by its row, in this share.
    pub async fn environments_living(&self, share: &Share) -> Result<Vec<(String, String, String)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT s.namespace, s.name, e.uid FROM stages AS s JOIN environments AS e ON e.id = s.id
             WHERE s.deleted_at IS NULL AND in_share(s.namespace, $1, $2, $3)",
            share.listed(),
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|row| (row.namespace, row.name, row.uid)).collect())
    }

    /// The life of an environment, begun if need be. Another object of the same name begins another life, with another
    /// subdomain, and continues its history. Writes nothing when nothing changed.
    ///
    /// # Errors
    /// [`StoreError::Taken`]: a Stage of the namespace has the name.
    pub async fn environment_open(&self, new: &NewEnvironment) -> Result<Recorded, StoreError> {
        let NewStage { namespace, name, uid, project_id, .. } = &new.stage;
        if let Some(known) = self.environment_find(namespace, name).await?
            && known.uid == *uid
            && known.project_id == *project_id
        {
            return Ok(Recorded::Known(known.into()));
        }
        let id = self.target_upsert(&new.stage, "environment").await?;
        self.environment_begin(id, new).await
    }

    async fn environment_begin(&self, id: Uuid, new: &NewEnvironment) -> Result<Recorded, StoreError> {
        let begun = sqlx::query!(
            "WITH given AS (
                 INSERT INTO subdomains (subdomain, environment_id, given_at)
                 SELECT $3, $1, $5 WHERE leads($6, $7)
                 ON CONFLICT DO NOTHING RETURNING subdomain
             ), left_behind AS (
                 UPDATE subdomains SET ended_at = greatest($5, given_at)
                 WHERE environment_id = $1 AND ended_at IS NULL AND EXISTS (SELECT FROM given)
             )
             INSERT INTO environments (id, uid, subdomain, place, born_at, active_at)
             SELECT $1, $2, subdomain, $4, $5, $5 FROM given
             ON CONFLICT (id) DO UPDATE SET uid = excluded.uid, subdomain = excluded.subdomain, place = excluded.place,
                 born_at = excluded.born_at, active_at = excluded.active_at, extended_until = NULL, pinned = false,
                 wake_asked_at = NULL, sleep_asked_at = NULL, asleep_since = NULL, ending_since = NULL, ending_because = ''",
            id,
            new.stage.uid,
            new.subdomain,
            new.place,
            new.born.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if begun.rows_affected() == 0 {
            return Ok(Recorded::SubdomainTaken);
        }
        let known = self.environment_get(id).await?;
        known.map(|known| Recorded::Known(known.into())).ok_or_else(|| StoreError::not_found("environment", &id))
    }

    /// It sleeps from now on, or does not any more. Changes nothing if that is known.
    pub async fn environment_sleeps(&self, id: Uuid, since: Option<Timestamp>) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE environments SET asleep_since = $2
             WHERE id = $1 AND (asleep_since IS NULL) <> ($2::timestamptz IS NULL) AND leads($3, $4)",
            id,
            since.map(|at| at.to_sqlx()) as Option<SqlTimestamp>,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Its end is decided. The first reason stays.
    pub async fn environment_ends(&self, id: Uuid, at: Timestamp, why: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE environments SET ending_since = $2, ending_because = $3
             WHERE id = $1 AND ending_since IS NULL AND leads($4, $5)",
            id,
            at.to_sqlx() as SqlTimestamp,
            why,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// It has ended: its hosts say so from now on. Ended already is fine.
    pub async fn environment_ended(&self, namespace: &str, name: &str, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE subdomains AS d SET ended_at = greatest($3, d.given_at)
             FROM stages AS s
             WHERE s.namespace = $1 AND s.name = $2 AND d.environment_id = s.id AND d.ended_at IS NULL AND leads($4, $5)",
            namespace,
            name,
            at.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Somebody has looked at the environments with these subdomains. Any process may say so; an older word changes nothing.
    pub async fn environments_touch(&self, seen: &[(String, Timestamp)]) -> Result<(), StoreError> {
        let (subdomains, times): (Vec<String>, Vec<SqlTimestamp>) =
            seen.iter().map(|(subdomain, at)| (subdomain.clone(), at.to_sqlx())).unzip();
        sqlx::query!(
            "UPDATE environments AS e SET active_at = n.at
             FROM unnest($1::text[], $2::timestamptz[]) AS n (subdomain, at)
             WHERE e.subdomain = n.subdomain AND e.active_at < n.at",
            &subdomains,
            &times as &[SqlTimestamp]
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Somebody wants the environment with this subdomain awake. Asking again before it is changes nothing. Any process may
    /// ask; the leader hears of it.
    pub async fn environment_wake(&self, subdomain: &str, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE environments SET wake_asked_at = $2, active_at = greatest(active_at, $2)
             WHERE subdomain = $1 AND ending_since IS NULL
                 AND (wake_asked_at IS NULL OR wake_asked_at < coalesce(asleep_since, sleep_asked_at))",
            subdomain,
            at.to_sqlx() as SqlTimestamp
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Subdomains of environments that have ended, the latest first: their hosts say that they are gone.
    pub async fn subdomains_ended(&self, limit: i64) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar!(
            "SELECT subdomain FROM subdomains WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT $1",
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }
}
