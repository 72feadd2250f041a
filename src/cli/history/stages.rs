//! `stagekeeper history --image DIGEST --stages`: which stages ever ran an image, and when.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{
        failure::Failure,
        output::{self, Columns, Format},
        remote::Call,
        source::{Source, place, scoped},
    },
    domain::image::Digest,
    http::api::{cursor::Page, served::Run},
    store::HistoryFilter,
};

#[derive(Serialize)]
struct Ran<'a> {
    digest: String,
    items: &'a [Run],
}

/// Prints the stages, those that never got as far as serving the image too.
///
/// # Errors
/// The text ends with no whole digest, the database is away, or there is no such project or stage.
pub async fn print(
    source: &Source,
    digest: &Digest,
    filter: &HistoryFilter,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let runs = source.runs(digest, filter).await?;
    match format {
        Format::Json | Format::Yaml => {
            let ran = Ran { digest: digest.to_string(), items: &runs };
            output::print_value(out, &ran, format == Format::Yaml)
        }
        Format::Name => Ok(runs.iter().try_for_each(|run| writeln!(out, "stage/{}/{}", run.namespace, run.stage))?),
        Format::Table | Format::Wide if runs.is_empty() => {
            Ok(writeln!(io::stderr(), "no stage has ever had this image")?)
        }
        Format::Table | Format::Wide => Ok(write!(out, "{}", table(&runs))?),
    }
}

impl Source {
    /// The stages that ever had an image.
    async fn runs(&self, digest: &Digest, filter: &HistoryFilter) -> Result<Vec<Run>, Failure> {
        let remote = match self {
            Self::Database(store) => {
                return Ok(store.image_runs(digest, filter).await?.into_iter().map(Run::from).collect());
            }
            Self::Api(remote) => remote,
        };
        let digest = digest.to_string();
        let path = scoped(filter.namespace.as_deref(), &["images", &digest, "stages"]);
        let call = Call::new(&path, place(filter.namespace.as_deref()))
            .with_some("project", filter.project.as_ref())
            .with_some("stage", filter.stage.as_ref());
        Ok(remote.get::<Page<Run>>(call).await?.items)
    }
}

fn table(runs: &[Run]) -> String {
    let mut columns = Columns::new(&["NAMESPACE", "PROJECT", "STAGE", "FIRST", "UNTIL", "DEPLOYS", "SUCCEEDED"]);
    for run in runs {
        let instant = |at: Timestamp| format!("{at:.0}");
        let until = if run.serves { "serves now".into() } else { run.until.map(instant).unwrap_or_default() };
        columns.row([
            run.namespace.clone(),
            run.project.clone(),
            run.stage.clone(),
            run.first.map_or_else(|| "never served".into(), instant),
            until,
            run.deploys.to_string(),
            run.succeeded.to_string(),
        ]);
    }
    columns.render()
}
