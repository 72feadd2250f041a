//! A policy as somebody wrote it, and what can be wrong with it.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::extract::Template;

/// Longest regular expression, in bytes.
const MAX_REGEX_LENGTH: usize = 512;
/// Bounds the memory of one compiled expression, in bytes: `(a{1000}){1000}` is short to write.
const MAX_REGEX_SIZE: usize = 1 << 20;

/// An unchecked policy. Exactly one of `semver`, `glob`, `regex`, `numeric` and `digest` is to be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySpec {
    /// A version range: `>=1.2 <2`, `1.x`, `~1.2`, `^1.2.3`, `1.2 - 1.4`, `1.x || >=3.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// A shell pattern of tags, ordered naturally: `release-*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// A regular expression of tags, ordered by what is extracted from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexSpec>,
    /// The largest whole number.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub numeric: bool,
    /// One tag, followed as it moves from digest to digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Shell patterns of tags that never count. Tags of signatures, attestations and SBOMs never do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_tags: Vec<String>,
}

/// A regular expression, what to take out of its match, and how to order that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegexSpec {
    /// The expression. It may match anywhere in the tag: anchor it with `^` and `$`.
    pub pattern: String,
    /// What is ordered, made from the groups of the match: `$build`, `${major}.${minor}.0`, `$1`. The whole tag when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// How the extracted texts are ordered.
    #[serde(default)]
    pub order: Order,
}

/// How the texts that a regular expression extracts are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// As versions, by precedence. What is not a version is rejected.
    #[default]
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

impl RegexSpec {
    pub(super) fn compile(&self) -> Result<(Regex, Option<Template>), PolicyError> {
        let wrong = |why: String| PolicyError::new("regex.pattern", why);
        if self.pattern.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        if self.pattern.len() > MAX_REGEX_LENGTH {
            return Err(wrong(format!("it is longer than {MAX_REGEX_LENGTH} bytes")));
        }
        let regex = RegexBuilder::new(&self.pattern)
            .size_limit(MAX_REGEX_SIZE)
            .dfa_size_limit(MAX_REGEX_SIZE)
            .build()
            .map_err(|error| {
                wrong(format!(
                    "`{}` does not compile: {}",
                    self.pattern,
                    last_line(&error.to_string())
                ))
            })?;
        let extract = self
            .extract
            .as_deref()
            .map(|text| Template::parse(text, &regex))
            .transpose();
        Ok((
            regex,
            extract.map_err(|why| PolicyError::new("regex.extract", why))?,
        ))
    }
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
    /// The field, as in the resource: `semver`, `regex.pattern`, `ignoreTags[2]`; `policy` when it is about several.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl PolicyError {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}
