//! `stagekeeper logs --project PROJECT --search WORDS`: the newest lines with words in the logs of a whole project.

use std::io::{self, Write};

use super::{LineFormat, written};
use crate::{
    cli::{Context, failure::Failure, remote::Call, source::Source},
    config::settings::DatabaseArgs,
    http::api::logs::search::FoundLines,
    store::{LogPlace, LogSearch, StoreError},
};

/// Lines of a page at most.
const PAGE: i64 = 200;

/// What to look for, and where.
pub(super) struct Search<'a> {
    pub(super) project: &'a str,
    pub(super) words: &'a str,
    /// How many lines at most.
    pub(super) limit: u16,
    pub(super) format: LineFormat,
}

/// Where the page before ended.
enum Place {
    Row(LogPlace),
    Cursor(String),
}

impl Search<'_> {
    /// Prints lines as they are found: of the newest deploy first, and of each deploy the last line first.
    pub(super) async fn print(
        &self,
        context: &Context,
        database: &DatabaseArgs,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let source = context.source(database).await?;
        let namespace = context.namespace().await?;
        let mut left = i64::from(self.limit);
        let mut place = None;
        loop {
            let (page, next) = self.page(&source, &namespace, place, left.min(PAGE)).await?;
            for found in &page.items {
                writeln!(out, "{}", written(found.deploy, &found.line, self.format, true)?)?;
            }
            out.flush()?;
            left -= i64::try_from(page.items.len()).unwrap_or(left);
            match next {
                None if left == i64::from(self.limit) => return Ok(writeln!(io::stderr(), "no lines found")?),
                None => return Ok(()),
                Some(_) if left <= 0 => {
                    let note = format!("there may be older ones: raise --limit (now {})", self.limit);
                    return Ok(writeln!(io::stderr(), "{note}")?);
                }
                Some(next) => place = Some(next),
            }
            if page.gave_up {
                writeln!(io::stderr(), "still looking, in older deploys")?;
            }
        }
    }

    async fn page(
        &self,
        source: &Source,
        namespace: &str,
        place: Option<Place>,
        limit: i64,
    ) -> Result<(FoundLines, Option<Place>), Failure> {
        match source {
            Source::Database(store) => {
                let project = store.project_get(namespace, self.project).await?;
                let none = || StoreError::NotFound { what: "project", id: format!("{namespace}/{}", self.project) };
                let before = match place {
                    Some(Place::Row(place)) => Some(place),
                    _ => None,
                };
                let search = LogSearch {
                    project_id: project.ok_or_else(none)?.id,
                    words: self.words.to_owned(),
                    before,
                    limit,
                    most: LogSearch::MOST,
                };
                let page = store.logs_search(&search).await?;
                let next = page.next.map(Place::Row);
                Ok((page.into(), next))
            }
            Source::Api(remote) => {
                let cursor = match place {
                    Some(Place::Cursor(cursor)) => Some(cursor),
                    _ => None,
                };
                let path = ["namespaces", namespace, "projects", self.project, "logs"];
                let call = Call::new(&path, format!("project {} in namespace {namespace}", self.project))
                    .with("search", self.words)
                    .with("limit", limit)
                    .with_some("cursor", cursor);
                let page: FoundLines = remote.get(call).await?;
                let next = page.next.clone().map(Place::Cursor);
                Ok((page, next))
            }
        }
    }
}
