//! Reading the audit log: filters, pages, names of places.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::Value;
use uuid::Uuid;

use super::{AuditEntry, EntryRow};
use crate::{
    domain::actor::Actor,
    store::{HistoryFilter, Store, StoreError},
};

/// Which entries to list. What is absent leaves everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Only about projects and stages in this namespace. What is about the whole installation, such as settings of a
    /// registry, is in none.
    pub namespace: Option<String>,
    /// Only about projects of this name and their stages.
    pub project: Option<String>,
    /// Only about stages of this name.
    pub stage: Option<String>,
    /// Only about this thing, as `kind/id`.
    pub subject: Option<String>,
    /// Only by this actor.
    pub actor: Option<Actor>,
    /// Only of this kind: `deploy.create`.
    pub action: Option<String>,
    /// Only at this instant or later.
    pub since: Option<Timestamp>,
    /// The end of the page before.
    pub after: Option<AuditCursor>,
    /// How many at most, at least 1.
    pub limit: i64,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    /// The time of its last entry.
    pub at: Timestamp,
    /// That entry's place in the chain.
    pub seq: i64,
}

/// A page of the log, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    /// The entries.
    pub records: Vec<AuditRecord>,
    /// Where the next page begins, if there is one.
    pub next: Option<AuditCursor>,
}

/// An entry with the names of what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// The entry.
    pub entry: AuditEntry,
    /// The project or stage that it is about, while anything is known of it.
    pub place: Option<AuditPlace>,
}

/// What an entry is about, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlace {
    /// Kubernetes namespace.
    pub namespace: String,
    /// The project.
    pub project: String,
    /// The stage, if it is about one.
    pub stage: Option<String>,
}

/// The rows of a page from `$from`. `$6` is their number, further arguments begin at `$7`. Each list reads its own index
/// backwards from the cursor.
macro_rules! page {
    ($filter:expr, $head:literal, $tail:literal $(, $argument:expr)*) => {
        ::sqlx::query_as!(
            EntryRow,
            r#"SELECT a.seq, a.at AS "at: _", a.actor, a.action, a.subject, a.details FROM "# + $head + "
                   (a.at, a.seq) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 9223372036854775807))
                   AND a.at >= coalesce($3, '-infinity'::timestamptz)
                   AND ($4::text IS NULL OR a.actor = $4) AND ($5::text IS NULL OR a.action = $5)
               ORDER BY a.at DESC, a.seq DESC LIMIT $6" + $tail,
            $filter.after.map(|after| after.at.to_sqlx()) as Option<SqlTimestamp>,
            $filter.after.map(|after| after.seq),
            $filter.since.map(Timestamp::to_sqlx) as Option<SqlTimestamp>,
            $filter.actor.as_ref().map(Actor::to_string),
            $filter.action,
            // One more than asked for tells whether there is a next page.
            $filter.limit.max(1) + 1
            $(, $argument)*
        )
    };
}

impl Store {
    /// A page of the log. Naming a project or stage that does not exist is an error.
    pub async fn audit_page(&self, filter: &AuditFilter) -> Result<AuditPage, StoreError> {
        let rows = if let Some(subject) = &filter.subject {
            page!(filter, "audit_log AS a WHERE a.subject = $7 AND", "", subject).fetch_all(&self.pool).await
        } else if filter.namespace.is_some() || filter.project.is_some() || filter.stage.is_some() {
            let places = self.audit_places(filter).await?;
            page!(
                filter,
                "UNNEST($7::text[]) AS t (place) CROSS JOIN LATERAL (
                     SELECT * FROM audit_log AS a WHERE audit_place(a.details) = t.place AND",
                ") AS a ORDER BY a.at DESC, a.seq DESC LIMIT $6",
                &places
            )
            .fetch_all(&self.pool)
            .await
        } else if let Some(Actor::User(_) | Actor::Webhook(_)) = filter.actor {
            // Of what one person did there is less than of what is done of one kind.
            page!(filter, "audit_log AS a WHERE a.actor = $7 AND", "", filter.actor.as_ref().map(Actor::to_string))
                .fetch_all(&self.pool)
                .await
        } else if let Some(action) = &filter.action {
            page!(filter, "audit_log AS a WHERE a.action = $7 AND ", "", action).fetch_all(&self.pool).await
        } else if let Some(actor) = &filter.actor {
            page!(filter, "audit_log AS a WHERE a.actor = $7 AND", "", Some(actor.to_string()))
                .fetch_all(&self.pool)
                .await
        } else {
            page!(filter, "audit_log AS a WHERE", "").fetch_all(&self.pool).await
        };
        let rows = rows.map_err(|error| self.fault(error))?;
        let mut entries = rows.into_iter().map(AuditEntry::try_from).collect::<Result<Vec<_>, _>>()?;
        let limit = usize::try_from(filter.limit.max(1)).unwrap_or(usize::MAX);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|last| AuditCursor { at: last.entry.at, seq: last.seq });
        Ok(AuditPage { records: self.audit_named(entries).await?, next })
    }

    /// The ids by which entries about these projects and stages are found: those of the stages where one is named, else
    /// those of the projects and of all their stages, also of deleted ones.
    async fn audit_places(&self, filter: &AuditFilter) -> Result<Vec<String>, StoreError> {
        let AuditFilter { namespace, project, stage, .. } = filter.clone();
        let named = HistoryFilter { namespace, project, stage, ..HistoryFilter::default() };
        if named.stage.is_some() {
            let targets = self.history_targets(&named).await?;
            return Ok(targets.iter().map(Uuid::to_string).collect());
        }
        let projects = self.history_projects(&named).await?;
        let targets = sqlx::query_scalar!("SELECT id FROM targets WHERE project_id = ANY ($1)", &projects)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        Ok(projects.iter().chain(&targets).map(Uuid::to_string).collect())
    }

    async fn audit_named(&self, entries: Vec<AuditEntry>) -> Result<Vec<AuditRecord>, StoreError> {
        let ids: Vec<Uuid> = entries.iter().filter_map(place_of).collect();
        let rows = if ids.is_empty() {
            Vec::new()
        } else {
            sqlx::query!(
                r#"SELECT s.id AS "id!", s.namespace AS "namespace!", p.name AS "project!", s.name AS stage
                   FROM stages AS s JOIN projects AS p ON p.id = s.project_id WHERE s.id = ANY ($1)
                   UNION ALL SELECT id, namespace, name, NULL FROM projects WHERE id = ANY ($1)"#,
                &ids
            )
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.fault(error))?
        };
        let places: BTreeMap<Uuid, AuditPlace> = rows
            .into_iter()
            .map(|row| (row.id, AuditPlace { namespace: row.namespace, project: row.project, stage: row.stage }))
            .collect();
        let record = |entry: AuditEntry| {
            let place = place_of(&entry).and_then(|id| places.get(&id).cloned());
            AuditRecord { entry, place }
        };
        Ok(entries.into_iter().map(record).collect())
    }
}

/// The stage or project that an entry holds the id of, as `audit_place` of the schema finds it.
fn place_of(entry: &AuditEntry) -> Option<Uuid> {
    let details = &entry.entry.details;
    let id = |key: &str| details.get(key).and_then(Value::as_str);
    id("target").or_else(|| id("project"))?.parse().ok()
}
