//! Entries of the audit log as people and programs read them.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{
        failure::Failure,
        history::{ago, explained},
        output::{self, Columns, Format},
    },
    http::api::audit::Entry,
};

#[derive(Serialize)]
struct List<'a> {
    items: Vec<RecordView<'a>>,
}

/// An entry as programs read it: what is told of every entry by its own name, the rest in `details`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordView<'a> {
    seq: i64,
    at: Timestamp,
    actor: String,
    action: &'a str,
    subject: &'a str,
    namespace: Option<&'a str>,
    project: Option<&'a str>,
    stage: Option<&'a str>,
    reason: Option<&'a str>,
    via: Option<&'a str>,
    verified: Option<bool>,
    source: Option<&'a str>,
    request_id: Option<&'a str>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    details: &'a Value,
}

impl<'a> From<&'a Entry> for RecordView<'a> {
    fn from(entry: &'a Entry) -> Self {
        let text = |key: &str| entry.details.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let value = |key: &str| entry.details.get(key).filter(|value| !value.is_null());
        Self {
            seq: entry.seq,
            at: entry.at,
            actor: entry.actor.clone(),
            action: &entry.action,
            subject: &entry.subject,
            namespace: entry.namespace.as_deref(),
            project: entry.project.as_deref(),
            stage: entry.stage.as_deref(),
            reason: text("reason").or_else(|| text("cause")),
            via: text("via"),
            verified: entry.details.get("verified").and_then(Value::as_bool),
            source: text("source"),
            request_id: text("requestId"),
            before: value("before"),
            after: value("after"),
            details: &entry.details,
        }
    }
}

/// Prints entries in a form.
///
/// # Errors
/// Nobody reads them.
pub fn print(entries: &[Entry], format: Format, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let items: Vec<RecordView<'_>> = entries.iter().map(RecordView::from).collect();
    match format {
        Format::Json | Format::Yaml => output::print_value(out, &List { items }, format == Format::Yaml),
        Format::Name => Ok(items.iter().try_for_each(|item| writeln!(out, "audit/{}", item.seq))?),
        Format::Table | Format::Wide if items.is_empty() => Ok(()),
        Format::Table | Format::Wide => Ok(write!(out, "{}", table(&items, format == Format::Wide, now))?),
    }
}

fn table(items: &[RecordView<'_>], wide: bool, now: Timestamp) -> String {
    let mut headings = vec!["SEQ", "AGE", "ACTOR", "ACTION", "WHERE", "SUBJECT"];
    if wide {
        headings.extend(["AT", "VIA", "SOURCE", "REQUEST ID", "BEFORE", "AFTER"]);
    }
    headings.push("REASON");
    let mut columns = Columns::new(&headings);
    for item in items {
        let place: Vec<&str> = [item.namespace, item.project, item.stage].into_iter().flatten().collect();
        // Nobody vouches for such an actor.
        let actor = if item.verified == Some(false) { format!("{}?", item.actor) } else { item.actor.clone() };
        let mut cells = vec![
            item.seq.to_string(),
            ago(item.at, now),
            actor,
            item.action.into(),
            place.join("/"),
            item.subject.into(),
        ];
        let reason = item.reason.unwrap_or_default();
        if wide {
            cells.extend([
                format!("{:.0}", item.at),
                item.via.unwrap_or_default().into(),
                item.source.unwrap_or_default().into(),
                item.request_id.unwrap_or_default().into(),
                digests(item.before),
                digests(item.after),
                reason.into(),
            ]);
        } else {
            cells.push(explained(reason));
        }
        columns.row(cells);
    }
    columns.render()
}

/// `web sha256:6c3c624b58db, db sha256:…`, or whatever else it is in a line.
fn digests(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::Object(services)) => {
            let one = |(service, digest): (&String, &Value)| {
                let digest: String = digest.as_str().unwrap_or_default().chars().take(19).collect();
                format!("{service} {digest}")
            };
            services.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}
