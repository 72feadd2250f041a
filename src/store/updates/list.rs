//! Reading the list: filters, pages, numbers.

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};

use super::{Update, UpdateChoice, UpdateRow};
use crate::store::{
    Store, StoreError,
    text::{containing, matching},
};

/// Rows of a page when nobody says how many, and of each step of a change to many.
pub(super) const PAGE: i64 = 500;

/// Which updates to list. What is absent leaves everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateFilter {
    /// Only pending ones, or only acknowledged ones.
    pub pending: Option<bool>,
    /// Only with the tag of this name, in any case of letters.
    pub tag: Option<String>,
    /// Only of images that match this glob as a whole: `ghcr.io/acme/*`.
    pub image: Option<String>,
    /// Only of the stages of this namespace.
    pub namespace: Option<String>,
    /// Only on this host, or this `NAMESPACE/STAGE`.
    pub host: Option<String>,
    /// Only where image, tag, host, platform, provider or new digest contain this, in any case of letters.
    pub search: Option<String>,
    /// The end of the page before.
    pub after: Option<UpdateCursor>,
    /// How many at most; 500 when it is below 1.
    pub limit: i64,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateCursor {
    /// When its last update was seen first.
    pub first_seen_at: Timestamp,
    /// That update.
    pub id: i64,
}

/// A page of the list, what was seen first last at the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePage {
    /// The updates.
    pub updates: Vec<Update>,
    /// Where the next page begins, if there is one.
    pub next: Option<UpdateCursor>,
}

/// The rows of a page from `$from`. `$7` is their number, `$8` the namespace, further arguments begin at `$9`. Each list reads its own index
/// backwards from the cursor.
macro_rules! page {
    ($filter:expr, $from:literal $(, $argument:expr)*) => {
        ::sqlx::query_as!(
            UpdateRow,
            r#"SELECT u.id, u.image, u.host, u.platform, u.tag, u.old_digest, u.new_digest, u.built_at AS "built_at: _",
                      u.provider, u.link, u.seen_by, u.first_seen_at AS "first_seen_at: _",
                      u.last_seen_at AS "last_seen_at: _", u.acknowledged_digest, u.acknowledged_by,
                      u.acknowledged_at AS "acknowledged_at: _",
                      ARRAY(SELECT t.name FROM tag_assignments AS a JOIN update_tags AS t ON t.id = a.tag_id
                            WHERE a.update_id = u.id ORDER BY lower(t.name)) AS "tags!"
               FROM "# + $from + "
                   AND (u.first_seen_at, u.id) < (
                       coalesce($1, 'infinity'::timestamptz), coalesce($2, 9223372036854775807))
                   AND ($3::bool IS NULL OR u.pending = $3)
                   AND ($4::text IS NULL OR u.image LIKE $4)
                   AND ($5::text IS NULL OR u.host = $5)
                   AND ($8::text IS NULL OR split_part(u.host, '/', 1) = $8 AND position('/' IN u.host) > 0)
                   AND ($6::text IS NULL OR concat_ws(' ', u.image || coalesce(':' || u.tag, ''), u.host, u.platform,
                                                      u.provider, u.new_digest) ILIKE $6)
               ORDER BY u.first_seen_at DESC, u.id DESC LIMIT $7",
            $filter.after.map(|after| after.first_seen_at.to_sqlx()) as Option<SqlTimestamp>,
            $filter.after.map(|after| after.id),
            $filter.pending,
            $filter.image.as_deref().map(matching),
            $filter.host,
            $filter.search.as_deref().map(containing),
            // One more than asked for tells whether there is a next page.
            $filter.rows() + 1,
            $filter.namespace
            $(, $argument)*
        )
    };
}

impl UpdateFilter {
    /// Leaves everything that is pending.
    pub fn pending() -> Self {
        Self { pending: Some(true), ..Self::default() }
    }

    /// Whether it leaves everything.
    pub fn is_empty(&self) -> bool {
        let Self { pending, tag, image, namespace, host, search, after: _, limit: _ } = self;
        pending.is_none()
            && namespace.is_none()
            && tag.is_none()
            && image.is_none()
            && host.is_none()
            && search.is_none()
    }

    fn rows(&self) -> i64 {
        if self.limit < 1 { PAGE } else { self.limit }
    }
}

impl Store {
    /// A page of the list. Errors: there is no tag of that name.
    pub async fn updates_list(&self, filter: &UpdateFilter) -> Result<UpdatePage, StoreError> {
        let rows = if let Some(tag) = &filter.tag {
            let tag = self.update_tag_id(tag).await?;
            page!(
                filter,
                "(SELECT a.update_id FROM tag_assignments AS a WHERE a.tag_id = $9) AS a
                 JOIN image_updates AS u ON u.id = a.update_id WHERE true",
                tag
            )
            .fetch_all(&self.pool)
            .await
        } else if let Some(host) = &filter.host {
            page!(filter, "image_updates AS u WHERE u.host = $9", host).fetch_all(&self.pool).await
        } else if let Some(namespace) = &filter.namespace {
            page!(
                filter,
                "image_updates AS u WHERE split_part(u.host, '/', 1) = $9 AND position('/' IN u.host) > 0",
                namespace
            )
            .fetch_all(&self.pool)
            .await
        } else if filter.pending == Some(true) {
            page!(filter, "image_updates AS u WHERE u.pending").fetch_all(&self.pool).await
        } else {
            page!(filter, "image_updates AS u WHERE true").fetch_all(&self.pool).await
        };
        let mut rows = rows.map_err(|error| self.fault(error))?;
        let limit = usize::try_from(filter.rows()).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let updates: Vec<Update> = rows.into_iter().map(Update::try_from).collect::<Result<_, _>>()?;
        let last = updates.last().filter(|_| more);
        let next = last.map(|update| UpdateCursor { first_seen_at: update.first_seen_at, id: update.id });
        Ok(UpdatePage { updates, next })
    }

    /// Which of these updates are not those of a stage of the namespace, be it that they are not there.
    pub async fn updates_outside(&self, namespace: &str, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        let inside = sqlx::query_scalar!(
            "SELECT id FROM image_updates
             WHERE id = ANY ($1) AND split_part(host, '/', 1) = $2 AND position('/' IN host) > 0",
            ids,
            namespace
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        Ok(ids.iter().copied().filter(|id| !inside.contains(id)).collect())
    }

    /// How many updates are pending.
    pub async fn updates_pending_count(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar!(r#"SELECT count(*) AS "pending!" FROM image_updates WHERE pending"#)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fault(error))
    }

    /// The updates that are meant, in steps: each is done before the next is read, so that however many there are, none of
    /// them is held for long. `step` says how many it changed; what it changes must not come back in a later step.
    pub(super) async fn each_chosen<'a, F>(
        &'a self,
        choice: &UpdateChoice,
        mut step: impl FnMut(Vec<(i64, String)>) -> F,
    ) -> Result<usize, StoreError>
    where
        F: Future<Output = Result<usize, StoreError>> + 'a,
    {
        let filter = match choice {
            UpdateChoice::These(ids) => return step(self.updates_of(ids).await?).await,
            UpdateChoice::Matching(filter) => filter,
        };
        let mut filter = UpdateFilter { after: None, limit: PAGE, ..filter.clone() };
        let mut changed = 0;
        loop {
            let UpdatePage { updates, next } = self.updates_list(&filter).await?;
            let chosen = updates.iter().map(|update| (update.id, update.new_digest.to_string())).collect();
            changed += step(chosen).await?;
            match next {
                Some(_) => filter.after = next,
                None => return Ok(changed),
            }
        }
    }

    /// The updates with these numbers and what is newer in them. Errors: one of them is not there.
    async fn updates_of(&self, ids: &[i64]) -> Result<Vec<(i64, String)>, StoreError> {
        let rows = sqlx::query!("SELECT id, new_digest FROM image_updates WHERE id = ANY ($1)", ids)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        match ids.iter().find(|id| rows.iter().all(|row| row.id != **id)) {
            Some(missing) => Err(StoreError::not_found("update", missing)),
            None => Ok(rows.into_iter().map(|row| (row.id, row.new_digest)).collect()),
        }
    }
}
