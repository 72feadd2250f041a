//! Who sends webhooks.

use std::{fmt, str::FromStr};

use crate::domain::pull_request::Provider;

/// Who sends, and so what a delivery looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Diun, which watches registries for whoever runs it.
    Diun,
    /// Docker Hub.
    DockerHub,
    /// GitHub's container registry.
    GitHub,
    /// Harbor.
    Harbor,
    /// Quay.
    Quay,
    /// The distribution registry and what sends its notifications: GitLab's own registry, Zot.
    Distribution,
    /// Azure's container registry.
    Acr,
    /// `JFrog` Artifactory.
    JFrog,
    /// `CloudEvents`, such as those of Amazon's registry.
    CloudEvents,
    /// GitLab.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
    /// A script or pipeline of one's own.
    Generic,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Diun,
        Self::DockerHub,
        Self::GitHub,
        Self::Harbor,
        Self::Quay,
        Self::Distribution,
        Self::Acr,
        Self::JFrog,
        Self::CloudEvents,
        Self::GitLab,
        Self::Gitea,
        Self::Generic,
    ];

    /// The word for it in declarations, SQL and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Diun => "diun",
            Self::DockerHub => "dockerhub",
            Self::GitHub => "github",
            Self::Harbor => "harbor",
            Self::Quay => "quay",
            Self::Distribution => "distribution",
            Self::Acr => "acr",
            Self::JFrog => "jfrog",
            Self::CloudEvents => "cloudevents",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Generic => "generic",
        }
    }

    /// The git provider that it is, if it is one: what it says of pull requests counts.
    pub const fn provider(self) -> Option<Provider> {
        match self {
            Self::GitHub => Some(Provider::GitHub),
            Self::GitLab => Some(Provider::GitLab),
            Self::Gitea => Some(Provider::Gitea),
            _ => None,
        }
    }

    /// Whether its deliveries must prove who sent them. The others cannot do it, or need not.
    pub const fn needs_secret(self) -> bool {
        !matches!(self, Self::Diun | Self::DockerHub | Self::Quay | Self::Generic)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|source| source.word() == word);
        found.ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|source| source.word()).collect();
            format!("this sends no webhooks: expected one of {}", words.join(", "))
        })
    }
}
