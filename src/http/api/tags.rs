//! Tags: words by which people group updates. They are those of the whole installation; who may change the stages of a
//! namespace gives them to its updates, and takes them away.

use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Ground,
    cursor::Page,
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, IF_MATCH, Json, Method, Operation, Reply, Spec, actor, expected},
    problem::Problem,
    projects::NAMESPACE,
    requests::KEY,
    updates::{Changed, Chosen, namespace_of, on_updates, within},
};
use crate::{
    cluster::access::Attributes,
    domain::update::TagName,
    store::{StoreError, UpdateChoice, UpdateTag},
};

/// What is expected of a tag's name.
const NAME: &str = "expected 1 to 64 letters, digits, `-`, `_`, `.` and `/`, with a letter or digit at either end";

static TAG: Parameter = Parameter::path("tag", Kind::Text, "The tag's name, in any case of letters.");

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// How many updates have it.
    pub updates: i64,
    /// How many of them are pending.
    pub pending: i64,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

impl From<UpdateTag> for Tag {
    fn from(tag: UpdateTag) -> Self {
        let UpdateTag { id: _, name, updates, pending, created_by, created_at } = tag;
        Self { name, updates, pending, created_by, created_at }
    }
}

fn name(field: &str, text: &str) -> Result<TagName, Problem> {
    text.parse().map_err(|_| Problem::field(field, NAME))
}

/// The tag as it is now.
///
/// # Errors
/// There is none.
async fn found(ground: &Ground, name: &TagName) -> Result<Reply<Tag>, Problem> {
    let all = ground.store.update_tags_list().await?;
    let found = all.into_iter().find(|one| one.name.eq_ignore_ascii_case(name.as_str())).ok_or_else(Problem::denied)?;
    // What stays when a tag is renamed, and is another one when it was deleted and made again.
    let etag = format!("\"{}\"", found.id);
    Ok(Reply::tagged(found.into(), etag))
}

/// Refuses a tag that is another one than the caller has seen.
async fn unchanged(ground: &Ground, name: &TagName, expected: Option<i64>) -> Result<(), Problem> {
    let Some(expected) = expected else { return Ok(()) };
    let all = ground.store.update_tags_list().await?;
    let found = all.into_iter().find(|one| one.name.eq_ignore_ascii_case(name.as_str()));
    if found.is_some_and(|one| one.id == expected) { Ok(()) } else { Err(Problem::changed()) }
}

/// The tags.
pub(super) struct List;

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(None, "list")
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        access: &[("stages", "list")],
        about: "Takes the right in all namespaces.",
        ..Spec::get("/tags", "listTags", "The tags of updates, by name.")
    };

    type Content = ();
    type Answer = Page<Tag>;

    async fn read(_: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self)
    }

    async fn run(_: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<Tag>>, Problem> {
        let all = call.ground.store.update_tags_list().await?;
        Ok(Reply::of(Page::whole(all.into_iter().map(Tag::from).collect())))
    }
}

/// Makes a tag.
pub(super) struct Put(TagName);

impl Command for Put {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(None, "update")
    }
}

impl Operation for Put {
    const SPEC: Spec = Spec {
        parameters: &[&TAG],
        access: &[("stages", "update"), ("stages", "list")],
        about: "A tag that is there already is left as it is. Takes the right in all namespaces.",
        ..Spec::new(Method::Put, "/tags/{tag}", "putTag", "Make a tag.")
    };

    type Content = ();
    type Answer = Tag;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self(name("path.tag", &input.text("tag"))?))
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Tag>, Problem> {
        let name = &authorized.command().0;
        let now = call.ground.clock.now();
        match call.store(&authorized).update_tag_create(name, &actor(&authorized), now).await {
            // It is what was asked for.
            Ok(_) | Err(StoreError::Conflict(_)) => found(call.ground, name).await,
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives a tag another name.
pub(super) struct Rename {
    name: TagName,
    to: TagName,
    expected: Option<i64>,
}

/// What a tag is to be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TagName")]
pub(super) struct NewName {
    /// Its new name.
    name: String,
}

impl Command for Rename {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(None, "update")
    }
}

impl Operation for Rename {
    const SPEC: Spec = Spec {
        parameters: &[&TAG, &IF_MATCH, &KEY],
        access: &[("stages", "update"), ("stages", "list")],
        about: "Its updates keep it. Takes the right in all namespaces.",
        example: Some(|| json!({"name": "platform"})),
        ..Spec::new(Method::Post, "/tags/{tag}/rename", "renameTag", "Give a tag another name.")
    };

    type Content = Json<NewName>;
    type Answer = Tag;

    async fn read(input: Input, Json(body): Json<NewName>, _: &Ground) -> Result<Self, Problem> {
        let (to, expected) = (name("name", &body.name)?, expected(&input)?);
        Ok(Self { name: name("path.tag", &input.text("tag"))?, to, expected })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Tag>, Problem> {
        let Self { name, to, expected } = authorized.command();
        unchanged(call.ground, name, *expected).await?;
        let now = call.ground.clock.now();
        match call.store(&authorized).update_tag_rename(name.as_str(), to, &actor(&authorized), now).await {
            Ok(()) => found(call.ground, to).await,
            Err(StoreError::Conflict(_)) => Err(Problem::conflict("the new name is another tag's")),
            Err(error) => Err(error.into()),
        }
    }
}

/// Deletes a tag.
pub(super) struct Delete {
    name: TagName,
    expected: Option<i64>,
}

impl Command for Delete {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(None, "update")
    }
}

impl Operation for Delete {
    const SPEC: Spec = Spec {
        parameters: &[&TAG, &IF_MATCH],
        access: &[("stages", "update"), ("stages", "list")],
        status: StatusCode::NO_CONTENT,
        about: "Its updates stay on the list. Takes the right in all namespaces.",
        ..Spec::new(Method::Delete, "/tags/{tag}", "deleteTag", "Delete a tag.")
    };

    type Content = ();
    type Answer = ();

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        Ok(Self { name: name("path.tag", &input.text("tag"))?, expected: expected(&input)? })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<()>, Problem> {
        let Self { name, expected } = authorized.command();
        unchanged(call.ground, name, *expected).await?;
        let now = call.ground.clock.now();
        call.store(&authorized).update_tag_delete(name.as_str(), &actor(&authorized), now).await?;
        Ok(Reply::of(()))
    }
}

/// Gives updates a tag, or takes it from them.
pub(super) struct Assign<const ONE: bool, const GIVE: bool> {
    namespace: Option<String>,
    name: TagName,
    choice: UpdateChoice,
}

impl<const ONE: bool, const GIVE: bool> Command for Assign<ONE, GIVE> {
    fn attributes(&self) -> Vec<Attributes> {
        on_updates(self.namespace.as_deref(), "update")
    }
}

impl<const ONE: bool, const GIVE: bool> Operation for Assign<ONE, GIVE> {
    const SPEC: Spec = Spec {
        parameters: if ONE { &[&NAMESPACE, &TAG, &KEY] } else { &[&TAG, &KEY] },
        access: &[("stages", "update")],
        about: if ONE { "" } else { "Takes the right in all namespaces." },
        example: Some(|| json!({"ids": [17]})),
        ..match (ONE, GIVE) {
            (true, true) => Spec::new(
                Method::Post,
                "/namespaces/{namespace}/tags/{tag}/assign",
                "assignTag",
                "Give a tag to updates of the stages of a namespace.",
            ),
            (true, false) => Spec::new(
                Method::Post,
                "/namespaces/{namespace}/tags/{tag}/unassign",
                "unassignTag",
                "Take a tag from updates of the stages of a namespace.",
            ),
            (false, true) => Spec::new(Method::Post, "/tags/{tag}/assign", "assignTagToAny", "Give a tag to updates."),
            (false, false) => {
                Spec::new(Method::Post, "/tags/{tag}/unassign", "unassignTagFromAny", "Take a tag from updates.")
            }
        }
    };

    type Content = Json<Chosen>;
    type Answer = Changed;

    async fn read(input: Input, Json(chosen): Json<Chosen>, _: &Ground) -> Result<Self, Problem> {
        let namespace = namespace_of(&input);
        let choice = chosen.choice(namespace.clone(), None)?;
        Ok(Self { namespace, name: name("path.tag", &input.text("tag"))?, choice })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Changed>, Problem> {
        let Self { namespace, name, choice } = authorized.command();
        within(call.ground, namespace.as_deref(), choice).await?;
        let (store, who, now) = (call.store(&authorized), actor(&authorized), call.ground.clock.now());
        let changed = if GIVE {
            store.update_tag_assign(name.as_str(), choice, &who, now).await?
        } else {
            store.update_tag_unassign(name.as_str(), choice, &who, now).await?
        };
        Ok(Reply::of(Changed { changed }))
    }
}
