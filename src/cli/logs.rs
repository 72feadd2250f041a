//! `stagekeeper logs DEPLOY [-f]`: what was seen while a deploy ran; and words in the logs of a whole project.

mod listener;
mod search;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use self::{listener::Listener, search::Search};
use super::{
    Context,
    completions::deploys,
    failure::{Code, Failure},
    output::one_line,
    source::Source,
};
use crate::{
    config::settings::DatabaseArgs,
    domain::deploy::State,
    http::api::logs::Line,
    store::{LogFilter, Store, StoreError},
};

/// Lines that are read at once.
const BATCH: i64 = 1000;
/// Lines of a project that are listed when nobody says how many.
const FOUND: u16 = 100;
/// Pauses between looks at a log that does not grow: from the first, doubled up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];

/// What `logs` takes.
#[derive(Args)]
pub struct LogsArgs {
    /// The deploy's id, or a beginning that only it has.
    #[arg(value_name = "DEPLOY", required_unless_present = "project", add = ArgValueCompleter::new(deploys))]
    deploy: Option<String>,
    /// The newest lines with the words of --search in the logs of all deploys of this project, the last line first.
    #[arg(long, value_name = "PROJECT", requires = "search", conflicts_with_all = ["deploy", "follow"])]
    project: Option<String>,
    /// Go on with new lines until the deploy has ended.
    #[arg(short, long)]
    follow: bool,
    /// Only lines with these words, as in a web search: `connection refused`, `"exit code 1"`, `timeout -probe`.
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// How many lines of a project at most.
    #[arg(long, value_name = "NUMBER", default_value_t = FOUND, requires = "project", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Form of a line.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    output: LineFormat,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LineFormat {
    /// Time, source, level and text.
    Text,
    /// A JSON object.
    Json,
}

/// Prints the lines of a deploy in the order in which they arrived.
///
/// # Errors
/// The API or the database is away, or there is no such deploy.
pub async fn print(context: &Context, arguments: &LogsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let (search, format) = (arguments.search.clone(), arguments.output);
    if let (Some(project), Some(words)) = (&arguments.project, &search) {
        let search = Search { project, words, limit: arguments.limit, format };
        return search.print(context, &arguments.database, out).await;
    }
    let source = context.source(&arguments.database).await?;
    let deploy = source.deploy_named(arguments.deploy.as_deref().unwrap_or_default()).await?;
    match source {
        Source::Database(store) => {
            let filter = LogFilter { deploy, search, after: 0, limit: BATCH };
            let mut reader = Reader { store, filter, format };
            if arguments.follow {
                reader.follow(out).await
            } else {
                reader.rest(out).await?;
                Ok(())
            }
        }
        Source::Api(remote) => {
            let listener = Listener { remote: &remote, deploy, search, format };
            if arguments.follow { listener.follow(out).await } else { listener.rest(out).await }
        }
    }
}

/// What one look at a growing log showed.
struct Look {
    /// There were new lines.
    news: bool,
    /// How the deploy ended, if it has.
    end: Option<String>,
}

struct Reader {
    store: Store,
    filter: LogFilter,
    format: LineFormat,
}

impl Reader {
    /// Prints what has not been printed; says whether there was anything.
    async fn rest(&mut self, out: &mut dyn Write) -> Result<bool, Failure> {
        let mut any = false;
        loop {
            let lines = self.store.logs_list(&self.filter).await?;
            for line in &lines {
                self.filter.after = line.position;
                writeln!(out, "{}", written(self.filter.deploy, &Line::from(line.clone()), self.format, false)?)?;
                any = true;
            }
            if i64::try_from(lines.len()).unwrap_or(BATCH) < BATCH {
                out.flush()?;
                return Ok(any);
            }
        }
    }

    /// Prints lines until the deploy has ended. A database that is away for a while is waited for.
    async fn follow(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let [first, longest] = PAUSES;
        let mut pause = first;
        let mut away = false;
        loop {
            match self.look(out).await {
                Ok(Look { end: Some(end), .. }) => return Ok(writeln!(io::stderr(), "{end}")?),
                Ok(look) => {
                    away = false;
                    if look.news {
                        pause = first;
                    }
                }
                Err(Failure::Said { code: Code::Unavailable, what, .. }) => {
                    if !away {
                        writeln!(io::stderr(), "{what}; waiting for it")?;
                    }
                    away = true;
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    async fn look(&mut self, out: &mut dyn Write) -> Result<Look, Failure> {
        // Asked before the lines are read: what was written up to the end is then among them.
        let end = self.end().await?;
        let news = self.rest(out).await?;
        Ok(Look { news, end })
    }

    /// How the deploy ended, if it has.
    async fn end(&self) -> Result<Option<String>, StoreError> {
        let id = self.filter.deploy;
        let Some(found) = self.store.deploy_get(id).await? else {
            return Ok(Some(format!("deploy {id} was removed with its project")));
        };
        let deploy = found.entry.stored.deploy;
        Ok(deploy.is_closed().then(|| ended(id, deploy.state, deploy.message.as_deref())))
    }
}

/// How a deploy ended, in a sentence.
pub(super) fn ended(id: Uuid, state: State, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("deploy {id} ended: {state}: {}", one_line(message)),
        None => format!("deploy {id} ended: {state}"),
    }
}

#[derive(Serialize)]
struct LineView<'a> {
    at: Timestamp,
    deploy: Uuid,
    source: &'a str,
    level: &'a str,
    text: &'a str,
}

/// A line as it is printed; as text with its deploy where lines of several are `mixed`.
fn written(deploy: Uuid, line: &Line, format: LineFormat, mixed: bool) -> Result<String, Failure> {
    let Line { at, source, level, text } = line;
    match format {
        LineFormat::Json => serde_json::to_string(&LineView { at: *at, deploy, source, level, text })
            .map_err(|error| Failure::failed(format!("a line cannot be written: {error}"), "")),
        LineFormat::Text => Ok(format!(
            "{} {}{} {}{}",
            at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
            if mixed { format!("{deploy} ") } else { String::new() },
            one_line(source),
            mark(level),
            one_line(text)
        )),
    }
}

/// Most lines are information, which needs no word.
fn mark(level: &str) -> &'static str {
    match level {
        "debug" => "DEBUG ",
        "warn" => "WARN ",
        "error" => "ERROR ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_a_container_wrote() {
        let line = Line {
            at: "2026-11-21T12:00:00.5Z".parse().expect("an instant"),
            source: "pod/web-0/web".into(),
            level: "error".into(),
            text: "\u{1b}[2Jpanic\nat once".into(),
        };
        assert_eq!(
            written(Uuid::nil(), &line, LineFormat::Text, false),
            Ok("2026-11-21T12:00:00.500Z pod/web-0/web ERROR \u{fffd}[2Jpanic at once".into())
        );
        let json = written(Uuid::nil(), &line, LineFormat::Json, false).expect("JSON");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["text"], "\u{1b}[2Jpanic\nat once");
        assert_eq!(json["level"], "error");
    }
}
