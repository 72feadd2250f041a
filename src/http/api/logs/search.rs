//! `/namespaces/{namespace}/projects/{project}/logs`: words in the logs of all deploys of a project.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Line, WORDS};
use crate::{
    cluster::access::Attributes,
    http::api::{
        Ground,
        cursor::{self, CURSOR, LIMIT},
        guard::{Authorized, Command},
        input::{Input, Kind, Parameter},
        operation::{Call, Operation, Reply, Spec},
        problem::Problem,
        projects::{NAMESPACE, PROJECT, known, on_project},
    },
    store::{LogPage, LogPlace, LogSearch, StoredLine},
};

static SEARCH: Parameter = Parameter::query("search", Kind::Text, WORDS).required();

/// A line that has the words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundLine {
    /// The deploy that it was written for.
    pub deploy: Uuid,
    /// The line.
    #[serde(flatten)]
    pub line: Line,
}

impl From<StoredLine> for FoundLine {
    fn from(stored: StoredLine) -> Self {
        Self { deploy: stored.deploy, line: stored.into() }
    }
}

/// The newest lines that have the words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundLines {
    /// Those of the newest deploy first, and of each deploy the last line first.
    pub items: Vec<FoundLine>,
    /// What `cursor` has to be to look further; left out when there is nothing further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Whether the page ends early because looking further takes long. Everything before `next` was looked at.
    pub gave_up: bool,
}

impl From<LogPage> for FoundLines {
    fn from(page: LogPage) -> Self {
        let LogPage { lines, next, gave_up } = page;
        let next = next.map(|place| cursor::write(&Position(place.made_at, place.deploy, place.position)));
        Self { items: lines.into_iter().map(FoundLine::from).collect(), next, gave_up }
    }
}

/// A place in a project's lines: when the deploy was made, which it is, and the line's place in it.
#[derive(Serialize, Deserialize)]
struct Position(Timestamp, Uuid, i64);

/// Lines with words.
pub(in crate::http::api) struct Search {
    namespace: String,
    project: String,
    words: String,
    before: Option<LogPlace>,
    limit: i64,
}

impl Command for Search {
    fn attributes(&self) -> Vec<Attributes> {
        on_project(&self.namespace, Some(&self.project), "readlogs")
    }
}

impl Operation for Search {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &PROJECT, &SEARCH, &LIMIT, &CURSOR],
        access: &[("projects", "readlogs")],
        about: "Looks through the lines of all deploys of the project, for a few seconds at the most. With `gaveUp` the page may \
                be short or empty although there are further lines: go on with `next`.",
        ..Spec::get(
            "/namespaces/{namespace}/projects/{project}/logs",
            "searchLogs",
            "The newest lines with these words in the logs of a project's deploys.",
        )
    };

    type Content = ();
    type Answer = FoundLines;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let before = cursor::read(&input)?;
        Ok(Self {
            namespace: input.text("namespace"),
            project: input.text("project"),
            words: input.text(SEARCH.name),
            before: before.map(|Position(made_at, deploy, position)| LogPlace { made_at, deploy, position }),
            limit: cursor::limit(&input),
        })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<FoundLines>, Problem> {
        let Self { namespace, project, words, before, limit } = authorized.command();
        let project_id = known(call.ground, namespace, project).await?.id;
        let search =
            LogSearch { project_id, words: words.clone(), before: *before, limit: *limit, most: LogSearch::MOST };
        Ok(Reply::of(call.ground.store.logs_search(&search).await?.into()))
    }
}
