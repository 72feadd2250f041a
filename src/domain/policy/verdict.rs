//! What a policy says, in words that people can act on.

use std::fmt;

use super::version::NotAVersion;

/// Which tag should run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This tag should run instead of what runs, if anything does.
    Newer {
        /// The winner.
        tag: String,
        /// Why, in one sentence.
        reason: String,
    },
    /// What runs should stay.
    Current {
        /// The tag that runs.
        tag: String,
        /// Why, in one sentence.
        reason: String,
    },
    /// Nothing runs and no tag is acceptable.
    Nothing {
        /// Why, in one sentence.
        reason: String,
    },
}

impl Verdict {
    /// The tag that should run after this verdict.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Newer { tag, .. } | Self::Current { tag, .. } => Some(tag),
            Self::Nothing { .. } => None,
        }
    }

    /// The tag to move to, when there is a move to make.
    pub fn newer(&self) -> Option<&str> {
        match self {
            Self::Newer { tag, .. } => Some(tag),
            Self::Current { .. } | Self::Nothing { .. } => None,
        }
    }

    /// Why, in one sentence.
    pub fn reason(&self) -> &str {
        match self {
            Self::Newer { reason, .. } | Self::Current { reason, .. } | Self::Nothing { reason } => reason,
        }
    }
}

/// One tag of a listing, as the policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The tag.
    pub tag: &'a str,
    /// Why it does not count; none when it is accepted.
    pub rejection: Option<Rejection<'a>>,
}

/// Why a tag does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection<'p> {
    /// Not a legal tag.
    NotATag,
    /// A signature, attestation or SBOM, not an image.
    Artifact,
    /// One of the policy's `ignoreTags` matches.
    Ignored {
        /// The pattern.
        pattern: &'p str,
    },
    /// Not a version.
    NotAVersion {
        /// What it is instead.
        why: NotAVersion,
    },
    /// A version outside the range.
    OutsideRange {
        /// The range.
        range: &'p str,
    },
    /// A pre-release that the range does not ask for.
    PreRelease {
        /// The range.
        range: &'p str,
    },
    /// The pattern does not match.
    NoMatch {
        /// The pattern.
        pattern: &'p str,
    },
    /// Not a whole number.
    NotANumber,
    /// Its image has no date of creation, or none that is known here.
    NotDated,
    /// Not the tag that is followed.
    NotFollowed {
        /// The tag that is.
        tag: &'p str,
    },
}

impl fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATag => f.write_str("not a legal tag"),
            Self::Artifact => f.write_str("a signature, attestation or SBOM, not an image"),
            Self::Ignored { pattern } => write!(f, "ignored by `{pattern}`"),
            Self::NotAVersion { why: NotAVersion::Other } => f.write_str("not a version such as 1.2.3 or v1.2"),
            Self::NotAVersion { why } => write!(f, "not a version such as 1.2.3 or v1.2: {why}"),
            Self::OutsideRange { range } => write!(f, "outside `{range}`"),
            Self::PreRelease { range } => {
                write!(f, "a pre-release, which `{range}` does not ask for (a bound such as `>=1.2.0-0` does)")
            }
            Self::NoMatch { pattern } => write!(f, "does not match `{pattern}`"),
            Self::NotANumber => f.write_str("not a whole number"),
            Self::NotDated => f.write_str("its image has no known date of creation"),
            Self::NotFollowed { tag } => write!(f, "not `{tag}`"),
        }
    }
}

/// How many tags were accepted and why the others were not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: usize,
    rejected: [usize; KINDS.len()],
}

/// What is said of a number of tags, in the order of [`Tally::kind`].
const KINDS: [&str; 9] = [
    "not legal tags",
    "signatures or attestations",
    "ignored",
    "not versions",
    "outside the range",
    "pre-releases",
    "not matching",
    "not numbers",
    "without a date",
];

impl Tally {
    pub(super) fn accept(&mut self) {
        self.accepted += 1;
    }

    pub(super) fn reject(&mut self, rejection: &Rejection<'_>) {
        self.rejected[Self::kind(rejection)] += 1;
    }

    fn kind(rejection: &Rejection<'_>) -> usize {
        match rejection {
            Rejection::NotATag => 0,
            Rejection::Artifact => 1,
            Rejection::Ignored { .. } => 2,
            Rejection::NotAVersion { .. } => 3,
            Rejection::OutsideRange { .. } => 4,
            Rejection::PreRelease { .. } => 5,
            Rejection::NoMatch { .. } | Rejection::NotFollowed { .. } => 6,
            Rejection::NotANumber => 7,
            Rejection::NotDated => 8,
        }
    }

    /// Why nothing is acceptable.
    pub(super) fn nothing(&self) -> String {
        match self.rejected.iter().sum::<usize>() {
            0 => "the repository lists no tags".into(),
            1 => format!("the repository's only tag is not acceptable: {}", self.rejections()),
            total => format!("none of {total} tags is acceptable: {}", self.rejections()),
        }
    }

    fn rejections(&self) -> String {
        let counted = self.rejected.iter().zip(KINDS).filter(|(count, _)| **count > 0);
        counted.map(|(count, kind)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.accepted == 1 { "" } else { "s" };
        write!(f, "{} acceptable tag{plural}", self.accepted)?;
        match self.rejected.iter().sum::<usize>() {
            0 => Ok(()),
            total => write!(f, " of {}", self.accepted + total),
        }
    }
}
