//! Tags that never count: patterns of the policy, and the tags that signing tools leave behind.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{PolicyError, Rejection};

/// Longest shell pattern, in bytes.
const MAX_GLOB_LENGTH: usize = 256;
/// Most patterns in one policy.
const MAX_PATTERNS: usize = 64;

/// Compiled patterns of tags that are left out.
#[derive(Debug, Clone)]
pub(super) struct Ignore {
    set: GlobSet,
    patterns: Vec<String>,
}

impl Ignore {
    pub(super) fn parse(patterns: &[String]) -> Result<Self, PolicyError> {
        if patterns.len() > MAX_PATTERNS {
            return Err(PolicyError::new("ignoreTags", format!("more than {MAX_PATTERNS} patterns")));
        }
        let mut set = GlobSetBuilder::new();
        for (index, pattern) in patterns.iter().enumerate() {
            set.add(glob(&format!("ignoreTags[{index}]"), pattern)?);
        }
        let set = set.build().map_err(|error| PolicyError::new("ignoreTags", error.to_string()))?;
        Ok(Self { set, patterns: patterns.to_vec() })
    }

    pub(super) fn check(&self, tag: &str) -> Result<(), Rejection<'_>> {
        if is_artifact(tag) {
            return Err(Rejection::Artifact);
        }
        if self.patterns.is_empty() {
            return Ok(());
        }
        match self.set.matches(tag).first() {
            Some(index) => Err(Rejection::Ignored { pattern: &self.patterns[*index] }),
            None => Ok(()),
        }
    }
}

/// A shell pattern within its bounds.
pub(super) fn glob(field: &str, pattern: &str) -> Result<Glob, PolicyError> {
    if pattern.is_empty() {
        return Err(PolicyError::new(field, "it is empty: `*` matches every tag"));
    }
    if pattern.len() > MAX_GLOB_LENGTH {
        return Err(PolicyError::new(field, format!("it is longer than {MAX_GLOB_LENGTH} bytes")));
    }
    Glob::new(pattern).map_err(|error| PolicyError::new(field, format!("`{pattern}`: {}", error.kind())))
}

/// `sha256-<digest>` with or without `.sig`, `.att`, `.sbom`: signatures, attestations and referrers of an image.
fn is_artifact(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-").or_else(|| tag.strip_prefix("sha512-")) else {
        return false;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    let suffix = &rest[digits..];
    let referrers = matches!(digits, 64 | 128) && (suffix.is_empty() || suffix.starts_with(['.', '-']));
    referrers || [".sig", ".att", ".sbom"].iter().any(|end| suffix.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_signing_tools_never_count() {
        let digest = "a".repeat(64);
        let ignore = Ignore::parse(&[]).unwrap();
        for suffix in [".sig", ".att", ".sbom", "", ".other"] {
            assert_eq!(ignore.check(&format!("sha256-{digest}{suffix}")), Err(Rejection::Artifact), "{suffix}");
        }
        assert_eq!(ignore.check("sha256-short.sig"), Err(Rejection::Artifact));
        for tag in ["1.0.0", "sha256-abc", "main-sha256", "1.0.0.sig"] {
            assert_eq!(ignore.check(tag), Ok(()), "{tag}");
        }
    }

    #[test]
    fn the_first_matching_pattern_is_named() {
        let ignore = Ignore::parse(&["*-rc*".into(), "*-beta{1,2}".into(), "*-rc1".into()]).unwrap();
        assert_eq!(ignore.check("1.0-rc1"), Err(Rejection::Ignored { pattern: "*-rc*" }));
        assert_eq!(ignore.check("1.0-beta2"), Err(Rejection::Ignored { pattern: "*-beta{1,2}" }));
        assert_eq!(ignore.check("1.0"), Ok(()));
    }
}
