//! What can be wrong with the name of an image.

use thiserror::Error;

/// Why a text is not the name of an image, a digest or a platform. The texts never repeat what could be a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Nothing was given.
    #[error("the image name is empty: write it as `host/path`, for example `ghcr.io/acme/shop`")]
    Empty,
    /// The name starts as a URL does.
    #[error("an image name has no `{scheme}://`: write only `host/path`, for example `ghcr.io/acme/shop`")]
    Scheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// A repository was expected, and a tag or digest follows it.
    #[error("`{repository}` is followed by a {part}: name only the repository here and the {part} in its own field")]
    NotOnlyARepository {
        /// The text before the tag or digest.
        repository: String,
        /// `tag` or `digest`.
        part: &'static str,
    },
    /// The registry's host or port.
    #[error("`{host}` is not a registry host: {why}")]
    Host {
        /// The part that was taken for the host.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path below the registry's host.
    #[error("`{path}` is not a repository path: {why}")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The tag.
    #[error("`{tag}` is not a tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`")]
    Tag {
        /// The tag as given, cut to a sensible length.
        tag: String,
    },
    /// The digest.
    #[error("`{digest}` is not a digest: {why}")]
    Digest {
        /// The digest as given, cut to a sensible length.
        digest: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The platform.
    #[error(
        "`{platform}` is not a platform: write `os/architecture` or `os/architecture/variant`, for example `linux/amd64`"
    )]
    Platform {
        /// The platform as given, cut to a sensible length.
        platform: String,
    },
}

/// As much of a text as an error repeats.
pub(super) fn excerpt(text: &str) -> String {
    crate::domain::excerpt::excerpt(text, 80)
}
