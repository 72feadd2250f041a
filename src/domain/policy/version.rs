//! Tags that are versions.

use std::fmt;

use semver::Version;

/// Why a text names no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAVersion {
    /// `1.2.3.4`: more parts than have an agreed order.
    FourParts,
    /// `24.04`, `2024.01.31`: leading zeros, as dates have.
    LeadingZeros,
    /// `16`, `20240131`, `2024-01-31`: one number, which may be a build, a date or a major version.
    BareNumber,
    /// Something else.
    Other,
}

impl fmt::Display for NotAVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FourParts => "four parts",
            Self::LeadingZeros => "leading zeros, as dates have",
            Self::BareNumber => "a bare number",
            Self::Other => "another form",
        })
    }
}

/// The version that a text names: `1.2.3`, `1.2`, each with or without `v`, with or without a pre-release.
///
/// `1.2` is `1.2.0`. A single number is not a version: build numbers and dates look the same. Neither are four parts
/// or leading zeros, which have no agreed order. Versions that differ in build metadata alone (`1.2.0+9`, `1.2.0+10`), which
/// a tag cannot have but what is extracted from one can, are in the order of it: without, then numbers by value, then words.
pub(super) fn version(text: &str) -> Result<Version, NotAVersion> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(NotAVersion::Other);
    }
    let core = text.find(['-', '+']).unwrap_or(text.len());
    let version = if text[..core].bytes().filter(|b| *b == b'.').count() == 1 {
        Version::parse(&format!("{}.0{}", &text[..core], &text[core..]))
    } else {
        Version::parse(text)
    };
    version.map_err(|_| why_not(&text[..core], &text[core..]))
}

fn why_not(core: &str, rest: &str) -> NotAVersion {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let zeros = |part: &str| part.len() > 1 && part.starts_with('0') && is_number(part);
    let parts: Vec<&str> = core.split('.').collect();
    match parts.len() {
        _ if !parts.iter().all(|part| is_number(part)) => NotAVersion::Other,
        1 => NotAVersion::BareNumber,
        4.. => NotAVersion::FourParts,
        _ if parts.iter().any(|part| zeros(part)) => NotAVersion::LeadingZeros,
        _ if rest.starts_with('-') && rest[1..].split(['.', '+']).any(zeros) => NotAVersion::LeadingZeros,
        _ => NotAVersion::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_people_write_them() {
        let cases = [
            ("1.2.3", "1.2.3"),
            ("v1.2.3", "1.2.3"),
            ("V1.2.3", "1.2.3"),
            ("1.2", "1.2.0"),
            ("v1.2-rc.1", "1.2.0-rc.1"),
            ("1.2.3-alpine", "1.2.3-alpine"),
            ("1.2.3-rc-1", "1.2.3-rc-1"),
            ("20240131.7.0", "20240131.7.0"),
        ];
        for (text, want) in cases {
            assert_eq!(version(text).map(|v| v.to_string()).as_deref(), Ok(want), "{text}");
        }
        let none = [
            ("16", NotAVersion::BareNumber),
            ("20240131", NotAVersion::BareNumber),
            ("1.2.3.4", NotAVersion::FourParts),
            ("24.04", NotAVersion::LeadingZeros),
            ("01.2.3", NotAVersion::LeadingZeros),
            ("vv1.2.3", NotAVersion::Other),
            ("version1.2.3", NotAVersion::Other),
            ("latest", NotAVersion::Other),
            ("", NotAVersion::Other),
            ("v", NotAVersion::Other),
            ("1.", NotAVersion::Other),
            ("1.2.99999999999999999999", NotAVersion::Other),
            ("2024-01-31", NotAVersion::BareNumber),
            ("2024.01.31", NotAVersion::LeadingZeros),
            ("v1.2.3.4-rc1", NotAVersion::FourParts),
            ("1.2.3-01", NotAVersion::LeadingZeros),
            ("1.2.x", NotAVersion::Other),
            ("1.2.3_4", NotAVersion::Other),
        ];
        for (text, want) in none {
            assert_eq!(version(text), Err(want), "{text}");
        }
    }

    #[test]
    fn build_metadata_orders_what_is_equal_otherwise() {
        let ascending = ["1.2.0-rc.1+5", "1.2.0", "1.2.0+9", "1.2.0+10", "1.2.0+a", "1.2.1"];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]).unwrap() < version(pair[1]).unwrap(), "{} < {}", pair[0], pair[1]);
        }
    }
}
