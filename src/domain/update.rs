//! A newer image than what runs somewhere, until it is acknowledged or deployed.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::{
    actor::Actor,
    excerpt::excerpt,
    image::{Digest, Repository},
};

/// No page's address is longer.
const LONGEST_LINK: usize = 2048;

/// Characters of a tag's name at most.
const LONGEST_TAG: usize = 64;

/// The name of a tag that groups updates. Two that differ only in the case of letters are one name.
#[derive(Debug, Clone)]
pub struct TagName(String);

/// A text that names no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no tag: expected 1 to 64 letters, digits, `-`, `_`, `.` and `/`, with a letter or digit at either end"
)]
pub struct NoTagName(String);

impl TagName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TagName {
    type Err = NoTagName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let ends = |text: &str| {
            let bytes = text.as_bytes();
            bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        };
        if text.len() <= LONGEST_TAG && ends(text) && text.bytes().all(inside) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoTagName(excerpt(text, LONGEST_TAG)))
        }
    }
}

/// A newer image that was seen. What it is called, where it runs and for which platform make it one update; seen again
/// with another digest it is the same update, opened again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenUpdate {
    /// What is followed: a repository where a policy chooses among its tags (`ghcr.io/acme/shop`), one of its tags where
    /// that tag is followed (`docker.io/library/nginx:1.29`).
    pub image: String,
    /// Where it runs: `NAMESPACE/STAGE`, or the host that a sender names; empty when nobody said.
    pub host: String,
    /// As `os/architecture[/variant]`; empty when nobody said.
    pub platform: String,
    /// The tag that is newer.
    pub tag: Option<String>,
    /// What runs, where that is known.
    pub old_digest: Option<Digest>,
    /// What is newer.
    pub new_digest: Digest,
    /// When it was built, where that is known.
    pub created: Option<Timestamp>,
    /// What of the host's it was found by, as Diun names it; empty for what scans of our own found.
    pub provider: String,
    /// A page about it: an `http` or `https` address.
    pub link: Option<String>,
    /// Who saw it: `policy` for scans of our own, `webhook:<source>` for what was reported.
    pub seen_by: Actor,
    /// When.
    pub at: Timestamp,
}

/// How an update names what is followed: a repository, or one of its tags.
pub fn followed(repository: &Repository, tag: Option<&str>) -> String {
    match tag {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_string(),
    }
}

/// Whether somebody should look at an update: its digest is not the one that was acknowledged last.
pub fn is_pending(new: &Digest, acknowledged: Option<&Digest>) -> bool {
    acknowledged != Some(new)
}

/// The address of a page as it may be shown: `http` or `https`, with a host and without a login, on one line. Anything
/// else that a sender calls a link is none.
pub fn page(address: &str) -> Option<&str> {
    let address = address.trim();
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '"' | '<' | '>' | '\\' | '`');
    let shown = known && !host.is_empty() && !host.contains('@') && address.chars().all(plain);
    (shown && address.len() <= LONGEST_LINK).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_followed_is_a_repository_or_one_of_its_tags() {
        let repository: Repository = "ghcr.io/acme/shop".parse().unwrap();
        assert_eq!(followed(&repository, None), "ghcr.io/acme/shop");
        assert_eq!(followed(&repository, Some("main")), "ghcr.io/acme/shop:main");
    }

    #[test]
    fn names_of_tags_are_words() {
        for name in ["a", "Backend", "team-a/web_1.x", &"a".repeat(64)] {
            assert_eq!(name.parse::<TagName>().unwrap().as_str(), name);
        }
        for name in ["", " ", "a b", "-a", "a/", "ä", "a\n", "a,b", &"a".repeat(65)] {
            assert!(name.parse::<TagName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_update_is_pending_until_its_own_digest_is_acknowledged() {
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(is_pending(&one, None));
        assert!(is_pending(&one, Some(&other)));
        assert!(!is_pending(&one, Some(&one)));
    }

    #[test]
    fn only_addresses_of_pages_are_links() {
        for address in ["https://hub.docker.com/_/nginx", "HTTP://r.test:5000/a?b=c#d", " https://r.test "] {
            assert_eq!(page(address), Some(address.trim()), "{address}");
        }
        let long = format!("https://r.test/{}", "a".repeat(LONGEST_LINK));
        for address in [
            "",
            "r.test/a",
            "javascript:alert(1)",
            "javascript://r.test/%0aalert(1)",
            "data:text/html,x",
            "https://",
            "https:///a",
            "https://jane:secret@r.test/",
            "https://r.test/a b",
            "https://r.test/\u{7f}",
            "https://r.test/\"><script>",
            "https://r.test/\u{202e}moc",
            &long,
        ] {
            assert_eq!(page(address), None, "{address}");
        }
    }
}
