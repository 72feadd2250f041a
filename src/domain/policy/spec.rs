//! A policy as somebody wrote it, and what can be wrong with it.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest regular expression, in bytes.
const MAX_REGEX_LENGTH: usize = 512;
/// Bounds the memory of one compiled expression, in bytes: `(a{1000}){1000}` is short to write.
const MAX_REGEX_SIZE: usize = 1 << 20;

/// An unchecked policy, with the fields of the resource. Exactly one of `semver`, `glob`, `regex`, `numeric`,
/// `newest` and `digest` is to be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySpec {
    /// A version range: `>=1.2 <2`, `1.x`, `~1.2`, `^1.2.3`, `1.2 - 1.4`, `1.x || >=3.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// A shell pattern of whole tags: `release-*`. Without `order` numbers count by value and words by letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// A regular expression. It may match anywhere in the tag: anchor it with `^` and `$`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// What of a match of `regex` is ordered, made from its groups: `$build`, `${major}.${minor}.0`, `$1`. The whole
    /// tag when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// How what `glob` or `regex` matched is ordered; for `regex`, as versions when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The largest whole number.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub numeric: bool,
    /// A shell pattern of the tags that count; of their images the one that was created last. `*` for all tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// One tag, followed as it moves from digest to digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Shell patterns of tags that never count. Tags of signatures, attestations and SBOMs never do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_tags: Vec<String>,
}

/// How tags, or what is extracted from them, are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// As versions, by precedence. What is not a version is rejected.
    Semver,
    /// As whole numbers of any length. What is not a number is rejected.
    Numeric,
    /// Byte by byte.
    Alphabetical,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Semver => "semver",
            Self::Numeric => "numeric",
            Self::Alphabetical => "alphabetical",
        })
    }
}

/// A regular expression within its bounds.
pub(super) fn regex(pattern: &str) -> Result<Regex, PolicyError> {
    let wrong = |why: String| PolicyError::new("regex", why);
    if pattern.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    if pattern.len() > MAX_REGEX_LENGTH {
        return Err(wrong(format!("it is longer than {MAX_REGEX_LENGTH} bytes")));
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_SIZE)
        .dfa_size_limit(MAX_REGEX_SIZE)
        .build()
        .map_err(|error| wrong(format!("`{pattern}` does not compile: {}", last_line(&error.to_string()))))
}

/// The regex crate draws a picture over several lines; its last line is the sentence.
fn last_line(text: &str) -> &str {
    let line = text.lines().last().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line)
}

/// What is wrong with a policy, and in which field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {reason}")]
pub struct PolicyError {
    /// The field, as in the resource: `semver`, `extract`, `ignoreTags[2]`; `policy` when it is about several.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl PolicyError {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}
