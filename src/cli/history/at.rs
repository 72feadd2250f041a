//! `stagekeeper history --at TIME`: what ran then.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::explained;
use crate::{
    cli::{
        deploys::{DeployView, ShortIds},
        failure::Failure,
        output::{self, Columns, Format},
        remote::Call,
        source::{Source, place, scoped},
    },
    http::api::views::Deploy,
    store::ServedFilter,
};

/// What served at an instant, as programs read it.
#[derive(Serialize)]
struct Served<'a> {
    at: Timestamp,
    items: &'a [DeployView],
}

/// Prints for each stage the deploy that it served at the instant.
///
/// # Errors
/// The database is away, or there is no such project or stage.
pub async fn print(
    source: &Source,
    filter: &ServedFilter,
    format: Format,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (deploys, more) = source.served(filter, now).await?;
    match format {
        Format::Json | Format::Yaml => {
            let served = Served { at: filter.at, items: &deploys };
            return output::print_value(out, &served, format == Format::Yaml);
        }
        Format::Name => deploys.iter().try_for_each(|deploy| writeln!(out, "deploy/{}", deploy.id))?,
        Format::Table | Format::Wide if deploys.is_empty() => writeln!(io::stderr(), "nothing ran then")?,
        Format::Table | Format::Wide => write!(out, "{}", table(&deploys, filter, format == Format::Wide))?,
    }
    if more {
        writeln!(io::stderr(), "there are more stages: raise --limit (now {})", filter.limit)?;
    }
    Ok(())
}

impl Source {
    /// What each stage served, and whether there are more of them.
    pub async fn served(&self, filter: &ServedFilter, now: Timestamp) -> Result<(Vec<DeployView>, bool), Failure> {
        let remote = match self {
            Self::Database(store) => {
                let page = store.history_at(filter).await?;
                let deploys = page.entries.iter().map(|entry| DeployView::new(entry, now)).collect();
                return Ok((deploys, page.next.is_some()));
            }
            Self::Api(remote) => remote,
        };
        let path = scoped(filter.namespace.as_deref(), &["served"]);
        let call = Call::new(&path, place(filter.namespace.as_deref()))
            .with("at", filter.at)
            .with_some("project", filter.project.as_ref())
            .with_some("stage", filter.stage.as_ref())
            .with_some("image", filter.image.as_ref())
            .with("transitions", true);
        let most = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let (deploys, more) = remote.list::<Deploy>(call, most).await?;
        Ok((deploys.into_iter().map(DeployView::from).collect(), more))
    }
}

fn table(deploys: &[DeployView], filter: &ServedFilter, wide: bool) -> String {
    let ids: Vec<_> = deploys.iter().map(|deploy| deploy.id).collect();
    let short = ShortIds::among(&ids);
    let mut headings = Vec::new();
    if filter.namespace.is_none() {
        headings.push("NAMESPACE");
    }
    if filter.project.is_none() {
        headings.push("PROJECT");
    }
    headings.extend(["STAGE", "IMAGES", "SINCE", "DEPLOY", "ACTOR"]);
    if wide {
        headings.extend(["INSTANCE", "RELEASE"]);
    }
    headings.push("WHY");
    let mut columns = Columns::new(&headings);
    for deploy in deploys {
        let mut cells = Vec::new();
        if filter.namespace.is_none() {
            cells.push(deploy.namespace.clone());
        }
        if filter.project.is_none() {
            cells.push(deploy.project.clone());
        }
        let since = deploy.finished_at.map(|at| format!("{at:.0}")).unwrap_or_default();
        let id = if wide { deploy.id.to_string() } else { short.of(&deploy.id) };
        cells.extend([deploy.stage.clone(), deploy.summary.clone(), since, id, deploy.actor.clone()]);
        if wide {
            cells.extend([deploy.instance.clone(), deploy.release.clone(), deploy.cause.clone()]);
        } else {
            cells.push(explained(&deploy.cause));
        }
        columns.row(cells);
    }
    columns.render()
}
