//! `stagekeeper history --watch`: what is new, as it comes.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use super::{print, table};
use crate::{
    cli::{
        deploys::DeployView,
        failure::{Code, Failure},
        output::Format,
        source::Source,
    },
    domain::{
        clock::{Clock as _, SystemClock},
        deploy::State,
    },
    store::HistoryFilter,
};

/// Pause between looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Prints the deploys that are there and then, without an end, those that are new or stand elsewhere than before.
///
/// # Errors
/// Nobody reads it any more, or the API or the database refuses. Where they are away, they are waited for.
pub async fn follow(
    source: &Source,
    filter: &HistoryFilter,
    first: Vec<DeployView>,
    format: Format,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut known: HashMap<Uuid, State> = HashMap::new();
    tell(&first, filter, format, now, true, out)?;
    note(&mut known, &first);
    let mut away = false;
    loop {
        out.flush()?;
        tokio::time::sleep(PAUSE).await;
        let now = SystemClock.now();
        let seen = match source.history(filter, now).await {
            Ok((seen, _)) => seen,
            Err(Failure::Said { code: Code::Unavailable, what, .. }) => {
                if !away {
                    writeln!(io::stderr(), "{what}; waiting for it")?;
                }
                away = true;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away = false;
        let mut news: Vec<DeployView> =
            seen.iter().filter(|deploy| known.get(&deploy.id) != Some(&deploy.state)).cloned().collect();
        // What happened last is told last.
        news.reverse();
        tell(&news, filter, format, now, false, out)?;
        // What is not on the page any more is not needed either.
        known.clear();
        note(&mut known, &seen);
    }
}

fn note(known: &mut HashMap<Uuid, State>, deploys: &[DeployView]) {
    known.extend(deploys.iter().map(|deploy| (deploy.id, deploy.state)));
}

/// Tables have their heading once; programs get one object in a line, or one document.
fn tell(
    deploys: &[DeployView],
    filter: &HistoryFilter,
    format: Format,
    now: Timestamp,
    is_first: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let unwritable = |error: String| Failure::failed(format!("the answer cannot be written: {error}"), "");
    match format {
        Format::Json => {
            for deploy in deploys {
                let line = serde_json::to_string(deploy).map_err(|error| unwritable(error.to_string()))?;
                writeln!(out, "{line}")?;
            }
        }
        Format::Yaml => {
            for deploy in deploys {
                let document = serde_yaml::to_string(deploy).map_err(|error| unwritable(error.to_string()))?;
                write!(out, "---\n{document}")?;
            }
        }
        _ if is_first || format == Format::Name => print(deploys, filter, format, now, out)?,
        _ if deploys.is_empty() => {}
        _ => {
            let text = table(deploys, filter, format == Format::Wide, now);
            for line in text.lines().skip(1) {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(())
}
