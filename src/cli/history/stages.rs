//! `stagekeeper history --image DIGEST --stages`: which stages ever ran an image, and when.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{
        failure::Failure,
        output::{self, Columns, Format},
    },
    domain::image::Digest,
    store::{HistoryFilter, ImageRun, Store},
};

#[derive(Serialize)]
struct Ran<'a> {
    digest: String,
    items: Vec<RunView<'a>>,
}

/// A stage that had to do with the image, as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunView<'a> {
    namespace: &'a str,
    project: &'a str,
    stage: &'a str,
    serves: bool,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    until: Option<Timestamp>,
    deploys: i64,
    succeeded: i64,
}

/// Prints the stages, those that never got as far as serving the image too.
///
/// # Errors
/// The text ends with no whole digest, the database is away, or there is no such project or stage.
pub async fn print(
    store: &Store,
    digest: &Digest,
    filter: &HistoryFilter,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let runs = store.image_runs(digest, filter).await?;
    match format {
        Format::Json | Format::Yaml => {
            let ran = Ran { digest: digest.to_string(), items: runs.iter().map(RunView::from).collect() };
            output::print_value(out, &ran, format == Format::Yaml)
        }
        Format::Name => {
            let mut names = runs.iter().map(|run| &run.place);
            Ok(names.try_for_each(|place| writeln!(out, "stage/{}/{}", place.namespace, place.stage))?)
        }
        Format::Table | Format::Wide if runs.is_empty() => {
            Ok(writeln!(io::stderr(), "no stage has ever had this image")?)
        }
        Format::Table | Format::Wide => Ok(write!(out, "{}", table(&runs))?),
    }
}

impl<'a> From<&'a ImageRun> for RunView<'a> {
    fn from(run: &'a ImageRun) -> Self {
        Self {
            namespace: &run.place.namespace,
            project: &run.place.project,
            stage: &run.place.stage,
            serves: run.serves(),
            first: run.first,
            last: run.last,
            until: run.until,
            deploys: run.deploys,
            succeeded: run.succeeded,
        }
    }
}

fn table(runs: &[ImageRun]) -> String {
    let mut columns = Columns::new(&["NAMESPACE", "PROJECT", "STAGE", "FIRST", "UNTIL", "DEPLOYS", "SUCCEEDED"]);
    for run in runs {
        let instant = |at: Timestamp| format!("{at:.0}");
        let until = if run.serves() { "serves now".into() } else { run.until.map(instant).unwrap_or_default() };
        columns.row([
            run.place.namespace.clone(),
            run.place.project.clone(),
            run.place.stage.clone(),
            run.first.map_or_else(|| "never served".into(), instant),
            until,
            run.deploys.to_string(),
            run.succeeded.to_string(),
        ]);
    }
    columns.render()
}
