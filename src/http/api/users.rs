//! `/users`: who was seen. They belong to the whole installation.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Ground,
    audit::on_projects,
    cursor::{self, CURSOR, LIMIT, Page},
    deploys::EVERYWHERE,
    guard::{Authorized, Command},
    input::{Input, Kind, Parameter},
    operation::{Call, Operation, Reply, Spec},
    problem::Problem,
};
use crate::{
    cluster::access::Attributes,
    store::{SeenUser, UserCursor},
};

static SINCE: Parameter = Parameter::query("since", Kind::Time, "Only who was seen at this time or later.");

/// Somebody who was seen: a person or a service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Their name.
    pub name: String,
    /// Their groups, as they were last.
    pub groups: Vec<String>,
    /// When they were seen first.
    pub first_seen_at: Timestamp,
    /// When they were seen last, no finer than an hour.
    pub last_seen_at: Timestamp,
}

impl From<SeenUser> for User {
    fn from(user: SeenUser) -> Self {
        let SeenUser { name, groups, first_seen_at, last_seen_at } = user;
        Self { name, groups, first_seen_at, last_seen_at }
    }
}

/// Who was seen.
pub(super) struct List {
    since: Option<Timestamp>,
    after: Option<UserCursor>,
    limit: i64,
}

impl Command for List {
    fn attributes(&self) -> Vec<Attributes> {
        on_projects(None)
    }
}

impl Operation for List {
    const SPEC: Spec = Spec {
        parameters: &[&SINCE, &LIMIT, &CURSOR],
        access: &[("projects", "list")],
        about: EVERYWHERE,
        ..Spec::get("/users", "listUsers", "People and service accounts that were seen, who was here last at the top.")
    };

    type Content = ();
    type Answer = Page<User>;

    async fn read(input: Input, (): (), _: &Ground) -> Result<Self, Problem> {
        let after: Option<(Timestamp, String)> = cursor::read(&input)?;
        let after = after.map(|(last_seen_at, name)| UserCursor { last_seen_at, name });
        Ok(Self { since: input.time("since"), after, limit: cursor::limit(&input) })
    }

    async fn run(authorized: Authorized<Self>, call: &Call<'_>) -> Result<Reply<Page<User>>, Problem> {
        let List { since, after, limit } = authorized.command();
        let page = call.ground.store.users_list(*since, after.as_ref(), *limit).await?;
        let next = page.next.map(|next| cursor::write(&(next.last_seen_at, next.name)));
        Ok(Reply::of(Page { items: page.users.into_iter().map(User::from).collect(), next }))
    }
}
