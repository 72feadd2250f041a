//! Values that are written and never read: as text, or as base64 where they are no text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::problem::Problem;
use crate::safe::Plaintext;

/// A value. It is overwritten in memory when it is dropped, and cannot be printed.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Value(#[schemars(with = "String")] Zeroizing<String>);

impl Value {
    pub(super) fn text(&self) -> &Zeroizing<String> {
        &self.0
    }
}

/// The value that was given in one of two ways.
///
/// # Errors
/// None or both were given, it is empty, or it is no base64.
pub(super) fn given(value: Option<Value>, base64: Option<Value>) -> Result<Plaintext, Problem> {
    let (field, value) = match (value, base64) {
        (Some(Value(text)), None) => ("value", Plaintext::from(text.as_bytes().to_vec())),
        (None, Some(Value(text))) => {
            let bytes = STANDARD.decode(text.as_bytes()).map(Plaintext::from);
            ("base64", bytes.map_err(|_| Problem::field("base64", "expected base64 with padding"))?)
        }
        (None, None) => return Err(Problem::field("value", "expected this, or `base64`")),
        (Some(_), Some(_)) => return Err(Problem::field("base64", "expected this or `value`, not both")),
    };
    if value.is_empty() { Err(Problem::field(field, "expected at least one byte")) } else { Ok(value) }
}
