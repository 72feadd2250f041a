//! Who was seen: people and service accounts, as authentication named them.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::{Store, StoreError, text::storable};

/// Activity is told apart no finer than this, so that a busy user costs one write in it.
const GRAIN: SignedDuration = SignedDuration::from_hours(1);

/// Somebody who was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenUser {
    /// The name.
    pub name: String,
    /// The groups, as they were when the row was written last.
    pub groups: Vec<String>,
    /// When they were seen first.
    pub first_seen_at: Timestamp,
    /// When they were seen last, no finer than an hour.
    pub last_seen_at: Timestamp,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCursor {
    /// When its last user was seen last.
    pub last_seen_at: Timestamp,
    /// Their name.
    pub name: String,
}

/// A page of users, who was seen last at the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPage {
    /// The users.
    pub users: Vec<SeenUser>,
    /// Where the next page begins, if there is one.
    pub next: Option<UserCursor>,
}

impl Store {
    /// Remembers that somebody was seen. Writes at most once per user and hour; says whether it wrote. Not a leader's
    /// write: every replica that answers people does it.
    pub async fn user_seen(&self, name: &str, groups: &[String], at: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "INSERT INTO users AS known (name, groups, first_seen_at, last_seen_at) VALUES ($1, $2, $3, $3)
             ON CONFLICT (name) DO UPDATE SET groups = excluded.groups, last_seen_at = excluded.last_seen_at
             WHERE known.last_seen_at <= $4",
            &*storable(name),
            &groups.iter().map(|group| storable(group).into_owned()).collect::<Vec<_>>(),
            at.to_sqlx() as SqlTimestamp,
            at.saturating_sub(GRAIN).unwrap_or(Timestamp::MIN).to_sqlx() as SqlTimestamp
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() > 0)
    }

    /// Who was seen at `since` or later, a page of at most `limit`.
    pub async fn users_list(
        &self,
        since: Option<Timestamp>,
        after: Option<&UserCursor>,
        limit: i64,
    ) -> Result<UserPage, StoreError> {
        let limit = limit.max(1);
        let rows = sqlx::query!(
            r#"SELECT name, groups, first_seen_at AS "first_seen_at: SqlTimestamp",
                      last_seen_at AS "last_seen_at: SqlTimestamp"
               FROM users
               WHERE (last_seen_at, name) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, ''))
                   AND last_seen_at >= coalesce($3, '-infinity'::timestamptz)
               ORDER BY last_seen_at DESC, name DESC LIMIT $4"#,
            after.map(|after| after.last_seen_at.to_sqlx()) as Option<SqlTimestamp>,
            after.map(|after| after.name.as_str()),
            since.map(Timestamp::to_sqlx) as Option<SqlTimestamp>,
            limit + 1
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let mut users: Vec<SeenUser> = rows
            .into_iter()
            .map(|row| SeenUser {
                name: row.name,
                groups: row.groups,
                first_seen_at: row.first_seen_at.to_jiff(),
                last_seen_at: row.last_seen_at.to_jiff(),
            })
            .collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = users.len() > limit;
        users.truncate(limit);
        let next = users.last().filter(|_| more);
        let next = next.map(|last| UserCursor { last_seen_at: last.last_seen_at, name: last.name.clone() });
        Ok(UserPage { users, next })
    }
}
