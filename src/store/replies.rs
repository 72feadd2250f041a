//! Answers of the API that are kept for a while: the same request again gets the same answer.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::Value;

use super::{Store, StoreError};
use crate::domain::actor::Actor;

/// How long an answer is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// A request whose answer is not there after so long was cut off: it may be tried again.
const BEING_DONE: SignedDuration = SignedDuration::from_secs(60);

/// Old answers that are tidied away with each new one.
const TIDY: i64 = 100;

/// What is known of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyClaim {
    /// Nothing: it is to be done now.
    New,
    /// It was done, and this was the answer.
    Done {
        /// HTTP status.
        status: u16,
        /// The body.
        reply: Value,
    },
    /// It is being done.
    BeingDone,
    /// The key was used for something else.
    Reused,
}

impl Store {
    /// Takes the right to do a request that carries a key, or says what became of it. Old ones are tidied away.
    pub async fn reply_claim(
        &self,
        actor: &Actor,
        key: &str,
        request: &[u8; 32],
        now: Timestamp,
    ) -> Result<ReplyClaim, StoreError> {
        sqlx::query!(
            "DELETE FROM api_replies AS old USING (SELECT actor, key FROM api_replies WHERE at < $1 ORDER BY at LIMIT $2) AS gone
             WHERE old.actor = gone.actor AND old.key = gone.key AND old.at < $1",
            (now - KEPT).to_sqlx() as SqlTimestamp,
            TIDY
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let claimed = sqlx::query_scalar!(
            r#"INSERT INTO api_replies AS known (actor, key, request, at) VALUES ($1, $2, $3, $4)
               ON CONFLICT (actor, key) DO UPDATE SET at = excluded.at
               WHERE known.status IS NULL AND known.request = excluded.request AND known.at < $5
               RETURNING 1 AS "claimed!""#,
            actor.to_string(),
            key,
            &request[..],
            now.to_sqlx() as SqlTimestamp,
            (now - BEING_DONE).to_sqlx() as SqlTimestamp
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if claimed.is_some() {
            return Ok(ReplyClaim::New);
        }
        let known = sqlx::query!(
            r#"SELECT request = $3 AS "same!", status, reply FROM api_replies WHERE actor = $1 AND key = $2"#,
            actor.to_string(),
            key,
            &request[..]
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(match known {
            Some(known) if !known.same => ReplyClaim::Reused,
            Some(known) => match (known.status.and_then(|status| u16::try_from(status).ok()), known.reply) {
                (Some(status), Some(reply)) => ReplyClaim::Done { status, reply },
                _ => ReplyClaim::BeingDone,
            },
            // It failed a moment ago.
            None => ReplyClaim::BeingDone,
        })
    }

    /// Keeps the answer to a request.
    pub async fn reply_put(&self, actor: &Actor, key: &str, status: u16, reply: &Value) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE api_replies SET status = $3, reply = $4 WHERE actor = $1 AND key = $2 AND status IS NULL",
            actor.to_string(),
            key,
            i16::try_from(status).unwrap_or(200),
            reply
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Forgets a request that was not done: it may be tried again with its key.
    pub async fn reply_drop(&self, actor: &Actor, key: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "DELETE FROM api_replies WHERE actor = $1 AND key = $2 AND status IS NULL",
            actor.to_string(),
            key
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }
}
