//! Why a registry did not answer, sorted by what can be done about it.

use std::time::Duration;

use thiserror::Error;

use crate::domain::image::{Digest, Platform, Repository};

/// Why there is no answer. The texts name registry and repository and what to do next, never a credential, and never
/// what a registry wrote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The client could not be made.
    #[error("cannot set up the registry client: {why}")]
    Options {
        /// What is wrong with the options.
        why: String,
    },
    /// What is set for this one registry cannot be used.
    #[error(
        "registry `{registry}` is not asked: its setting `{setting}` cannot be used: {why}; correct it with `stagekeeper registry set`"
    )]
    Settings {
        /// The registry, as it is named in the settings.
        registry: String,
        /// Which of its settings.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// No connection, no name, no certificate, or the answer broke off or took too long.
    #[error("cannot reach `{place}`: {why}; check the host, its certificate and the network between")]
    Unreachable {
        /// Repository or token service.
        place: String,
        /// The cause.
        why: String,
    },
    /// The registry has trouble of its own.
    #[error("`{place}` answered {status}: the registry has trouble, and it is asked again later")]
    Unavailable {
        /// Repository or token service.
        place: String,
        /// The HTTP status, 500 to 599.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Too many requests.
    #[error("`{place}` {}", limited(*limit, *retry_after))]
    RateLimited {
        /// Repository or token service.
        place: String,
        /// When it wants to be asked again, or may be.
        retry_after: Option<Duration>,
        /// Whose limit it is.
        limit: RateLimit,
    },
    /// Not allowed, or hidden from those who are not allowed.
    #[error(
        "`{place}` denies access: {why}; check that the repository exists and that the credential may pull from it"
    )]
    Denied {
        /// Repository or token service.
        place: String,
        /// The cause.
        why: String,
    },
    /// The registry wants the credential to be sent to a host that is not known to belong to it.
    #[error(
        "`{registry}` asks to send its credential to `{realm}`, which is refused: {why}; if that token service belongs to the registry, add it to the allowed token realms"
    )]
    RealmRefused {
        /// The repository.
        registry: Repository,
        /// Host of the token service.
        realm: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The registry, or where its answer leads, is at an address that is not asked.
    #[error(
        "`{place}` leads to `{host}`, which is not asked: {why}; a host that belongs to the registry can be named by \
         `stagekeeper registry set`, or as the registry's `--realm` if it hands out tokens; link-local addresses cannot"
    )]
    AddressRefused {
        /// The repository.
        place: String,
        /// The host.
        host: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// No such repository.
    #[error("there is no repository `{repository}`; check its name, and whether it needs a credential")]
    RepositoryNotFound {
        /// The repository.
        repository: Repository,
    },
    /// No such tag or digest in the repository.
    #[error("`{repository}` has no image `{image}`; check its tags, or push it")]
    TagNotFound {
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        image: String,
    },
    /// The image is not made for the wanted platform.
    #[error(
        "`{place}` is not made for {wanted}, only for {}; build it for {wanted}, or change the platform",
        list(offered)
    )]
    PlatformMissing {
        /// Repository with tag or digest.
        place: String,
        /// The wanted platform.
        wanted: Box<Platform>,
        /// The platforms that there are.
        offered: Vec<Platform>,
    },
    /// A manifest that no node can run: a chart, a signature, an outdated format.
    #[error("`{place}` is not an image that can run: its type is `{media_type}`")]
    Unsupported {
        /// Repository with tag or digest.
        place: String,
        /// The media type of the manifest or of its configuration.
        media_type: String,
    },
    /// The content is not what its digest promises.
    #[error("`{place}` was damaged or tampered with on its way: its digest should be {expected} and is {found}")]
    DigestMismatch {
        /// Repository with tag or digest.
        place: String,
        /// The digest that was announced or asked for.
        expected: Digest,
        /// The digest of the bytes that came.
        found: Digest,
    },
    /// The answer is not what the distribution API allows.
    #[error(
        "`{place}` gave an answer that cannot be understood: {what}; check that it is a registry and not a proxy's page"
    )]
    Malformed {
        /// Repository or token service.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The answer is larger than is accepted.
    #[error("`{place}` sent {what} larger than the limit of {limit}")]
    TooLarge {
        /// Repository or token service.
        place: String,
        /// What was sent.
        what: &'static str,
        /// The limit with its unit.
        limit: String,
    },
    /// An answer that fits none of the above.
    #[error(
        "`{place}` answered {status}, which was not expected; check that it is a registry, and that `insecure` fits it"
    )]
    Unexpected {
        /// Repository or token service.
        place: String,
        /// The HTTP status.
        status: u16,
    },
}

/// What limits the rate of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// The registry, in its answer.
    Answered,
    /// The registry, in an answer before: it was not asked.
    Resting,
    /// The rate that is set for the registry, or the default: it was not asked.
    Rate,
}

impl RegistryError {
    /// Whether asking again soon, with nothing changed, may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::RateLimited { .. }
            | Self::DigestMismatch { .. }
            | Self::Malformed { .. } => true,
            Self::Options { .. }
            | Self::Settings { .. }
            | Self::Denied { .. }
            | Self::RealmRefused { .. }
            | Self::AddressRefused { .. }
            | Self::RepositoryNotFound { .. }
            | Self::TagNotFound { .. }
            | Self::PlatformMissing { .. }
            | Self::Unsupported { .. }
            | Self::TooLarge { .. }
            | Self::Unexpected { .. } => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// One word for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Options { .. } => "RegistryOptionsInvalid",
            Self::Settings { .. } => "RegistrySettingsInvalid",
            Self::Unreachable { .. } => "RegistryUnreachable",
            Self::Unavailable { .. } => "RegistryUnavailable",
            Self::RateLimited { .. } => "RegistryRateLimited",
            Self::Denied { .. } => "RegistryDenied",
            Self::RealmRefused { .. } => "RegistryRealmRefused",
            Self::AddressRefused { .. } => "RegistryAddressRefused",
            Self::RepositoryNotFound { .. } => "RepositoryNotFound",
            Self::TagNotFound { .. } => "TagNotFound",
            Self::PlatformMissing { .. } => "PlatformMissing",
            Self::Unsupported { .. } => "ImageUnsupported",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Malformed { .. } => "RegistryAnswerMalformed",
            Self::TooLarge { .. } => "RegistryAnswerTooLarge",
            Self::Unexpected { .. } => "RegistryAnswerUnexpected",
        }
    }
}

fn limited(limit: RateLimit, wait: Option<Duration>) -> String {
    let way_out = "use a longer interval, or a credential with a higher limit";
    match limit {
        RateLimit::Answered => {
            let rest = wait.map(|wait| format!(" and asks for {} s of rest", wait.as_secs())).unwrap_or_default();
            format!("limits the rate of requests{rest}; {way_out}")
        }
        // How long yet is not said: a status that told it would never come to rest.
        RateLimit::Resting => format!("is not asked now: its registry limits the rate of requests; {way_out}"),
        RateLimit::Rate => {
            "waits for its turn: more is asked of its registry than the rate allows; use a longer interval, or a higher \
             rate (`stagekeeper registry set --rate`)"
                .into()
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "an unnamed one".into();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// As much of a text as an error repeats.
pub(super) fn excerpt(text: &str) -> String {
    crate::domain::excerpt::excerpt(text, 100)
}
