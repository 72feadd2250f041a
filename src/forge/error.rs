//! Why a git provider did not do what it was asked, sorted by what can be done about it.

use std::time::Duration;

use crate::domain::pull_request::Provider;

/// Why there is no answer. The texts name the repository and what to do next, never a token, and never what a provider
/// wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// The client could not be made.
    #[error("cannot set up the client of git providers: {why}")]
    Setup {
        /// What is wrong.
        why: String,
    },
    /// The address of the API cannot be used.
    #[error("spec.previews.api cannot be used: {why}")]
    Address {
        /// What is wrong with it.
        why: String,
    },
    /// No connection, no name, no certificate, or the answer broke off or took too long.
    #[error("cannot reach {} for {repository}: {why}; check spec.previews.api and the network between", provider.title())]
    Unreachable {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// The cause.
        why: String,
    },
    /// Its address is one that is not asked.
    #[error("the API of {} for {repository} is not asked: {why}; correct spec.previews.api", provider.title())]
    AddressRefused {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The provider has trouble of its own.
    #[error("{} answered {status} for {repository}: it has trouble, and is asked again later", provider.title())]
    Unavailable {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// The HTTP status, 500 to 599.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Too many requests.
    #[error("{} limits the rate of requests for {repository}: it is asked again later; use a longer spec.previews.interval", provider.title())]
    RateLimited {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// The token is refused, or may not do this.
    #[error(
        "{} answered {status} for {repository}: the token is not accepted or may not {what}; store another one with \
         `stagekeeper credential set --kind git`, see docs/previews.md for the rights that it needs",
        provider.title()
    )]
    Denied {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// The HTTP status, 401 or 403.
        status: u16,
        /// What was to be done.
        what: &'static str,
    },
    /// There is no such thing, or it is hidden from the token.
    #[error(
        "{} knows no {repository}, or the token may not see it; check spec.previews.repository and the rights of the token",
        provider.title()
    )]
    NotFound {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
    },
    /// It answers that the thing is elsewhere now.
    #[error(
        "{} sends us elsewhere for {repository}, and a token is not sent there: the repository was renamed or \
         spec.previews.api is not the address of the API; correct it",
        provider.title()
    )]
    Redirected {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
    },
    /// The answer is not what the API says.
    #[error("the answer of {} for {repository} cannot be read: {what}", provider.title())]
    Malformed {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// What is wrong with it.
        what: String,
    },
    /// Any other status.
    #[error("{} answered {status} for {repository}, which is not expected", provider.title())]
    Unexpected {
        /// Whose API.
        provider: Provider,
        /// The repository.
        repository: String,
        /// The HTTP status.
        status: u16,
    },
}

impl ForgeError {
    /// Whether it may be better by itself.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::RateLimited { .. } | Self::Malformed { .. }
        )
    }

    /// How long the provider wants to be left alone.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// One word for conditions.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "ProviderClientInvalid",
            Self::Address { .. } => "ProviderAddressInvalid",
            Self::Unreachable { .. } => "ProviderUnreachable",
            Self::AddressRefused { .. } => "ProviderAddressRefused",
            Self::Unavailable { .. } => "ProviderUnavailable",
            Self::RateLimited { .. } => "ProviderRateLimited",
            Self::Denied { .. } => "TokenRefused",
            Self::NotFound { .. } => "RepositoryNotFound",
            Self::Redirected { .. } => "ProviderRedirects",
            Self::Malformed { .. } => "ProviderAnswerMalformed",
            Self::Unexpected { .. } => "ProviderAnswerUnexpected",
        }
    }
}
