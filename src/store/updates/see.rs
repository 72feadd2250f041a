//! What was seen becomes rows: one statement for all of it, and none where everything is known.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    domain::update::{SeenUpdate, page},
    store::{
        Store, StoreError,
        text::{at_most, storable},
    },
};

/// Bytes of an image's name that are kept: a repository and a tag are shorter.
const IMAGE: usize = 512;

/// Bytes of what senders call their host, their platform and their provider.
const WORD: usize = 256;

/// What was seen, as the statement reads it.
#[derive(Debug, Serialize)]
pub(in crate::store) struct SeenRow<'a> {
    image: String,
    host: String,
    platform: String,
    tag: Option<String>,
    old_digest: Option<String>,
    new_digest: String,
    built_at: Option<Timestamp>,
    provider: String,
    link: Option<&'a str>,
    seen_by: String,
    at: Timestamp,
    place: usize,
}

impl<'a> SeenRow<'a> {
    /// All of it as one argument. Text from outside is made fit to be stored; what names no page is no link.
    pub(in crate::store) fn all(seen: &'a [SeenUpdate]) -> Value {
        let word = |text: &str, limit| at_most(storable(text), limit).into_owned();
        let row = |(place, one): (usize, &'a SeenUpdate)| SeenRow {
            image: word(&one.image, IMAGE),
            host: word(&one.host, WORD),
            platform: word(&one.platform, WORD),
            tag: one.tag.as_deref().filter(|tag| !tag.is_empty()).map(|tag| word(tag, WORD)),
            old_digest: one.old_digest.map(|digest| digest.to_string()),
            new_digest: one.new_digest.to_string(),
            built_at: one.created.map(stored),
            provider: word(&one.provider, WORD),
            link: one.link.as_deref().and_then(page),
            seen_by: word(&one.seen_by.to_string(), WORD),
            at: stored(one.at),
            place,
        };
        let rows: Vec<SeenRow<'a>> = seen.iter().enumerate().map(row).collect();
        serde_json::to_value(rows).unwrap_or_default()
    }
}

/// An instant as Postgres stores it: read as a text it would be rounded, as an argument it is cut, and the two must not differ.
fn stored(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// `query!` for a statement that also puts what was seen on the list, in a part that is called `put`. `$head` comes before
/// it, `$seen` is the number of the argument with [`SeenRow::all`], `$gate` a condition under which anything is put, and
/// `$tail` what comes after.
///
/// Of several words about one update the one that was seen last counts; of those that were seen at one time the image that
/// was built last, then what was said last. The same digest again only moves `last_seen_at`, once an hour; another one that
/// was seen no later than the one on the list was last seen is old news, however new the image is: a tag may be moved back.
macro_rules! see {
    ($head:literal, $seen:literal, $gate:literal, $tail:literal $(, $argument:expr)* $(,)?) => {
        ::sqlx::query!(
            $head + "seen AS (
                   SELECT DISTINCT ON (image, host, platform) *
                   FROM jsonb_to_recordset(" + $seen + "::jsonb) AS told (
                       image text, host text, platform text, tag text, old_digest text, new_digest text,
                       built_at timestamptz, provider text, link text, seen_by text, at timestamptz, place bigint)
                   WHERE " + $gate + "
                   ORDER BY image, host, platform, at DESC, built_at DESC NULLS LAST, place DESC
               ), known AS (
                   SELECT u.image, u.host, u.platform, u.new_digest, u.last_seen_at, u.built_at
                   FROM seen JOIN image_updates AS u USING (image, host, platform)
               ), touched AS (
                   UPDATE image_updates AS u SET last_seen_at = seen.at
                   FROM seen
                   WHERE (u.image, u.host, u.platform) = (seen.image, seen.host, seen.platform)
                       AND u.new_digest = seen.new_digest AND seen.at >= u.last_seen_at + interval '1 hour'
               ), put AS (
                   INSERT INTO image_updates AS u (image, host, platform, tag, old_digest, new_digest, built_at, provider,
                                                   link, seen_by, first_seen_at, last_seen_at)
                   SELECT image, host, platform, tag, old_digest, new_digest, built_at, provider, link, seen_by, at, at
                   FROM seen
                   WHERE NOT EXISTS (
                       SELECT FROM known AS k
                       WHERE (k.image, k.host, k.platform) = (seen.image, seen.host, seen.platform)
                           AND (k.new_digest = seen.new_digest OR k.last_seen_at > seen.at
                                OR (k.last_seen_at = seen.at AND k.built_at > seen.built_at)))
                   ORDER BY image, host, platform
                   ON CONFLICT (image, host, platform) DO UPDATE
                   SET tag = excluded.tag, old_digest = excluded.old_digest, new_digest = excluded.new_digest,
                       built_at = excluded.built_at, provider = excluded.provider, link = excluded.link,
                       seen_by = excluded.seen_by, first_seen_at = excluded.first_seen_at,
                       last_seen_at = excluded.last_seen_at
                   WHERE u.new_digest <> excluded.new_digest
                       AND (u.last_seen_at < excluded.last_seen_at
                            OR (u.last_seen_at = excluded.last_seen_at
                                AND (u.built_at > excluded.built_at) IS NOT TRUE))
                   RETURNING u.pending
               )" + $tail
            $(, $argument)*
        )
    };
}
pub(in crate::store) use see;

impl Store {
    /// Puts newer images on the list, and says how many updates are new or open again. One statement for all of them, after
    /// one that only reads. The same digest again changes nothing, but for the hour at which it was seen last; tags stay
    /// through all of it.
    pub async fn updates_see(&self, seen: &[SeenUpdate]) -> Result<usize, StoreError> {
        if seen.is_empty() {
            return Ok(0);
        }
        let rows = SeenRow::all(seen);
        // A leader that begins asks about all that it finds: that is read first, so that a start writes nothing.
        let news = sqlx::query_scalar!(
            r#"SELECT EXISTS (
                   SELECT FROM jsonb_to_recordset($1::jsonb) AS told (
                       image text, host text, platform text, new_digest text, at timestamptz)
                   WHERE (SELECT leads($2, $3)) AND NOT EXISTS (
                       SELECT FROM image_updates AS u
                       WHERE (u.image, u.host, u.platform) = (told.image, told.host, told.platform)
                           AND u.new_digest = told.new_digest AND told.at < u.last_seen_at + interval '1 hour')
               ) AS "news!""#,
            &rows,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if !news {
            return Ok(0);
        }
        let row = see!(
            "WITH ",
            "$1",
            "(SELECT leads($2, $3))",
            r#" SELECT count(*) FILTER (WHERE pending) AS "opened!" FROM put"#,
            rows,
            self.lease(),
            self.epoch()
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(usize::try_from(row.opened).unwrap_or_default())
    }
}
