//! What credentials are for.

use std::{fmt, str::FromStr};

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// Logging in to image registries.
    Registry,
    /// Checking who sent a webhook.
    Webhook,
    /// Asking a git provider.
    Git,
    /// Reaching another cluster.
    Cluster,
    /// Anything else.
    Generic,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Registry, Self::Webhook, Self::Git, Self::Cluster, Self::Generic];

    /// The word for it in SQL and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Webhook => "webhook",
            Self::Git => "git",
            Self::Cluster => "cluster",
            Self::Generic => "generic",
        }
    }
}

/// A credential's name, as people may give it: 1 to 63 lower-case letters, digits and `-`, none of these at an end.
///
/// # Errors
/// What a name is, in words.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    if ends && text.len() <= 63 && text.bytes().all(|byte| plain(byte) || byte == b'-') {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 63 lower-case letters, digits and -, and begins and ends with a letter or digit".into())
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for CredentialKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| format!("`{word}` is no kind of credential: registry, webhook, git, cluster or generic"))
    }
}
