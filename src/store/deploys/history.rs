//! History: what people ask about deploys.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use uuid::Uuid;

use super::{DeployRow, StoredDeploy, StoredTransition};
use crate::{
    domain::{deploy::State, image::Digest},
    store::{Store, StoreError, text::containing},
};

/// Which deploys to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryFilter {
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Only of projects of this name.
    pub project: Option<String>,
    /// Only of stages of this name.
    pub stage: Option<String>,
    /// Only made at this instant or later.
    pub since: Option<Timestamp>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only with an image whose `repository:tag@digest` contains this, in any case of letters. One that ends with a whole
    /// digest is looked up; for anything else the list is read until enough is found.
    pub image: Option<String>,
    /// The end of the page before.
    pub after: Option<HistoryCursor>,
    /// How many at most, at least 1.
    pub limit: i64,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryCursor {
    /// When its last deploy was made.
    pub created_at: Timestamp,
    /// That deploy.
    pub id: Uuid,
}

/// A page of history, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The deploys.
    pub entries: Vec<HistoryEntry>,
    /// Where the next page begins, if there is one.
    pub next: Option<HistoryCursor>,
}

/// Where a deploy went, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Kubernetes namespace.
    pub namespace: String,
    /// The project.
    pub project: String,
    /// The stage.
    pub stage: String,
}

/// A deploy with what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The deploy.
    pub stored: StoredDeploy,
    /// Where it went.
    pub place: Place,
    /// Its steps in order, the making of it first.
    pub transitions: Vec<StoredTransition>,
}

/// A deploy with what it replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployDetail {
    /// The deploy.
    pub entry: HistoryEntry,
    /// The deploy before it on the same target.
    pub predecessor: Option<StoredDeploy>,
}

impl HistoryEntry {
    /// How long it worked: from leaving `pending` to its end, or to `now` while it goes on. Zero for one that never began.
    pub fn working_time(&self, now: Timestamp) -> SignedDuration {
        let pending = State::Pending;
        time_in_states(&self.transitions, self.stored.deploy.finished_at, now)
            .into_iter()
            .filter(|(state, _)| *state != pending)
            .map(|(_, time)| time)
            .sum()
    }
}

/// How long each state lasted, in the order in which they were entered; the last one counts until `finished_at`, or `now`.
/// A state that ends the deploy lasts no time.
pub fn time_in_states(
    transitions: &[StoredTransition],
    finished_at: Option<Timestamp>,
    now: Timestamp,
) -> Vec<(State, SignedDuration)> {
    let ends = transitions.iter().skip(1).map(|next| next.at);
    let ends = ends.chain([finished_at.unwrap_or(now)]);
    transitions
        .iter()
        .zip(ends)
        .map(|(entered, end)| {
            let time = end.duration_since(entered.at);
            (entered.to, time.max(SignedDuration::ZERO))
        })
        .collect()
}

/// The rows of a page: `$head`, what the filter leaves, `$tail`. `$6` is their number, further arguments begin at `$7`.
/// Each list reads its own index backwards from the cursor.
macro_rules! page {
    ($filter:expr, $head:literal, $tail:literal $(, $argument:expr)*) => {
        super::deploys!(
            ($head,
            "(d.created_at, d.id) < (
                 coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
             AND d.created_at >= coalesce($3, '-infinity'::timestamptz)
             AND ($4::text IS NULL OR d.state = $4)
             AND ($5::text IS NULL OR EXISTS (
                 SELECT FROM jsonb_each(d.images) AS i (service, image)
                 WHERE concat(image ->> 'repository', ':' || (image ->> 'tag'), '@' || (image ->> 'digest')) ILIKE $5))
             ORDER BY d.created_at DESC, d.id DESC LIMIT $6",
            $tail),
            $filter.after.map(|after| after.created_at.to_sqlx()) as Option<SqlTimestamp>,
            $filter.after.map(|after| after.id),
            $filter.since.map(Timestamp::to_sqlx) as Option<SqlTimestamp>,
            $filter.state.map(State::word),
            $filter.image.as_deref().map(containing),
            // One more than asked for tells whether there is a next page.
            $filter.limit.max(1) + 1
            $(, $argument)*
        )
    };
}

impl Store {
    /// A page of history. Naming a project or stage that does not exist is an error.
    pub async fn history_list(&self, filter: &HistoryFilter) -> Result<HistoryPage, StoreError> {
        let mut places = None;
        let mut rows = if let Some(digest) = filter.image.as_deref().and_then(whole_digest) {
            self.rows_with(filter, &digest).await?
        } else if filter.stage.is_some() {
            let found = places.insert(self.history_places(filter).await?);
            page!(
                filter,
                "UNNEST($7::uuid[]) AS t (id)
                 CROSS JOIN LATERAL (SELECT * FROM deploys AS d WHERE d.target_id = t.id AND ",
                ") AS d ORDER BY d.created_at DESC, d.id DESC LIMIT $6",
                &found.keys().copied().collect::<Vec<_>>()
            )
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))?
        } else if filter.project.is_some() || filter.namespace.is_some() {
            let projects = self.history_projects(filter).await?;
            page!(
                filter,
                "UNNEST($7::uuid[]) AS p (id)
                 CROSS JOIN LATERAL (SELECT * FROM deploys AS d WHERE d.project_id = p.id AND ",
                ") AS d ORDER BY d.created_at DESC, d.id DESC LIMIT $6",
                &projects
            )
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))?
        } else {
            let page = page!(filter, "deploys AS d WHERE ", "").fetch_all(&self.pool).await;
            page.map_err(|error| self.fault(error))?
        };
        let limit = usize::try_from(filter.limit.max(1)).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let entries = match places {
            Some(places) => self.entries_at(rows, &places).await?,
            None => self.entries_of(rows).await?,
        };
        let last = entries
            .last()
            .filter(|_| more)
            .map(|entry| HistoryCursor { created_at: entry.stored.deploy.created_at, id: entry.stored.deploy.id });
        Ok(HistoryPage { entries, next: last })
    }

    /// The newest deploy of each of these targets that has one.
    pub async fn deploys_latest(&self, targets: &[Uuid]) -> Result<Vec<StoredDeploy>, StoreError> {
        let rows = super::deploys!(
            "UNNEST($1::uuid[]) AS t (id)
             CROSS JOIN LATERAL (
                 SELECT * FROM deploys AS d WHERE d.target_id = t.id ORDER BY d.sequence DESC LIMIT 1
             ) AS d",
            targets
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        rows.into_iter().map(StoredDeploy::try_from).collect()
    }

    /// Whether nothing more happens to a deploy, and how it ended: `None` while it goes on, `Some(None)` when it is gone.
    pub async fn deploy_ended(&self, id: Uuid) -> Result<Option<Option<State>>, StoreError> {
        let row = sqlx::query!("SELECT state, finished_at IS NOT NULL AS \"ended!\" FROM deploys WHERE id = $1", id)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        match row {
            None => Ok(Some(None)),
            Some(row) if row.ended => {
                let state = row.state.parse().map_err(|why| StoreError::corrupt("deploy", &id, &why))?;
                Ok(Some(Some(state)))
            }
            Some(_) => Ok(None),
        }
    }

    /// A deploy with its steps and the deploy before it.
    pub async fn deploy_get(&self, id: Uuid) -> Result<Option<DeployDetail>, StoreError> {
        let row = super::deploys!("deploys AS d WHERE d.id = $1", id)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        let Some(entry) = self.entries_of(row.into_iter().collect()).await?.pop() else {
            return Ok(None);
        };
        let deploy = &entry.stored.deploy;
        let before = super::deploys!(
            "deploys AS d WHERE d.target_id = $1 AND d.sequence = $2",
            deploy.target,
            deploy.sequence - 1
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let predecessor = before.map(StoredDeploy::try_from).transpose()?;
        Ok(Some(DeployDetail { entry, predecessor }))
    }

    /// The deploys whose id begins with `prefix` (hexadecimal digits, dashes do not matter), at most ten: one when people
    /// typed enough of it.
    pub async fn deploy_find(&self, prefix: &str) -> Result<Vec<Uuid>, StoreError> {
        let Some((first, last)) = id_range(prefix) else {
            return Ok(Vec::new());
        };
        sqlx::query_scalar!("SELECT id FROM deploys WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 10", first, last)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))
    }

    /// The ids in a namespace that begin with this, the first few of them.
    pub async fn deploy_find_in(&self, namespace: &str, prefix: &str) -> Result<Vec<Uuid>, StoreError> {
        let Some((first, last)) = id_range(prefix) else {
            return Ok(Vec::new());
        };
        sqlx::query_scalar!(
            "SELECT d.id FROM deploys AS d JOIN projects AS p ON p.id = d.project_id
             WHERE d.id BETWEEN $1 AND $2 AND p.namespace = $3 ORDER BY d.id LIMIT 10",
            first,
            last,
            namespace
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    /// The rows of a page with this digest, found through its releases.
    async fn rows_with(&self, filter: &HistoryFilter, digest: &Digest) -> Result<Vec<DeployRow>, StoreError> {
        let targets = match filter.stage {
            Some(_) => Some(self.history_targets(filter).await?),
            None => None,
        };
        let projects = match (&filter.project, &filter.namespace) {
            (None, None) => None,
            _ => Some(self.history_projects(filter).await?),
        };
        page!(
            filter,
            "releases AS r
             CROSS JOIN LATERAL (
                 SELECT * FROM deploys AS d
                 WHERE d.project_id = r.project_id AND d.release_id = r.id
                     AND ($8::uuid[] IS NULL OR d.project_id = ANY ($8))
                     AND ($9::uuid[] IS NULL OR d.target_id = ANY ($9)) AND ",
            ") AS d WHERE image_digests(r.images) @> ARRAY[$7::text]
             ORDER BY d.created_at DESC, d.id DESC LIMIT $6",
            digest.to_string(),
            projects.as_deref(),
            targets.as_deref()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))
    }

    pub(in crate::store) async fn history_targets(&self, filter: &HistoryFilter) -> Result<Vec<Uuid>, StoreError> {
        Ok(self.history_places(filter).await?.into_keys().collect())
    }

    /// The targets that a filter names, with their names.
    async fn history_places(&self, filter: &HistoryFilter) -> Result<BTreeMap<Uuid, Place>, StoreError> {
        let targets = sqlx::query!(
            "SELECT s.id, s.namespace, p.name AS project, s.name AS stage
             FROM stages AS s JOIN projects AS p ON p.id = s.project_id
             WHERE s.name = $1 AND ($2::text IS NULL OR p.name = $2) AND ($3::text IS NULL OR s.namespace = $3)",
            filter.stage,
            filter.project,
            filter.namespace
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if targets.is_empty() {
            return Err(StoreError::not_found("stage", &named(filter)));
        }
        let place = |namespace, project, stage| Place { namespace, project, stage };
        Ok(targets.into_iter().map(|row| (row.id, place(row.namespace, row.project, row.stage))).collect())
    }

    pub(in crate::store) async fn history_projects(&self, filter: &HistoryFilter) -> Result<Vec<Uuid>, StoreError> {
        let projects = sqlx::query_scalar!(
            "SELECT id FROM projects
             WHERE ($1::text IS NULL OR name = $1) AND ($2::text IS NULL OR namespace = $2)",
            filter.project,
            filter.namespace
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        if projects.is_empty() && filter.project.is_some() {
            return Err(StoreError::not_found("project", &named(filter)));
        }
        Ok(projects)
    }

    /// Rows with their names and steps, in the same order.
    pub(super) async fn entries_of(&self, rows: Vec<DeployRow>) -> Result<Vec<HistoryEntry>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let targets: Vec<Uuid> = rows.iter().map(|row| row.target_id).collect();
        let places = sqlx::query!(
            "SELECT s.id, s.namespace, p.name AS project, s.name AS stage
             FROM stages AS s JOIN projects AS p ON p.id = s.project_id WHERE s.id = ANY ($1)",
            &targets
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|error| self.fault(error))?;
        let places: BTreeMap<Uuid, Place> = places
            .into_iter()
            .map(|row| {
                let place = Place { namespace: row.namespace, project: row.project, stage: row.stage };
                (row.id, place)
            })
            .collect();
        self.entries_at(rows, &places).await
    }

    /// Rows of these targets with their steps, in the same order.
    async fn entries_at(
        &self,
        rows: Vec<DeployRow>,
        places: &BTreeMap<Uuid, Place>,
    ) -> Result<Vec<HistoryEntry>, StoreError> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut steps: BTreeMap<Uuid, Vec<StoredTransition>> = BTreeMap::new();
        for step in self.transitions_of(&self.pool, &ids).await? {
            steps.entry(step.deploy).or_default().push(step);
        }
        rows.into_iter()
            .map(|row| {
                let stored = StoredDeploy::try_from(row)?;
                let deploy = &stored.deploy;
                let place = places
                    .get(&deploy.target)
                    .cloned()
                    .ok_or_else(|| StoreError::corrupt("deploy", &deploy.id, "its stage has no row"))?;
                Ok(HistoryEntry { transitions: steps.remove(&deploy.id).unwrap_or_default(), place, stored })
            })
            .collect()
    }
}

/// The digest at the end of a text: `sha256:…`, `ghcr.io/acme/shop@sha256:…`.
pub fn whole_digest(text: &str) -> Option<Digest> {
    let text = text.to_ascii_lowercase();
    text.get(text.rfind("sha256:")?..)?.parse().ok()
}

/// What was asked for, as people write it: `namespace/project/stage`, as far as given.
fn named(filter: &HistoryFilter) -> String {
    let parts = [&filter.namespace, &filter.project, &filter.stage];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    parts.join("/")
}

/// The first and last id that begin with `prefix`.
fn id_range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = prefix.chars().filter(|letter| *letter != '-').collect();
    if digits.is_empty() || digits.len() > 32 || !digits.is_ascii() {
        return None;
    }
    let filled = |fill: &str| Uuid::try_parse(&format!("{digits}{}", fill.repeat(32 - digits.len())));
    Some((filled("0").ok()?, filled("f").ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::actor::Actor;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn steps(parts: &[(State, i64)]) -> Vec<StoredTransition> {
        let step = |(to, second): &(State, i64)| StoredTransition {
            deploy: Uuid::nil(),
            from: None,
            to: *to,
            actor: Actor::Controller,
            reason: "x".into(),
            message: String::new(),
            at: at(*second),
        };
        parts.iter().map(step).collect()
    }

    #[test]
    fn each_state_lasts_until_the_next() {
        let (pending, pulling, failed) = (State::Pending, State::Pulling, State::Failed);
        let steps = steps(&[(pending, 10), (pulling, 70), (failed, 75)]);
        let seconds = |finished, now| -> Vec<i64> {
            time_in_states(&steps, finished, now).into_iter().map(|(_, time)| time.as_secs()).collect()
        };
        assert_eq!(seconds(None, at(80)), [60, 5, 5]);
        assert_eq!(seconds(Some(at(77)), at(80)), [60, 5, 2]);
        assert_eq!(seconds(None, at(0)), [60, 5, 0], "a clock that went back");
        assert!(time_in_states(&[], None, at(0)).is_empty());
    }

    #[test]
    fn a_whole_digest_is_found_at_the_end() {
        let digest = Digest::of(b"x");
        for text in [digest.to_string(), format!("ghcr.io/acme/shop@{digest}"), digest.to_string().to_uppercase()] {
            assert_eq!(whole_digest(&text), Some(digest), "{text}");
        }
        for text in ["", "shop:1.4", "sha256:", "sha256:abc", &format!("{digest}0"), &format!("{digest} ä")] {
            assert_eq!(whole_digest(text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let (first, last) = id_range("0190-ab").unwrap();
        assert_eq!(first.to_string(), "0190ab00-0000-0000-0000-000000000000");
        assert_eq!(last.to_string(), "0190abff-ffff-ffff-ffff-ffffffffffff");
        let whole = "0190ab00-0000-7000-8000-000000000001";
        let (first, last) = id_range(whole).unwrap();
        assert_eq!((first, first.to_string().as_str()), (last, whole));
        for prefix in ["", "-", "xyz", "ä", &"0".repeat(33)] {
            assert_eq!(id_range(prefix), None, "{prefix}");
        }
    }
}
