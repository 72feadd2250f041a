//! `/namespaces/{namespace}/deploys/{deploy}/logs`: in pages, or as a stream of events until the deploy has ended.
//!
//! A stream begins with what is there and goes on with what comes. Whoever listens is asked for again every minute: a token that
//! ended, or a right that was taken away, ends the stream. Each line is an event whose id is its place, so that a listener who
//! comes back with `Last-Event-ID` misses nothing.

pub mod search;
mod stream;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    deploys::{DEPLOY, Found},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::{NAMESPACE, on_project},
};
use crate::{
    cluster::access::Attributes,
    store::{LogFilter, LogLine, StoredLine},
};

/// What can be searched for.
const WORDS: &str =
    "Only lines with these words, as in a web search: `connection refused`, `\"exit code 1\"`, `timeout -probe`.";

static SEARCH: Parameter = Parameter::query("search", Kind::Text, WORDS);
static ACCEPT: Parameter = Parameter::header("accept", Kind::Text, "`text/event-stream` for a stream of events.");
static LAST_EVENT: Parameter = Parameter::header(
    "last-event-id",
    Kind::Number(0, i64::MAX),
    "For a stream: the id of the last event that was received; the stream goes on behind it.",
);

/// A line of a deploy's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// Where it comes from: `operator`, `pod/shop-web-0/web`, `hook/migrate`, `events`.
    pub source: String,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The line. Values of secrets are masked in it.
    pub text: String,
}

impl From<StoredLine> for Line {
    fn from(stored: StoredLine) -> Self {
        let LogLine { at, source, seq: _, level, text } = stored.line;
        Self { at, source, level: level.word().to_owned(), text }
    }
}

/// The log of a deploy.
pub(super) struct Read {
    found: Found,
    search: Option<String>,
    after: i64,
    limit: i64,
    streams: bool,
}

impl Read {
    fn filter(&self, deploy: Uuid) -> LogFilter {
        LogFilter { deploy, search: self.search.clone(), after: self.after, limit: self.limit }
    }
}

impl Command for Read {
    fn attributes(&self) -> Vec<Attributes> {
        let project = self.found.named(|entry| &entry.place.project);
        on_project(self.found.namespace(), Some(&project), "readlogs")
    }
}

impl Operation for Read {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &DEPLOY, &SEARCH, &LIMIT, &CURSOR, &ACCEPT, &LAST_EVENT],
        access: &[("projects", "readlogs"), ("projects", "get")],
        streams: true,
        about: "As a stream (`Accept: text/event-stream`): an event `line` for each line, whose id is its place and whose data is \
                the line as JSON; an event `end` with the deploy's state when the deploy has ended. After four minutes the \
                stream ends without one: come back with `Last-Event-ID`. The token and the rights are looked at again every \
                minute.",
        ..Spec::get(
            "/namespaces/{namespace}/deploys/{deploy}/logs",
            "readLogs",
            "The log of a deploy, in the order in which it was written.",
        )
    };

    type Content = ();
    type Answer = Page<Line>;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        let streams = input.get("accept").is_some_and(|kinds| kinds.contains("text/event-stream"));
        let place = if streams { input.number("last-event-id") } else { cursor::read::<i64>(&input)? };
        Ok(Self {
            found: Found::look_up(ground, &input.text("namespace"), input.id("deploy")).await?,
            search: input.get("search").map(Into::into),
            after: place.unwrap_or_default().max(0),
            limit: cursor::limit(&input),
            streams,
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Line>>, Problem> {
        let asked = authorized.command();
        let deploy = asked.found.entry()?.stored.deploy.id;
        if asked.streams {
            let filter = LogFilter { limit: stream::BATCH, ..asked.filter(deploy) };
            return Ok(Reply::Stream(stream::events(call.ground.clone(), authorized, filter)));
        }
        let limit = asked.limit;
        let filter = LogFilter { limit: limit + 1, ..asked.filter(deploy) };
        let lines = call.ground.store.logs_list(&filter).await?;
        Ok(Reply::of(Page::cut(lines, limit, |last| last.position, Line::from)))
    }
}
