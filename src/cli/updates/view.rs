//! Updates as people and programs read them.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{
        failure::Failure,
        history::ago,
        output::{self, Columns, Format},
    },
    http::api::updates::{Acknowledged, Update},
};

/// Letters of a digest in a table that is not wide: the algorithm, and the twelve digits that people compare.
const SHORT: usize = 19;

#[derive(Serialize)]
struct List<'a> {
    items: Vec<UpdateView<'a>>,
}

/// An update as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpdateView<'a> {
    id: i64,
    image: &'a str,
    host: &'a str,
    platform: &'a str,
    pending: bool,
    tag: Option<&'a str>,
    old_digest: Option<&'a str>,
    new_digest: &'a str,
    created: Option<Timestamp>,
    provider: &'a str,
    link: Option<&'a str>,
    seen_by: &'a str,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    acknowledged: Option<&'a Acknowledged>,
    tags: &'a [String],
}

impl<'a> From<&'a Update> for UpdateView<'a> {
    fn from(update: &'a Update) -> Self {
        Self {
            id: update.id,
            image: &update.image,
            host: &update.host,
            platform: &update.platform,
            pending: update.pending,
            tag: update.tag.as_deref(),
            old_digest: update.old_digest.as_deref(),
            new_digest: &update.new_digest,
            created: update.created,
            provider: &update.provider,
            link: update.link.as_deref(),
            seen_by: &update.seen_by,
            first_seen_at: update.first_seen_at,
            last_seen_at: update.last_seen_at,
            acknowledged: update.acknowledged.as_ref(),
            tags: &update.tags,
        }
    }
}

/// Prints updates in a form.
///
/// # Errors
/// Nobody reads them.
pub fn print(updates: &[Update], format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => {
            let items = updates.iter().map(UpdateView::from).collect();
            output::print_value(out, &List { items }, format == Format::Yaml)
        }
        Format::Name => Ok(updates.iter().try_for_each(|update| writeln!(out, "update/{}", update.id))?),
        Format::Table | Format::Wide if updates.is_empty() => Ok(()),
        Format::Table | Format::Wide => Ok(write!(out, "{}", table(updates, format == Format::Wide, now))?),
    }
}

fn table(updates: &[Update], wide: bool, now: Timestamp) -> String {
    let mut headings = vec!["ID", "IMAGE", "NEW", "HOST", "PLATFORM", "AGE", "STATE", "TAGS"];
    if wide {
        headings.extend(["DIGEST", "BEFORE", "BUILT", "SEEN", "SEEN BY", "PROVIDER", "ACKNOWLEDGED BY", "LINK"]);
    }
    let mut columns = Columns::new(&headings);
    for update in updates {
        let mut cells = vec![
            update.id.to_string(),
            update.image.clone(),
            new(update),
            update.host.clone(),
            update.platform.clone(),
            ago(update.first_seen_at, now),
            if update.pending { "pending" } else { "acknowledged" }.into(),
            update.tags.join(","),
        ];
        if wide {
            cells.extend([
                update.new_digest.clone(),
                update.old_digest.as_deref().map(short).unwrap_or_default(),
                update.created.map(|at| format!("{} ago", ago(at, now))).unwrap_or_default(),
                format!("{} ago", ago(update.last_seen_at, now)),
                update.seen_by.clone(),
                update.provider.clone(),
                update.acknowledged.as_ref().map(|known| known.by.clone()).unwrap_or_default(),
                update.link.clone().unwrap_or_default(),
            ]);
        }
        columns.row(cells);
    }
    columns.render()
}

/// What is newer, in a word: the tag, unless the image is named with it already.
fn new(update: &Update) -> String {
    match &update.tag {
        Some(tag) if !update.image.ends_with(&format!(":{tag}")) => tag.clone(),
        _ => short(&update.new_digest),
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}
