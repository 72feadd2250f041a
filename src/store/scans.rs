//! What registries answered last, one row per question.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::Value;

use super::{
    Store, StoreError,
    text::{at_most, storable},
};
use crate::domain::actor::Actor;

/// Longest explanation of an error that is kept, in bytes.
const MESSAGE: usize = 2_000;

/// The last answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageScan {
    /// Hash of the question, 64 hexadecimal digits.
    pub key: String,
    /// The repository.
    pub repository: String,
    /// With whose login it was asked, as `NAMESPACE/PROJECT/CREDENTIAL`.
    pub login: Option<String>,
    /// What was asked: `tags`, `tag`, `dates`.
    pub about: String,
    /// The tag that was asked about.
    pub tag: Option<String>,
    /// The platform that was asked about.
    pub platform: Option<String>,
    /// The last complete listing, one tag a line.
    pub tags: Option<String>,
    /// The listing before too many tags were gone, one tag a line; none when the last one is believed.
    pub accepted: Option<String>,
    /// How many times somebody accepted a listing.
    pub accepts: i64,
    /// What the registry calls its listing.
    pub validator: Option<String>,
    /// What the tag points to.
    pub digest: Option<String>,
    /// What is known of the tags' dates.
    pub dates: Option<Value>,
    /// When the answer was first given.
    pub since: Option<Timestamp>,
    /// Why the last scan failed, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// Whether asking again may help.
    pub transient: bool,
    /// When it was asked last, or up to an hour before that.
    pub scanned_at: Timestamp,
}

struct Row {
    key: String,
    repository: String,
    login: Option<String>,
    about: String,
    tag: Option<String>,
    platform: Option<String>,
    tags: Option<String>,
    accepted: Option<String>,
    accepts: i64,
    validator: Option<String>,
    digest: Option<String>,
    dates: Option<Value>,
    since: Option<SqlTimestamp>,
    reason: Option<String>,
    message: Option<String>,
    transient: bool,
    scanned_at: SqlTimestamp,
}

impl From<Row> for ImageScan {
    fn from(row: Row) -> Self {
        Self {
            key: row.key,
            repository: row.repository,
            login: row.login,
            about: row.about,
            tag: row.tag,
            platform: row.platform,
            tags: row.tags,
            accepted: row.accepted,
            accepts: row.accepts,
            validator: row.validator,
            digest: row.digest,
            dates: row.dates,
            since: row.since.map(SqlTimestamp::to_jiff),
            reason: row.reason,
            message: row.message,
            transient: row.transient,
            scanned_at: row.scanned_at.to_jiff(),
        }
    }
}

impl Store {
    /// Stores answers in place of those before, all in one statement. What was asked later stays, and so does what somebody
    /// accepted meanwhile.
    pub async fn image_scans_put(&self, scans: &[ImageScan]) -> Result<(), StoreError> {
        let texts = |field: fn(&ImageScan) -> &str| scans.iter().map(|one| field(one).to_owned()).collect::<Vec<_>>();
        let options = |field: fn(&ImageScan) -> Option<&String>| {
            scans.iter().map(|one| field(one).map(|text| storable(text).into_owned())).collect::<Vec<_>>()
        };
        let message =
            |one: &ImageScan| one.message.as_deref().map(|text| at_most(storable(text), MESSAGE).into_owned());
        let times: Vec<SqlTimestamp> = scans.iter().map(|one| one.scanned_at.to_sqlx()).collect();
        let since: Vec<Option<SqlTimestamp>> = scans.iter().map(|one| one.since.map(|at| at.to_sqlx())).collect();
        let accepts: Vec<i64> = scans.iter().map(|one| one.accepts).collect();
        let dates: Vec<Option<Value>> = scans.iter().map(|one| one.dates.clone()).collect();
        let transient: Vec<bool> = scans.iter().map(|one| one.transient).collect();
        sqlx::query!(
            "INSERT INTO image_scans AS known (key, repository, login, about, tag, platform, tags, accepted, accepts,
                                               validator, digest, dates, since, reason, message, transient, scanned_at)
             SELECT new.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                      $8::text[], $9::bigint[], $10::text[], $11::text[], $12::jsonb[],
                                      $13::timestamptz[], $14::text[], $15::text[], $16::boolean[], $17::timestamptz[])
                 AS new (key, repository, login, about, tag, platform, tags, accepted, accepts, validator, digest, dates,
                         since, reason, message, transient, scanned_at)
             WHERE leads($18, $19)
             ORDER BY new.key
             ON CONFLICT (key) DO UPDATE
             SET tags = excluded.tags,
                 accepted = CASE WHEN known.accepts > excluded.accepts THEN known.accepted ELSE excluded.accepted END,
                 accepts = greatest(known.accepts, excluded.accepts), validator = excluded.validator,
                 digest = excluded.digest, dates = excluded.dates, since = excluded.since, reason = excluded.reason,
                 message = excluded.message, transient = excluded.transient, scanned_at = excluded.scanned_at
             WHERE known.scanned_at <= excluded.scanned_at",
            &texts(|one| &one.key),
            &texts(|one| &one.repository),
            &options(|one| one.login.as_ref()) as &[Option<String>],
            &texts(|one| &one.about),
            &options(|one| one.tag.as_ref()) as &[Option<String>],
            &options(|one| one.platform.as_ref()) as &[Option<String>],
            &options(|one| one.tags.as_ref()) as &[Option<String>],
            &options(|one| one.accepted.as_ref()) as &[Option<String>],
            &accepts,
            &options(|one| one.validator.as_ref()) as &[Option<String>],
            &options(|one| one.digest.as_ref()) as &[Option<String>],
            &dates as &[Option<Value>],
            &since as &[Option<SqlTimestamp>],
            &options(|one| one.reason.as_ref()) as &[Option<String>],
            &scans.iter().map(message).collect::<Vec<_>>() as &[Option<String>],
            &transient,
            &times as &[SqlTimestamp],
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// Brings the times of scans up to date that answered what they answered before, all in one statement.
    pub async fn image_scans_touch(&self, scans: &[(String, Timestamp)]) -> Result<(), StoreError> {
        let keys: Vec<String> = scans.iter().map(|(key, _)| key.clone()).collect();
        let times: Vec<SqlTimestamp> = scans.iter().map(|(_, at)| at.to_sqlx()).collect();
        sqlx::query!(
            "UPDATE image_scans AS known SET scanned_at = new.at
             FROM unnest($1::text[], $2::timestamptz[]) AS new (key, at)
             WHERE known.key = new.key AND known.scanned_at < new.at AND (SELECT leads($3, $4))",
            &keys,
            &times as &[SqlTimestamp],
            self.lease(),
            self.epoch()
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(())
    }

    /// At most `limit` answers, those that were asked for last first.
    pub async fn image_scans_load(&self, limit: i64) -> Result<Vec<ImageScan>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT key, repository, login, about, tag, platform, tags, accepted, accepts, validator, digest, dates,
                      since AS "since: SqlTimestamp", reason, message, transient,
                      scanned_at AS "scanned_at: SqlTimestamp"
               FROM image_scans ORDER BY scanned_at DESC LIMIT $1"#,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(ImageScan::from).collect())
    }

    /// What is stored of these questions.
    pub async fn image_scans_get(&self, keys: &[String]) -> Result<Vec<ImageScan>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT key, repository, login, about, tag, platform, tags, accepted, accepts, validator, digest, dates,
                      since AS "since: SqlTimestamp", reason, message, transient,
                      scanned_at AS "scanned_at: SqlTimestamp"
               FROM image_scans WHERE key = ANY ($1)"#,
            keys
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(ImageScan::from).collect())
    }

    /// Everything that is stored of some repositories, whoever asked.
    pub async fn image_scans_of(&self, repositories: &[String]) -> Result<Vec<ImageScan>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT key, repository, login, about, tag, platform, tags, accepted, accepts, validator, digest, dates,
                      since AS "since: SqlTimestamp", reason, message, transient,
                      scanned_at AS "scanned_at: SqlTimestamp"
               FROM image_scans WHERE repository = ANY ($1)"#,
            repositories
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(ImageScan::from).collect())
    }

    /// Accepts a listing that lost too many tags, as it was `seen`; audited as an act on `subject`, and told to the leader.
    /// False when there is nothing to accept, or when another listing is stored by now.
    pub async fn image_scan_accept(
        &self,
        seen: &ImageScan,
        subject: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH put AS (
                 UPDATE image_scans SET accepted = tags, accepts = accepts + 1
                 WHERE key = $1 AND tags = $2 AND accepted IS NOT NULL AND accepted <> tags AND accepts = $3
                     AND leads($4, $5)
                 RETURNING repository, login
             )
             INSERT INTO audit_log (at, actor, action, subject, details)
             SELECT $6, $7, 'images.accept', $8, jsonb_build_object('repository', repository, 'login', login,
                                                                    'tags', $9::bigint, 'before', $10::bigint)
             FROM put",
            seen.key,
            seen.tags.as_deref().unwrap_or_default(),
            seen.accepts,
            self.lease(),
            self.epoch(),
            now.to_sqlx() as SqlTimestamp,
            actor.to_string(),
            subject,
            count(seen.tags.as_ref()),
            count(seen.accepted.as_ref())
        )
        .execute(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes at most `limit` answers that nobody asked for since `before`, the oldest first; says how many went.
    pub async fn image_scans_prune(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "DELETE FROM image_scans WHERE key = ANY(ARRAY(
                 SELECT key FROM image_scans WHERE scanned_at < $1 AND (SELECT leads($3, $4))
                 ORDER BY scanned_at LIMIT $2))",
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

/// How many lines a text has.
fn count(text: Option<&String>) -> i64 {
    text.map_or(0, |text| i64::try_from(text.lines().count()).unwrap_or(i64::MAX))
}
