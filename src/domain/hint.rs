//! What a webhook says about an image. It is never believed: the registry is asked before anything moves.

use jiff::Timestamp;

use super::image::{Digest, Platform, Repository};

/// An image that somebody says was pushed or has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Where it is.
    pub repository: Repository,
    /// Its tag; none for what was pushed by digest alone.
    pub tag: Option<String>,
    /// What the tag is said to point to, where the sender says so.
    pub digest: Option<Digest>,
    /// The platform that it was looked at for, where the sender says so.
    pub platform: Option<Platform>,
    /// The host on which it runs, as Diun names it.
    pub host: Option<String>,
    /// When it was built, as the sender says.
    pub created: Option<Timestamp>,
    /// What of the host's it was found by, as Diun names it: `docker`, `kubernetes`, …
    pub provider: Option<String>,
    /// A page about it: an `http` or `https` address.
    pub link: Option<String>,
}

impl Hint {
    /// That something of a repository was pushed, and no more.
    pub fn of(repository: Repository) -> Self {
        Self {
            repository,
            tag: None,
            digest: None,
            platform: None,
            host: None,
            created: None,
            provider: None,
            link: None,
        }
    }
}
