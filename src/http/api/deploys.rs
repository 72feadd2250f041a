//! Deploys: the history of a namespace or of a stage, and single ones with their steps.
//!
//! Whoever may see a stage may see its deploys. Which stage a deploy is of is looked up before anybody is asked; one that is
//! not there is asked about under its id, so that both take the same way.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    stages::{OF_PROJECT, STAGE, on_stage},
    views::{Deploy, DeployDetail, Transition},
};
use crate::{
    cluster::access::Attributes,
    domain::deploy::State,
    store::{HistoryCursor, HistoryEntry, HistoryFilter, StoreError, StoredDeploy},
};

/// The words of the states, in their order.
const STATES: [&str; 10] = {
    let mut words = [""; 10];
    let mut at = 0;
    while at < words.len() {
        words[at] = State::ALL[at].word();
        at += 1;
    }
    words
};

/// A deploy in the path.
pub(super) static DEPLOY: Parameter = Parameter::path("deploy", Kind::Id, "The deploy's id.");

pub(super) static OF_STAGE: Parameter = Parameter::query("stage", Kind::Name, "Only of this stage.");
static STATE: Parameter = Parameter::query("state", Kind::OneOf(&STATES), "Only those in this state.");
static SINCE: Parameter =
    Parameter::query("since", Kind::Time, "Only those that were asked for at this time or later.");
pub(super) static IMAGE: Parameter = Parameter::query(
    "image",
    Kind::Text,
    "Only those with an image whose `repository:tag@digest` contains this, in any case of letters.",
);

static BEGINS: Parameter = Parameter::query(
    "id",
    Kind::Text,
    "Only those whose id begins with this: at least eight letters of it. Nothing else can be said beside it.",
);
static STEPS: Parameter = Parameter::query("transitions", Kind::Flag, "With the steps of each.");

/// A position in history.
#[derive(Serialize, Deserialize)]
struct Position(Timestamp, Uuid);

impl From<HistoryCursor> for Position {
    fn from(cursor: HistoryCursor) -> Self {
        Self(cursor.created_at, cursor.id)
    }
}

/// A deploy that a command is about, if it is there: in the namespace that the caller named.
pub(super) struct Found {
    namespace: String,
    id: Uuid,
    entry: Option<HistoryEntry>,
    predecessor: Option<StoredDeploy>,
}

impl Found {
    /// Looks it up.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn look_up(ground: &Ground, namespace: &str, id: Uuid) -> Result<Self, Problem> {
        let found = ground.store.deploy_get(id).await?.filter(|found| found.entry.place.namespace == namespace);
        let (entry, predecessor) = found.map_or((None, None), |found| (Some(found.entry), found.predecessor));
        Ok(Self { namespace: namespace.to_owned(), id, entry, predecessor })
    }

    /// What its caller must be allowed to do with its stage.
    pub(super) fn on_stage(&self, verb: &'static str) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.named(|entry| &entry.place.stage)), verb)
    }

    /// The name of its stage or project. What is not there has its id for a name, which no role can have meant.
    pub(super) fn named(&self, name: impl FnOnce(&HistoryEntry) -> &String) -> String {
        self.entry.as_ref().map_or_else(|| self.id.to_string(), |entry| name(entry).clone())
    }

    /// Its namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The deploy.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn entry(&self) -> Result<&HistoryEntry, Problem> {
        self.entry.as_ref().ok_or_else(Problem::denied)
    }
}

/// A page of history.
///
/// # Errors
/// The database is away.
async fn page(ground: &Ground, filter: &HistoryFilter, steps: bool) -> Result<Reply<Page<Deploy>>, Problem> {
    let page = match ground.store.history_list(filter).await {
        // Names that nothing was recorded for have no history.
        Err(StoreError::NotFound { .. }) => return Ok(Reply::of(Page::whole(Vec::new()))),
        page => page?,
    };
    let items = page.entries.iter().map(|entry| view(entry, steps, ground.clock.now())).collect();
    Ok(Reply::of(Page { items, next: page.next.map(|next| cursor::write(&Position::from(next))) }))
}

fn view(entry: &HistoryEntry, steps: bool, now: Timestamp) -> Deploy {
    if steps { Deploy::with_steps(entry, now) } else { Deploy::new(entry, now) }
}

/// Whether the steps are asked for too.
fn steps(input: &Input) -> bool {
    input.flag(STEPS.name).unwrap_or_default()
}

/// The deploys of a namespace whose id begins with a text.
///
/// # Errors
/// The database is away.
async fn beginning(ground: &Ground, namespace: &str, text: &str, steps: bool) -> Result<Reply<Page<Deploy>>, Problem> {
    let mut items = Vec::new();
    for id in ground.store.deploy_find_in(namespace, text).await? {
        let found = Found::look_up(ground, namespace, id).await?;
        items.extend(found.entry.as_ref().map(|entry| view(entry, steps, ground.clock.now())));
    }
    Ok(Reply::of(Page::whole(items)))
}

/// The namespace, where the path has one.
pub(super) fn namespace_of(input: &Input) -> Option<String> {
    input.get(NAMESPACE.name).map(Into::into)
}

fn filter(input: &Input) -> Result<HistoryFilter, Problem> {
    let after: Option<Position> = cursor::read(input)?;
    Ok(HistoryFilter {
        namespace: namespace_of(input),
        project: input.get("project").map(Into::into),
        stage: input.get("stage").map(Into::into),
        since: input.time("since"),
        state: input.get("state").and_then(|word| word.parse().ok()),
        image: input.get("image").map(Into::into),
        after: after.map(|Position(created_at, id)| HistoryCursor { created_at, id }),
        limit: cursor::limit(input),
    })
}

/// The deploys of a namespace, or all.
pub(super) struct List<const ONE: bool> {
    filter: HistoryFilter,
    begins: Option<String>,
    steps: bool,
}

impl<const ONE: bool> Command for List<ONE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_stages(self.filter.namespace.as_deref())
    }
}

/// Listing what belongs to the stages of a namespace, or to all.
pub(super) fn on_stages(namespace: Option<&str>) -> Vec<Attributes> {
    vec![Attributes { resource: "stages", namespace: namespace.map(Into::into), name: None, verb: "list" }]
}

/// For operations that are about everything.
pub(super) const EVERYWHERE: &str = "Takes the right in all namespaces.";

impl<const ONE: bool> Operation for List<ONE> {
    const SPEC: Spec = if ONE {
        Spec {
            parameters: &[&NAMESPACE, &BEGINS, &OF_PROJECT, &OF_STAGE, &STATE, &SINCE, &IMAGE, &STEPS, &LIMIT, &CURSOR],
            access: &[("stages", "list")],
            ..Spec::get("/namespaces/{namespace}/deploys", "listDeploys", "The deploys of a namespace, newest first.")
        }
    } else {
        Spec {
            parameters: &[&OF_PROJECT, &OF_STAGE, &STATE, &SINCE, &IMAGE, &STEPS, &LIMIT, &CURSOR],
            access: &[("stages", "list")],
            about: EVERYWHERE,
            ..Spec::get("/deploys", "listAllDeploys", "The deploys of all namespaces, newest first.")
        }
    };

    type Content = ();
    type Answer = Page<Deploy>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let begins = input.get(BEGINS.name).map(str::to_owned);
        let others = [&OF_PROJECT, &OF_STAGE, &STATE, &SINCE, &IMAGE, &CURSOR];
        let is_wrong = |text: &String| {
            let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
            !(8..=36).contains(&text.len()) || !text.bytes().all(plain)
        };
        if begins.as_ref().is_some_and(is_wrong)
            || begins.is_some() && others.iter().any(|one| input.get(one.name).is_some())
        {
            return Err(Problem::field("query.id", "expected 8 to 36 letters of an id, and no other filter beside it"));
        }
        Ok(Self { filter: filter(&input)?, begins, steps: steps(&input) })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Deploy>>, Problem> {
        let Self { filter, begins, steps } = authorized.command();
        match (&filter.namespace, begins) {
            (Some(namespace), Some(text)) => beginning(call.ground, namespace, text, *steps).await,
            _ => page(call.ground, filter, *steps).await,
        }
    }
}

/// The deploys of a stage.
pub(super) struct OfStage {
    namespace: String,
    stage: String,
    filter: HistoryFilter,
    steps: bool,
}

impl Command for OfStage {
    fn attributes(&self) -> Vec<Attributes> {
        on_stage(&self.namespace, Some(&self.stage), "get")
    }
}

impl Operation for OfStage {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &STAGE, &STATE, &SINCE, &IMAGE, &STEPS, &LIMIT, &CURSOR],
        access: &[("stages", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/stages/{stage}/deploys",
            "listDeploysOfStage",
            "The deploys of a stage, newest first.",
        )
    };

    type Content = ();
    type Answer = Page<Deploy>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let (namespace, stage) = (input.text("namespace"), input.text("stage"));
        Ok(Self { namespace, stage, filter: filter(&input)?, steps: steps(&input) })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Deploy>>, Problem> {
        let Self { filter, steps, .. } = authorized.command();
        page(call.ground, filter, *steps).await
    }
}

/// A deploy.
pub(super) struct Get {
    found: Found,
    steps: bool,
}

impl Command for Get {
    fn attributes(&self) -> Vec<Attributes> {
        self.found.on_stage("get")
    }
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &DEPLOY, &STEPS],
        access: &[("stages", "get")],
        ..Spec::get("/namespaces/{namespace}/deploys/{deploy}", "getDeploy", "A deploy.")
    };

    type Content = ();
    type Answer = DeployDetail;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        let found = Found::look_up(ground, &input.text("namespace"), input.id("deploy")).await?;
        Ok(Self { found, steps: steps(&input) })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<DeployDetail>, Problem> {
        let Self { found, steps } = authorized.command();
        let deploy = view(found.entry()?, *steps, call.ground.clock.now());
        let hooks = call.ground.store.hooks_list(deploy.brief.id).await?;
        Ok(Reply::of(DeployDetail::new(deploy, hooks, found.predecessor.as_ref())))
    }
}

/// The steps of a deploy.
pub(super) struct Transitions(Found);

impl Command for Transitions {
    fn attributes(&self) -> Vec<Attributes> {
        self.0.on_stage("get")
    }
}

impl Operation for Transitions {
    const SPEC: Spec = Spec {
        parameters: &[&NAMESPACE, &DEPLOY],
        access: &[("stages", "get")],
        ..Spec::get(
            "/namespaces/{namespace}/deploys/{deploy}/transitions",
            "listTransitions",
            "The steps of a deploy in their order, the making of it first.",
        )
    };

    type Content = ();
    type Answer = Page<Transition>;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        Ok(Self(Found::look_up(ground, &input.text("namespace"), input.id("deploy")).await?))
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Transition>>, Problem> {
        let entry = authorized.command().0.entry()?;
        let finished = entry.stored.deploy.finished_at;
        Ok(Reply::of(Page::whole(Transition::all(&entry.transitions, finished, call.ground.clock.now()))))
    }
}
