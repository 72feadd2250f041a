//! The update list: of the stages of a namespace, or of the whole installation, which takes rights in all namespaces.

use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Ground,
    cursor::{self, CURSOR, LIMIT, Page},
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Json, Method, Operation, Reply, Spec, actor},
    problem::Problem,
    projects::NAMESPACE,
    requests::KEY,
};
use crate::{
    cluster::access::Attributes,
    store::{self, UpdateChoice, UpdateCursor, UpdateFilter},
};

/// Updates that may be named at once.
const MOST: usize = 500;

static PENDING: Parameter = Parameter::query("pending", Kind::Flag, "Only pending ones, or only acknowledged ones.");
static TAG: Parameter = Parameter::query("tag", Kind::Text, "Only with this tag.");
static IMAGE: Parameter =
    Parameter::query("image", Kind::Text, "Only of images that match this glob as a whole: `ghcr.io/acme/*`.");
static HOST: Parameter =
    Parameter::query("host", Kind::Text, "Only where it runs: `NAMESPACE/STAGE`, or the name of a host.");
static SEARCH: Parameter =
    Parameter::query("search", Kind::Text, "Only where image, tag, host, platform, provider or digest contain this.");

/// A newer image than what runs somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// Its number.
    pub id: i64,
    /// Whether somebody should look at it.
    pub pending: bool,
    /// What is followed: a repository, or one of its tags.
    pub image: String,
    /// Where it runs: `NAMESPACE/STAGE`, or the host that a sender named.
    pub host: String,
    /// As `os/architecture[/variant]`; empty when nobody said.
    pub platform: String,
    /// The tag that is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What ran when it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_digest: Option<String>,
    /// What is newer.
    pub new_digest: String,
    /// When that was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What of the host's it was found by; empty for what scans of our own found.
    pub provider: String,
    /// A page about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Who saw it.
    pub seen_by: String,
    /// When its digest was seen first.
    pub first_seen_at: Timestamp,
    /// When its digest was seen last, no finer than an hour.
    pub last_seen_at: Timestamp,
    /// What of it was acknowledged last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// That somebody knows of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// Of this digest.
    pub digest: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl From<store::Update> for Update {
    fn from(update: store::Update) -> Self {
        let pending = update.is_pending();
        Self {
            id: update.id,
            pending,
            image: update.image,
            host: update.host,
            platform: update.platform,
            tag: update.tag,
            old_digest: update.old_digest.map(|digest| digest.to_string()),
            new_digest: update.new_digest.to_string(),
            created: update.created,
            provider: update.provider,
            link: update.link,
            seen_by: update.seen_by.to_string(),
            first_seen_at: update.first_seen_at,
            last_seen_at: update.last_seen_at,
            acknowledged: update.acknowledged.map(|known| Acknowledged {
                digest: known.digest.to_string(),
                by: known.by.to_string(),
                at: known.at,
            }),
            tags: update.tags,
        }
    }
}

/// Which updates are meant: by their numbers, or by a filter. One of the two must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Chosen {
    /// Their numbers, at most 500, all of which must be there.
    #[serde(default)]
    ids: Option<Vec<i64>>,
    /// All that it leaves, however many; an empty one leaves all of them.
    #[serde(default)]
    filter: Option<Filter>,
}

/// What leaves some of the updates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "UpdateFilter")]
pub(super) struct Filter {
    /// Only with this tag.
    #[serde(default)]
    tag: Option<String>,
    /// Only of images that match this glob as a whole.
    #[serde(default)]
    image: Option<String>,
    /// Only where it runs.
    #[serde(default)]
    host: Option<String>,
    /// Only where image, tag, host, platform, provider or digest contain this.
    #[serde(default)]
    search: Option<String>,
}

/// How many updates were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// How many.
    pub changed: usize,
}

/// Something done to the updates of a namespace, or to all. Updates are those of stages: their rights are the stages'.
pub(super) fn on_updates(namespace: Option<&str>, verb: &'static str) -> Vec<Attributes> {
    vec![Attributes { resource: "stages", namespace: namespace.map(Into::into), name: None, verb }]
}

impl Chosen {
    /// The updates that are meant, of a namespace if one is named, among those that are `pending` or not.
    ///
    /// # Errors
    /// Nothing says which, or too much does.
    pub(super) fn choice(self, namespace: Option<String>, pending: Option<bool>) -> Result<UpdateChoice, Problem> {
        match (self.ids, self.filter) {
            (Some(ids), None) if (1..=MOST).contains(&ids.len()) => Ok(UpdateChoice::These(ids)),
            (Some(_), None) => Err(Problem::field("ids", format!("expected 1 to {MOST} numbers"))),
            (None, Some(Filter { tag, image, host, search })) => Ok(UpdateChoice::Matching(UpdateFilter {
                pending,
                tag,
                image,
                namespace,
                host,
                search,
                ..UpdateFilter::default()
            })),
            (None, None) => Err(Problem::field("ids", "expected this, or `filter`")),
            (Some(_), Some(_)) => Err(Problem::field("filter", "expected this or `ids`, not both")),
        }
    }
}

/// Refuses numbers that are not those of the namespace.
///
/// # Errors
/// One is not, or is not there.
pub(super) async fn within(ground: &Ground, namespace: Option<&str>, choice: &UpdateChoice) -> Result<(), Problem> {
    if let (Some(namespace), UpdateChoice::These(ids)) = (namespace, choice)
        && !ground.store.updates_outside(namespace, ids).await?.is_empty()
    {
        return Err(Problem::denied());
    }
    Ok(())
}

/// The namespace, where the path has one.
pub(super) fn namespace_of(input: &Input) -> Option<String> {
    input.get(NAMESPACE.name).map(Into::into)
}

/// The updates of a namespace, or all.
pub(super) struct List<const ONE: bool>(UpdateFilter);

impl<const ONE: bool> Command for List<ONE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(self.0.namespace.as_deref(), "list")
    }
}

impl<const ONE: bool> Operation for List<ONE> {
    const SPEC: Spec = if ONE {
        Spec {
            parameters: &[&NAMESPACE, &PENDING, &TAG, &IMAGE, &HOST, &SEARCH, &LIMIT, &CURSOR],
            access: &[("stages", "list")],
            ..Spec::get(
                "/namespaces/{namespace}/updates",
                "listUpdates",
                "Newer images than what runs on the stages of a namespace, what was seen first last.",
            )
        }
    } else {
        Spec {
            parameters: &[&PENDING, &TAG, &IMAGE, &HOST, &SEARCH, &LIMIT, &CURSOR],
            access: &[("stages", "list")],
            about: "Takes the right in all namespaces.",
            ..Spec::get("/updates", "listAllUpdates", "Newer images than what runs anywhere, other hosts included.")
        }
    };

    type Content = ();
    type Answer = Page<Update>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let after: Option<(Timestamp, i64)> = cursor::read(&input)?;
        Ok(Self(UpdateFilter {
            pending: input.flag("pending"),
            tag: input.get("tag").map(Into::into),
            image: input.get("image").map(Into::into),
            namespace: namespace_of(&input),
            host: input.get("host").map(Into::into),
            search: input.get("search").map(Into::into),
            after: after.map(|(first_seen_at, id)| UpdateCursor { first_seen_at, id }),
            limit: cursor::limit(&input),
        }))
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Update>>, Problem> {
        let page = call.ground.store.updates_list(&authorized.command().0).await?;
        let next = page.next.map(|next| cursor::write(&(next.first_seen_at, next.id)));
        Ok(Reply::of(Page { items: page.updates.into_iter().map(Update::from).collect(), next }))
    }
}

/// Says that somebody knows of updates, or opens them again.
pub(super) struct Acknowledge<const ONE: bool, const KNOWN: bool> {
    namespace: Option<String>,
    choice: UpdateChoice,
}

impl<const ONE: bool, const KNOWN: bool> Command for Acknowledge<ONE, KNOWN> {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(self.namespace.as_deref(), "update")
    }
}

impl<const ONE: bool, const KNOWN: bool> Operation for Acknowledge<ONE, KNOWN> {
    const SPEC: Spec = Spec {
        parameters: if ONE { &[&NAMESPACE, &KEY] } else { &[&KEY] },
        access: &[("stages", "update")],
        status: StatusCode::OK,
        about: if ONE { "" } else { "Takes the right in all namespaces." },
        example: Some(|| json!({"filter": {"image": "ghcr.io/acme/*"}})),
        ..match (ONE, KNOWN) {
            (true, true) => Spec::new(
                Method::Post,
                "/namespaces/{namespace}/updates/acknowledge",
                "acknowledgeUpdates",
                "Acknowledge updates of the stages of a namespace.",
            ),
            (true, false) => Spec::new(
                Method::Post,
                "/namespaces/{namespace}/updates/unacknowledge",
                "unacknowledgeUpdates",
                "Open acknowledged updates of the stages of a namespace again.",
            ),
            (false, true) => {
                Spec::new(Method::Post, "/updates/acknowledge", "acknowledgeAnyUpdates", "Acknowledge updates.")
            }
            (false, false) => Spec::new(
                Method::Post,
                "/updates/unacknowledge",
                "unacknowledgeAnyUpdates",
                "Open acknowledged updates again.",
            ),
        }
    };

    type Content = Json<Chosen>;
    type Answer = Changed;

    async fn read(input: Input, Json(chosen): Json<Chosen>, _: &Ground) -> Result<Self, Problem> {
        let namespace = namespace_of(&input);
        let choice = chosen.choice(namespace.clone(), Some(KNOWN))?;
        Ok(Self { namespace, choice })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Changed>, Problem> {
        let Self { namespace, choice } = authorized.command();
        within(call.ground, namespace.as_deref(), choice).await?;
        let (store, who, now) = (call.store(&authorized), actor(&authorized), call.ground.clock.now());
        let changed = if KNOWN {
            store.updates_acknowledge(choice, &who, now).await?
        } else {
            store.updates_unacknowledge(choice, &who, now).await?
        };
        Ok(Reply::of(Changed { changed }))
    }
}
