//! A newer image than what runs somewhere, until it is acknowledged or deployed.

use jiff::Timestamp;

use super::{actor::Actor, image::Digest};

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
