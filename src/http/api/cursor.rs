//! Pages: how many, from where, and the opaque text that says where the next one begins.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    input::{Input, Kind, Parameter},
    problem::Problem,
};

/// Items of a page when nobody says how many, and at most.
const PAGE: i64 = 50;
const LARGEST: i64 = 200;

/// How many.
pub(super) static LIMIT: Parameter =
    Parameter::query("limit", Kind::Number(1, LARGEST), "Items of a page at most; 50 when left out.");

/// From where.
pub(super) static CURSOR: Parameter =
    Parameter::query("cursor", Kind::Text, "`next` of the page before, as it came; the first page when left out.");

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What `cursor` has to be for the next page; left out on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// All there is.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// Items of which one more than `limit` was read, to know whether there are more; `at` says where one is.
    pub(super) fn cut<R, C: Serialize>(
        mut rows: Vec<R>,
        limit: i64,
        at: impl FnOnce(&R) -> C,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| write(&at(last)));
        Self { items: rows.into_iter().map(item).collect(), next }
    }
}

/// How many items a page has.
pub(super) fn limit(input: &Input) -> i64 {
    input.number(LIMIT.name).unwrap_or(PAGE)
}

/// Where the page begins.
///
/// # Errors
/// It is not a cursor of this list.
pub(super) fn read<C: DeserializeOwned>(input: &Input) -> Result<Option<C>, Problem> {
    let Some(text) = input.get(CURSOR.name) else { return Ok(None) };
    let position = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    position.map(Some).ok_or_else(|| Problem::field("query.cursor", "expected `next` of another page of this list"))
}

/// A position as callers get it. Nothing in it is a secret, and nothing is believed: whoever changes it reads another page of
/// what they may read.
pub(super) fn write(position: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}
