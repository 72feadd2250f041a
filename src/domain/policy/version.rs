//! Tags that are versions.

use semver::Version;

/// The version that a text names: `1.2.3`, `1.2`, each with or without `v`, with or without a pre-release.
///
/// `1.2` is `1.2.0`. A single number is not a version: build numbers and dates look the same. Neither are four parts
/// or leading zeros, which have no agreed order.
pub(super) fn version(text: &str) -> Option<Version> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let core = text.find(['-', '+']).unwrap_or(text.len());
    if text[..core].bytes().filter(|b| *b == b'.').count() == 1 {
        return Version::parse(&format!("{}.0{}", &text[..core], &text[core..])).ok();
    }
    Version::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_people_write_them() {
        let cases = [
            ("1.2.3", Some("1.2.3")),
            ("v1.2.3", Some("1.2.3")),
            ("V1.2.3", Some("1.2.3")),
            ("1.2", Some("1.2.0")),
            ("v1.2-rc.1", Some("1.2.0-rc.1")),
            ("1.2.3-alpine", Some("1.2.3-alpine")),
            ("1.2.3-rc-1", Some("1.2.3-rc-1")),
            ("20240131.7.0", Some("20240131.7.0")),
            ("16", None),
            ("20240131", None),
            ("1.2.3.4", None),
            ("24.04", None),
            ("01.2.3", None),
            ("vv1.2.3", None),
            ("version1.2.3", None),
            ("latest", None),
            ("", None),
            ("v", None),
            ("1.", None),
            ("1.2.99999999999999999999", None),
        ];
        for (text, want) in cases {
            assert_eq!(version(text).map(|v| v.to_string()).as_deref(), want, "{text}");
        }
    }
}
