//! What ran: on each stage at an instant, and which stages ever had an image.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    deploys::{EVERYWHERE, IMAGE, OF_STAGE, namespace_of, on_stages},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
    projects::NAMESPACE,
    stages::OF_PROJECT,
    views::Deploy,
};
use crate::{
    cluster::access::Attributes,
    domain::image::Digest,
    store::{HistoryFilter, ImageRun, Place, ServedFilter, StoreError},
};

static AT_TIME: Parameter = Parameter::query("at", Kind::Time, "The instant; now when left out.");
static DIGEST: Parameter = Parameter::path("digest", Kind::Digest, "The digest of an image.");
static STEPS: Parameter = Parameter::query("transitions", Kind::Flag, "With the steps of each.");

/// What each stage of a namespace, or of all, served at an instant.
pub(super) struct At<const ONE: bool> {
    filter: ServedFilter,
    steps: bool,
}

impl<const ONE: bool> Command for At<ONE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_stages(self.filter.namespace.as_deref())
    }
}

impl<const ONE: bool> Operation for At<ONE> {
    const SPEC: Spec = if ONE {
        Spec {
            parameters: &[&NAMESPACE, &AT_TIME, &OF_PROJECT, &OF_STAGE, &IMAGE, &STEPS, &LIMIT, &CURSOR],
            access: &[("stages", "list")],
            ..Spec::get(
                "/namespaces/{namespace}/served",
                "listServed",
                "The deploy that each stage of a namespace served at an instant, by project and stage.",
            )
        }
    } else {
        Spec {
            parameters: &[&AT_TIME, &OF_PROJECT, &OF_STAGE, &IMAGE, &STEPS, &LIMIT, &CURSOR],
            access: &[("stages", "list")],
            about: EVERYWHERE,
            ..Spec::get(
                "/served",
                "listAllServed",
                "The deploy that each stage served at an instant, by namespace, project and stage.",
            )
        }
    };

    type Content = ();
    type Answer = Page<Deploy>;

    async fn read(input: Input, (): (), ground: &Ground) -> Result<Self, Problem> {
        let after: Option<(String, String, String)> = cursor::read(&input)?;
        let filter = ServedFilter {
            at: input.time("at").unwrap_or_else(|| ground.clock.now()),
            namespace: namespace_of(&input),
            project: input.get("project").map(Into::into),
            stage: input.get("stage").map(Into::into),
            image: input.get("image").map(Into::into),
            after: after.map(|(namespace, project, stage)| Place { namespace, project, stage }),
            limit: cursor::limit(&input),
        };
        Ok(Self { filter, steps: input.flag("transitions").unwrap_or_default() })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Deploy>>, Problem> {
        let Self { filter, steps } = authorized.command();
        let page = match call.ground.store.history_at(filter).await {
            // Names that nothing was recorded for have served nothing.
            Err(StoreError::NotFound { .. }) => return Ok(Reply::of(Page::whole(Vec::new()))),
            page => page?,
        };
        let now = call.ground.clock.now();
        let view = |entry| if *steps { Deploy::with_steps(entry, now) } else { Deploy::new(entry, now) };
        let next =
            page.next.as_ref().map(|Place { namespace, project, stage }| cursor::write(&(namespace, project, stage)));
        Ok(Reply::of(Page { items: page.entries.iter().map(view).collect(), next }))
    }
}

/// A stage that had to do with an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Namespace of the stage.
    pub namespace: String,
    /// Its project.
    pub project: String,
    /// The stage.
    pub stage: String,
    /// Whether it serves the image now.
    pub serves: bool,
    /// When it first served the image; null when it never did.
    pub first: Option<Timestamp>,
    /// When a deploy with it succeeded last.
    pub last: Option<Timestamp>,
    /// When the next success without it took its place; null while it serves.
    pub until: Option<Timestamp>,
    /// Deploys of releases with the image, however they ended.
    pub deploys: i64,
    /// Those among them that succeeded.
    pub succeeded: i64,
}

impl From<ImageRun> for Run {
    fn from(run: ImageRun) -> Self {
        let serves = run.serves();
        let ImageRun { place: Place { namespace, project, stage }, deploys, succeeded, first, last, until } = run;
        Self { namespace, project, stage, serves, first, last, until, deploys, succeeded }
    }
}

/// The stages of a namespace, or all, that ever had an image.
pub(super) struct Ran<const ONE: bool> {
    digest: Digest,
    filter: HistoryFilter,
}

impl<const ONE: bool> Command for Ran<ONE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_stages(self.filter.namespace.as_deref())
    }
}

impl<const ONE: bool> Operation for Ran<ONE> {
    const SPEC: Spec = if ONE {
        Spec {
            parameters: &[&NAMESPACE, &DIGEST, &OF_PROJECT, &OF_STAGE],
            access: &[("stages", "list")],
            ..Spec::get(
                "/namespaces/{namespace}/images/{digest}/stages",
                "listStagesOfImage",
                "The stages of a namespace that ever had an image, those that never served it too.",
            )
        }
    } else {
        Spec {
            parameters: &[&DIGEST, &OF_PROJECT, &OF_STAGE],
            access: &[("stages", "list")],
            about: EVERYWHERE,
            ..Spec::get(
                "/images/{digest}/stages",
                "listAllStagesOfImage",
                "The stages that ever had an image, those that never served it too.",
            )
        }
    };

    type Content = ();
    type Answer = Page<Run>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let digest = input.text(DIGEST.name).parse();
        let filter = HistoryFilter {
            namespace: namespace_of(&input),
            project: input.get("project").map(Into::into),
            stage: input.get("stage").map(Into::into),
            ..HistoryFilter::default()
        };
        // The parameter is of its kind already.
        Ok(Self { digest: digest.map_err(|_| Problem::denied())?, filter })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Run>>, Problem> {
        let Self { digest, filter } = authorized.command();
        let runs = match call.ground.store.image_runs(digest, filter).await {
            Err(StoreError::NotFound { .. }) => Vec::new(),
            runs => runs?,
        };
        Ok(Reply::of(Page::whole(runs.into_iter().map(Run::from).collect())))
    }
}
