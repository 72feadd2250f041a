//! The update list: newer images than what runs somewhere, each until it is acknowledged or deployed.

mod acknowledge;
mod list;
mod see;
mod tags;

pub use list::{UpdateCursor, UpdateFilter, UpdatePage};
pub(super) use see::{SeenRow, see};
pub use tags::{UpdateTag, tag_taken};

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;

use super::StoreError;
use crate::domain::{actor::Actor, image::Digest, update::is_pending};

/// An update as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its number, as people write it.
    pub id: i64,
    /// What is followed: a repository, or one of its tags.
    pub image: String,
    /// Where it runs: `NAMESPACE/STAGE`, or the host that a sender named; empty when nobody said.
    pub host: String,
    /// As `os/architecture[/variant]`; empty when nobody said.
    pub platform: String,
    /// The tag that is newer.
    pub tag: Option<String>,
    /// What ran when it was seen, where that is known.
    pub old_digest: Option<Digest>,
    /// What is newer.
    pub new_digest: Digest,
    /// When that was built, where that is known.
    pub created: Option<Timestamp>,
    /// What of the host's it was found by; empty for what scans of our own found.
    pub provider: String,
    /// A page about it.
    pub link: Option<String>,
    /// Who saw it.
    pub seen_by: Actor,
    /// When its digest was seen first.
    pub first_seen_at: Timestamp,
    /// When its digest was seen last, no finer than an hour.
    pub last_seen_at: Timestamp,
    /// What of it was acknowledged last.
    pub acknowledged: Option<Acknowledged>,
    /// Names of its tags, in their order.
    pub tags: Vec<String>,
}

/// That somebody knows of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Of this digest.
    pub digest: Digest,
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// Which updates something is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateChoice {
    /// Those with these numbers, all of which must be there.
    These(Vec<i64>),
    /// Those that a filter leaves, however many.
    Matching(UpdateFilter),
}

impl Update {
    /// Whether somebody should look at it.
    pub fn is_pending(&self) -> bool {
        is_pending(&self.new_digest, self.acknowledged.as_ref().map(|acknowledged| &acknowledged.digest))
    }
}

struct UpdateRow {
    id: i64,
    image: String,
    host: String,
    platform: String,
    tag: Option<String>,
    old_digest: Option<String>,
    new_digest: String,
    built_at: Option<SqlTimestamp>,
    provider: String,
    link: Option<String>,
    seen_by: String,
    first_seen_at: SqlTimestamp,
    last_seen_at: SqlTimestamp,
    acknowledged_digest: Option<String>,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<SqlTimestamp>,
    tags: Vec<String>,
}

impl TryFrom<UpdateRow> for Update {
    type Error = StoreError;

    fn try_from(row: UpdateRow) -> Result<Self, StoreError> {
        let id = row.id;
        let digest = |text: String| text.parse::<Digest>().map_err(|why| StoreError::corrupt("update", &id, &why));
        let actor = |text: String| text.parse::<Actor>().map_err(|why| StoreError::corrupt("update", &id, &why));
        let acknowledged = match (row.acknowledged_digest, row.acknowledged_by, row.acknowledged_at) {
            (Some(of), Some(by), Some(at)) => {
                Some(Acknowledged { digest: digest(of)?, by: actor(by)?, at: at.to_jiff() })
            }
            _ => None,
        };
        Ok(Self {
            id,
            image: row.image,
            host: row.host,
            platform: row.platform,
            tag: row.tag,
            old_digest: row.old_digest.map(digest).transpose()?,
            new_digest: digest(row.new_digest)?,
            created: row.built_at.map(SqlTimestamp::to_jiff),
            provider: row.provider,
            link: row.link,
            seen_by: actor(row.seen_by)?,
            first_seen_at: row.first_seen_at.to_jiff(),
            last_seen_at: row.last_seen_at.to_jiff(),
            acknowledged,
            tags: row.tags,
        })
    }
}
