//! The audit log: append-only, each entry chained to the one before it by its hash.

mod list;

pub use list::{AuditCursor, AuditFilter, AuditPage, AuditPlace, AuditRecord};

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError};
use crate::domain::actor::Actor;

/// Entries that are verified with one query.
const PAGE: i64 = 1000;

/// Something to be remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What, as `thing.verb`: `deploy.create`.
    pub action: String,
    /// To what, as `kind/id`: `deploy/0190…`.
    pub subject: String,
    /// The rest. Never secrets.
    pub details: Value,
}

/// Something that is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its place in the chain, from 1 without gaps.
    pub seq: i64,
    /// What happened.
    pub entry: NewAuditEntry,
}

/// What [`Store::audit_verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Entries that are in order, from the first on.
    pub entries: i64,
    /// Where the chain is broken, if it is.
    pub broken: Option<AuditBreak>,
}

/// Where and how the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBreak {
    /// The first entry that is not as it was written.
    pub seq: i64,
    /// What is wrong with it.
    pub why: &'static str,
}

struct ChainRow {
    seq: i64,
    at: SqlTimestamp,
    actor: String,
    action: String,
    subject: String,
    details: String,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
}

impl ChainRow {
    /// The hash that the trigger `audit_log_chain` gave it.
    fn expected_hash(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for part in [
            &self.prev_hash[..],
            self.seq.to_string().as_bytes(),
            self.at.to_jiff().as_microsecond().to_string().as_bytes(),
            self.actor.as_bytes(),
            self.action.as_bytes(),
            self.subject.as_bytes(),
            self.details.as_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().to_vec()
    }
}

struct EntryRow {
    seq: i64,
    at: SqlTimestamp,
    actor: String,
    action: String,
    subject: String,
    details: Value,
}

impl TryFrom<EntryRow> for AuditEntry {
    type Error = StoreError;

    fn try_from(row: EntryRow) -> Result<Self, StoreError> {
        let actor = (row.actor.parse()).map_err(|why| StoreError::corrupt("audit entry", &row.seq, &why))?;
        Ok(Self {
            seq: row.seq,
            entry: NewAuditEntry {
                at: row.at.to_jiff(),
                actor,
                action: row.action,
                subject: row.subject,
                details: row.details,
            },
        })
    }
}

impl Store {
    /// Appends an entry and says its place. Writers form one line until each has committed.
    pub async fn audit_append(&self, entry: &NewAuditEntry) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            "INSERT INTO audit_log (at, actor, action, subject, details) VALUES ($1, $2, $3, $4, $5) RETURNING seq",
            entry.at.to_sqlx() as SqlTimestamp,
            entry.actor.to_string(),
            entry.action,
            entry.subject,
            entry.details
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// What was done to `subject`, newest first; `before` is the last place of the page before.
    pub async fn audit_list(
        &self,
        subject: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query_as!(
            EntryRow,
            r#"SELECT seq, at AS "at: SqlTimestamp", actor, action, subject, details
               FROM audit_log WHERE subject = $1 AND seq < coalesce($2, 9223372036854775807)
               ORDER BY seq DESC LIMIT $3"#,
            subject,
            before,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(AuditEntry::try_from).collect()
    }

    /// Walks the whole chain and computes every hash anew. Entries that are appended meanwhile are not looked at.
    pub async fn audit_verify(&self) -> Result<AuditVerdict, StoreError> {
        self.audit_verify_telling(|_, _| ()).await
    }

    /// [`Store::audit_verify`], which tells from time to time how many entries of how many are in order.
    pub async fn audit_verify_telling(&self, mut tell: impl FnMut(i64, i64)) -> Result<AuditVerdict, StoreError> {
        let head = sqlx::query!("SELECT seq, hash FROM audit_head")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        let mut entries = 0;
        let mut hash: Vec<u8> = Vec::new();
        let broken = |entries: i64, why| {
            let broken = AuditBreak { seq: entries + 1, why };
            Ok(AuditVerdict { entries, broken: Some(broken) })
        };
        loop {
            let page = self.chain_page(entries, head.seq).await?;
            if page.is_empty() {
                break;
            }
            tell(entries, head.seq);
            for row in page {
                if row.seq != entries + 1 {
                    return broken(entries, "it is missing");
                }
                if row.prev_hash != hash {
                    return broken(entries, "it does not follow the entry before it");
                }
                if row.hash != row.expected_hash() {
                    return broken(entries, "its content is not what was written");
                }
                entries = row.seq;
                hash = row.hash;
            }
        }
        if entries < head.seq {
            return broken(entries, "it is missing");
        }
        if hash != head.hash {
            return broken(entries - 1, "it is not the entry that was written last");
        }
        Ok(AuditVerdict { entries, broken: None })
    }

    async fn chain_page(&self, after: i64, last: i64) -> Result<Vec<ChainRow>, StoreError> {
        sqlx::query_as!(
            ChainRow,
            r#"SELECT seq, at AS "at: SqlTimestamp", actor, action, subject, details::text AS "details!",
                      prev_hash, hash
               FROM audit_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3"#,
            after,
            last,
            PAGE
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }
}
