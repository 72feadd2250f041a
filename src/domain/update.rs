//! A newer image than what runs somewhere, until it is acknowledged or deployed.

use jiff::Timestamp;

use super::{
    actor::Actor,
    image::{Digest, Repository},
};

/// No page's address is longer.
const LONGEST_LINK: usize = 2048;

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
