//! Under which tag the images of a pull request are.

use super::PullRequest;

/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

/// Digits of a short commit.
const SHORT: usize = 7;

/// The pattern of the tags of a pull request's images, such as `pr-{number}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Number,
    Head,
    ShortHead,
    Branch,
}

/// Why there is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The pattern names something that a pull request has not.
    #[error("`{{{0}}}` is nothing of a pull request: expected {{number}}, {{head_sha}}, {{short_sha}} or {{branch}}")]
    Unknown(String),
    /// The pattern does not close what it opened.
    #[error("a `{{` in it is not closed")]
    Open,
    /// What it makes of this pull request is no tag.
    #[error("`{0}` is no tag")]
    Unfit(String),
}

impl TagPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self, TagError> {
        let (mut parts, mut rest) = (Vec::new(), pattern);
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TagError::Open)?;
            parts.push(Part::Text(text.to_owned()));
            parts.push(match name {
                "number" => Part::Number,
                "head_sha" => Part::Head,
                "short_sha" => Part::ShortHead,
                "branch" => Part::Branch,
                other => return Err(TagError::Unknown(other.chars().take(40).collect())),
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The tag of a pull request's images. What no tag may hold of a branch's name becomes `-`; what is too long is cut.
    ///
    /// # Errors
    /// It is no tag, such as where the branch has nothing in its name that a tag may begin with.
    pub fn fill(&self, of: &PullRequest) -> Result<String, TagError> {
        let mut tag = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => tag.push_str(text),
                Part::Number => tag.push_str(&of.number.to_string()),
                Part::Head => tag.push_str(&of.head),
                Part::ShortHead => tag.extend(of.head.chars().take(SHORT)),
                Part::Branch => tag.extend(of.branch.chars().map(|c| if is_fit(c) { c } else { '-' })),
            }
        }
        let tag: String = tag.trim_start_matches(['-', '.']).chars().take(MAX_TAG).collect();
        if tag.is_empty() || !tag.chars().all(is_fit) { Err(TagError::Unfit(tag)) } else { Ok(tag) }
    }
}

/// Whether a tag may hold it.
fn is_fit(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::laws::pull_request, *};

    fn filled(pattern: &str, branch: &str) -> Result<String, TagError> {
        let of = PullRequest {
            branch: branch.to_owned(),
            head: "0123456789abcdef0123456789abcdef01234567".into(),
            ..pull_request(42, 1)
        };
        TagPattern::parse(pattern)?.fill(&of)
    }

    #[test]
    fn every_part_of_a_pattern_is_filled_in() {
        for (pattern, branch, want) in [
            ("pr-{number}", "x", "pr-42"),
            ("{head_sha}", "x", "0123456789abcdef0123456789abcdef01234567"),
            ("{number}-{short_sha}", "x", "42-0123456"),
            ("{branch}", "feat/login", "feat-login"),
            ("v.{branch}_x", "añb c", "v.a-b-c_x"),
            ("{branch}-{number}", "-/.x", "x-42"),
            ("{branch}{branch}", "日本", ""),
        ] {
            let want = if want.is_empty() { Err(TagError::Unfit(String::new())) } else { Ok(want.to_owned()) };
            assert_eq!(filled(pattern, branch), want, "{pattern} {branch}");
        }
        assert_eq!(filled("{branch}", &"b".repeat(300)).map(|tag| tag.len()), Ok(MAX_TAG));
    }

    #[test]
    fn a_pattern_with_unknown_parts_is_refused() {
        assert_eq!(TagPattern::parse("{title}"), Err(TagError::Unknown("title".into())));
        assert_eq!(TagPattern::parse("pr-{number"), Err(TagError::Open));
    }

    proptest! {
        #[test]
        fn whatever_the_branch_is_called_the_tag_is_one(branch in "\\PC{0,200}") {
            if let Ok(tag) = filled("{branch}", &branch) {
                prop_assert!(crate::domain::image::is_tag(&tag), "{tag}");
            }
            let numbered = filled("pr-{number}-{branch}", &branch).unwrap();
            prop_assert!(crate::domain::image::is_tag(&numbered), "{numbered}");
        }
    }
}
