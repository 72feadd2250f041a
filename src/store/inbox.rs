//! What webhooks said: stored as it came before it is answered, worked on from here. It is longer than 500 lines because a
//! delivery's life, from its coming to its end, is told by statements that only make sense side by side.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{Project, Store, StoreError, text::storable};
use crate::domain::{actor::Actor, share::Share};

/// Deliveries that may wait for the leader, for each receiver: their number and their bytes.
const MAX_WAITING: i64 = 1_000;
const MAX_WAITING_BYTES: i64 = 64 << 20;

/// The body of a delivery without a name that comes again counts as the same delivery for so long.
const SAME: SignedDuration = SignedDuration::from_mins(1);

/// Of each receiver, so many settled deliveries keep their bodies, and so many are known at all.
const KEPT_BODIES: i64 = 200;
const KEPT: i64 = 20_000;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for the leader.
    Pending,
    /// Its images were asked for.
    Processed,
    /// It was about something else.
    Ignored,
    /// It could not be read.
    Failed,
}

impl DeliveryState {
    /// The word for it in SQL and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Pending, Self::Processed, Self::Ignored, Self::Failed];
        all.into_iter().find(|state| state.word() == word).ok_or_else(|| format!("`{word}` is no state of a delivery"))
    }
}

/// What a delivery is known by, so that it is one however often it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryKey {
    /// What its sender calls it.
    Id(String),
    /// The SHA-256 of its body, in hexadecimal digits.
    Body(String),
}

/// Something that was received.
pub struct NewDelivery {
    /// Its identity, should it be new.
    pub id: Uuid,
    /// Where it was received.
    pub receiver: Uuid,
    /// What it is known by.
    pub key: DeliveryKey,
    /// The headers that it takes to read it again.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
    /// What it is about, if that is nothing that anybody works on.
    pub ignored: Option<String>,
}

/// What became of something that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is stored, or open again.
    New(Uuid),
    /// It was there already: it is counted.
    Known(Uuid),
    /// Too much of this receiver waits already: it is not stored.
    Full,
}

/// A delivery to be worked on.
#[derive(Clone, PartialEq, Eq)]
pub struct PendingDelivery {
    /// Its identity.
    pub id: Uuid,
    /// How often it was opened: settling it needs that.
    pub opened: i32,
    /// Whose receiver it was.
    pub project: Project,
    /// Name of the receiver.
    pub receiver: String,
    /// Who sent it.
    pub source: String,
    /// What images call the registry that sent it, if it does not say so itself.
    pub registry: Option<String>,
    /// The headers that it takes to read it.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
    /// When it came, or came again.
    pub received_at: Timestamp,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its identity.
    pub id: Uuid,
    /// How often it had been opened: one that was opened again since is left alone.
    pub opened: i32,
    /// Where it stands.
    pub state: DeliveryState,
    /// What became of it, in a sentence.
    pub result: String,
}

/// A delivery without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its identity.
    pub id: Uuid,
    /// Whose receiver it was.
    pub project: Project,
    /// Name of the receiver.
    pub receiver: String,
    /// Who sent it.
    pub source: String,
    /// What it is known by.
    pub delivery: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// What became of it.
    pub result: String,
    /// How often it came.
    pub seen: i32,
    /// Bytes of its body.
    pub size: i32,
    /// When it was opened last.
    pub received_at: Timestamp,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
}

/// A delivery with everything that is stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDetail {
    /// What it is.
    pub delivery: Delivery,
    /// The headers that were kept.
    pub headers: Vec<(String, String)>,
    /// Its body; none once it is no longer kept.
    pub body: Option<Vec<u8>>,
}

/// What became of a wish to have a delivery worked on again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It is open again.
    Opened,
    /// It was open anyway.
    Waiting,
    /// Its body is no longer kept.
    Bodiless,
    /// There is none.
    Unknown,
}

struct Row {
    id: Uuid,
    project_id: Uuid,
    namespace: String,
    project: String,
    receiver: String,
    source: String,
    delivery: String,
    state: String,
    result: String,
    seen: i32,
    size: i32,
    received_at: SqlTimestamp,
    settled_at: Option<SqlTimestamp>,
}

impl TryFrom<Row> for Delivery {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            state: row.state.parse().map_err(|why| StoreError::corrupt("delivery", &row.id, &why))?,
            id: row.id,
            project: Project { id: row.project_id, namespace: row.namespace, name: row.project },
            receiver: row.receiver,
            source: row.source,
            delivery: row.delivery,
            result: row.result,
            seen: row.seen,
            size: row.size,
            received_at: row.received_at.to_jiff(),
            settled_at: row.settled_at.map(SqlTimestamp::to_jiff),
        })
    }
}

fn headers(id: Uuid, stored: serde_json::Value) -> Result<Vec<(String, String)>, StoreError> {
    serde_json::from_value(stored).map_err(|why| StoreError::corrupt("delivery", &id, &why))
}

impl Store {
    /// Stores what was received, once: what was there already is counted. A body that comes again without a name of its own
    /// is opened again when it was settled and is older than a minute.
    pub async fn inbox_put(&self, new: &NewDelivery, now: Timestamp) -> Result<Received, StoreError> {
        let (key, by_body) = match &new.key {
            DeliveryKey::Id(id) => (format!("id:{id}"), false),
            DeliveryKey::Body(hash) => (format!("body:{hash}"), true),
        };
        let state = if new.ignored.is_some() { DeliveryState::Ignored } else { DeliveryState::Pending };
        let result = new.ignored.as_deref().map(storable).unwrap_or_default();
        let headers = serde_json::to_value(&new.headers).map_err(|error| StoreError::Other(error.to_string()))?;
        let aged = now.saturating_sub(SAME).unwrap_or(Timestamp::MIN);
        let row = sqlx::query!(
            r#"WITH waiting AS (
                 SELECT count(*) AS rows, coalesce(sum(size), 0) AS bytes FROM webhook_inbox
                 WHERE receiver_id = $2 AND state = 'pending'
             )
             INSERT INTO webhook_inbox AS known (id, receiver_id, delivery, headers, body, size, state, result, received_at,
                                                 settled_at)
             SELECT $1::uuid, $2::uuid, $3::text, $4::jsonb, $5::bytea, octet_length($5::bytea), $6::text, $7::text,
                    $8::timestamptz, CASE WHEN $6::text = 'pending' THEN NULL ELSE $8::timestamptz END
             FROM waiting
             WHERE $6::text <> 'pending' OR (rows < $11::bigint AND bytes + octet_length($5::bytea) <= $12::bigint)
                 OR EXISTS (SELECT FROM webhook_inbox AS same WHERE same.receiver_id = $2 AND same.delivery = $3)
             ON CONFLICT (receiver_id, delivery) DO UPDATE
             SET (seen, opened, headers, body, size, state, result, received_at, settled_at) = (
                 SELECT known.seen + 1, known.opened + 1, excluded.headers, excluded.body, excluded.size, excluded.state,
                        excluded.result, excluded.received_at, excluded.settled_at
                 WHERE $9::boolean AND known.state <> 'pending' AND known.received_at <= $10::timestamptz
                 UNION ALL
                 SELECT known.seen + 1, known.opened, known.headers, known.body, known.size, known.state, known.result,
                        known.received_at, known.settled_at
                 WHERE NOT ($9::boolean AND known.state <> 'pending' AND known.received_at <= $10::timestamptz))
             RETURNING id, (received_at = $8 AND (seen = 1 OR opened > 1)) AS "is_new!""#,
            new.id,
            new.receiver,
            key,
            headers,
            new.body,
            state.word(),
            result.as_ref(),
            now.to_sqlx() as SqlTimestamp,
            by_body,
            aged.to_sqlx() as SqlTimestamp,
            MAX_WAITING,
            MAX_WAITING_BYTES
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(match row {
            None => Received::Full,
            Some(row) if row.is_new => Received::New(row.id),
            Some(row) => Received::Known(row.id),
        })
    }

    /// The oldest deliveries to receivers of this share that wait to be worked on.
    pub async fn inbox_pending(&self, share: &Share, limit: i64) -> Result<Vec<PendingDelivery>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT inbox.id, opened, project_id, namespace, projects.name AS project, receiver.name AS receiver, source,
                      registry, headers, body AS "body!", received_at AS "received_at: SqlTimestamp"
               FROM webhook_inbox AS inbox JOIN webhook_receivers AS receiver ON receiver.id = receiver_id
                   JOIN projects ON projects.id = project_id
               WHERE state = 'pending' AND in_share(namespace, $1, $3, $4)
               ORDER BY received_at, inbox.id LIMIT $2"#,
            share.listed(),
            limit,
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| {
            Ok(PendingDelivery {
                headers: headers(row.id, row.headers)?,
                id: row.id,
                opened: row.opened,
                project: Project { id: row.project_id, namespace: row.namespace, name: row.project },
                receiver: row.receiver,
                source: row.source,
                registry: row.registry,
                body: row.body,
                received_at: row.received_at.to_jiff(),
            })
        });
        rows.collect()
    }

    /// The last deliveries to receivers of this share that were worked on after `since`, with when: the newest
    /// first. Those with bodies of more than `size` bytes are left out.
    pub async fn inbox_processed(
        &self,
        share: &Share,
        since: Timestamp,
        size: i32,
        limit: i64,
    ) -> Result<Vec<(PendingDelivery, Timestamp)>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT inbox.id, opened, project_id, namespace, projects.name AS project, receiver.name AS receiver, source,
                      registry, headers, body AS "body!", received_at AS "received_at: SqlTimestamp",
                      settled_at AS "settled_at!: SqlTimestamp"
               FROM webhook_inbox AS inbox JOIN webhook_receivers AS receiver ON receiver.id = receiver_id
                   JOIN projects ON projects.id = project_id
               WHERE state = 'processed' AND settled_at > $2 AND body IS NOT NULL AND size <= $3
                   AND in_share(namespace, $1, $5, $6)
               ORDER BY settled_at DESC, inbox.id LIMIT $4"#,
            share.listed(),
            since.to_sqlx() as SqlTimestamp,
            size,
            limit,
            share.shards(),
            share.count()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let rows = rows.into_iter().map(|row| {
            let delivery = PendingDelivery {
                headers: headers(row.id, row.headers)?,
                id: row.id,
                opened: row.opened,
                project: Project { id: row.project_id, namespace: row.namespace, name: row.project },
                receiver: row.receiver,
                source: row.source,
                registry: row.registry,
                body: row.body,
                received_at: row.received_at.to_jiff(),
            };
            Ok((delivery, row.settled_at.to_jiff()))
        });
        rows.collect()
    }

    /// Says what became of deliveries, in one statement; one that was opened again since is left alone. Says how many were
    /// settled.
    pub async fn inbox_settle(&self, settled: &[Settled], now: Timestamp) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = settled.iter().map(|one| one.id).collect();
        let opened: Vec<i32> = settled.iter().map(|one| one.opened).collect();
        let states: Vec<String> = settled.iter().map(|one| one.state.word().to_owned()).collect();
        let results: Vec<String> = settled.iter().map(|one| storable(&one.result).into_owned()).collect();
        let done = sqlx::query!(
            "UPDATE webhook_inbox SET state = one.state, result = one.result, settled_at = $5
             FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[]) AS one (id, opened, state, result)
             WHERE webhook_inbox.id = one.id AND webhook_inbox.opened = one.opened AND webhook_inbox.state = 'pending'
                 AND (SELECT leads($6, $7))",
            &ids,
            &opened,
            &states,
            &results,
            now.to_sqlx() as SqlTimestamp,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }

    /// The last deliveries, the newest first: of a project, or of all; at most 100 of each receiver.
    pub async fn inbox_list(&self, project: Option<Uuid>, limit: i64) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT inbox.id, project_id, namespace, projects.name AS project, receiver.name AS receiver, source, delivery,
                      state, result, seen, size, received_at AS "received_at: SqlTimestamp",
                      settled_at AS "settled_at: SqlTimestamp"
               FROM webhook_receivers AS receiver JOIN projects ON projects.id = project_id
                   CROSS JOIN LATERAL (
                       SELECT * FROM webhook_inbox WHERE receiver_id = receiver.id
                       ORDER BY received_at DESC, id DESC LIMIT 100) AS inbox
               WHERE $1::uuid IS NULL OR project_id = $1
               ORDER BY received_at DESC, inbox.id DESC LIMIT $2"#,
            project,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(Delivery::try_from).collect()
    }

    /// A delivery with everything that is stored of it.
    pub async fn inbox_get(&self, id: Uuid) -> Result<Option<DeliveryDetail>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT inbox.id, project_id, namespace, projects.name AS project, receiver.name AS receiver, source, delivery,
                      state, result, seen, size, received_at AS "received_at: SqlTimestamp",
                      settled_at AS "settled_at: SqlTimestamp"
               FROM webhook_inbox AS inbox JOIN webhook_receivers AS receiver ON receiver.id = receiver_id
                   JOIN projects ON projects.id = project_id
               WHERE inbox.id = $1"#,
            id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let Some(row) = row else { return Ok(None) };
        let rest = sqlx::query!("SELECT headers, body FROM webhook_inbox WHERE id = $1", id)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        Ok(Some(DeliveryDetail { delivery: row.try_into()?, headers: headers(id, rest.headers)?, body: rest.body }))
    }

    /// Has a delivery worked on again; audited.
    pub async fn inbox_replay(&self, id: Uuid, actor: &Actor, now: Timestamp) -> Result<Replayed, StoreError> {
        let row = sqlx::query!(
            r#"WITH known AS (
                 SELECT state, body IS NULL AS bodiless FROM webhook_inbox WHERE id = $1
             ), put AS (
                 UPDATE webhook_inbox SET state = 'pending', result = '', opened = opened + 1, received_at = $2, settled_at = NULL
                 WHERE id = $1 AND state <> 'pending' AND body IS NOT NULL AND leads($4, $5)
                 RETURNING id, receiver_id
             ), told AS (
                 INSERT INTO audit_log (at, actor, action, subject, details)
                 SELECT $2, $3, 'webhook.replay', 'webhook/' || receiver_id, jsonb_build_object('delivery', id) FROM put
             )
             SELECT state, bodiless AS "bodiless!" FROM known"#,
            id,
            now.to_sqlx() as SqlTimestamp,
            actor.to_string(),
            self.lease(),
            self.epoch()
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(match row {
            None => Replayed::Unknown,
            Some(row) if row.state == DeliveryState::Pending.word() => Replayed::Waiting,
            Some(row) if row.bodiless => Replayed::Bodiless,
            Some(_) => Replayed::Opened,
        })
    }

    /// Keeps the inbox of a receiver in bounds: of what is settled, only the newest keep their bodies, and not too many are
    /// known at all. Any replica may do it.
    pub async fn inbox_trim(&self, receiver: Uuid) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE webhook_inbox SET body = NULL WHERE body IS NOT NULL AND state <> 'pending' AND id = ANY(ARRAY(
                 SELECT id FROM webhook_inbox WHERE receiver_id = $1
                 ORDER BY received_at DESC, id DESC OFFSET $2 LIMIT 2000))",
            receiver,
            KEPT_BODIES
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        sqlx::query!(
            "DELETE FROM webhook_inbox WHERE state <> 'pending' AND id = ANY(ARRAY(
                 SELECT id FROM webhook_inbox WHERE receiver_id = $1
                 ORDER BY received_at DESC, id DESC OFFSET $2 LIMIT 2000))",
            receiver,
            KEPT
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Deletes at most `limit` deliveries that were settled before `before`, the oldest first; says how many went.
    pub async fn inbox_prune(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM webhook_inbox WHERE id = ANY(ARRAY(
                 SELECT id FROM webhook_inbox WHERE settled_at < $1 AND (SELECT leads($3, $4))
                 ORDER BY settled_at, id LIMIT $2))",
            before.to_sqlx() as SqlTimestamp,
            limit,
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected())
    }
}
