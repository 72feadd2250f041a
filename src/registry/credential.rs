//! Who we are to a registry.

use std::fmt;

use zeroize::Zeroizing;

use crate::domain::image::Digest;

/// How to reach a repository: as whom, and whether over plain HTTP.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Who we are.
    pub credential: Credential,
    /// Speak plain HTTP. Without it, HTTPS.
    pub insecure: bool,
}

/// Who we are to a registry. Its `Debug` says only which kind it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user, or a robot account, with its password or token.
    Basic {
        /// Name of the user.
        user: String,
        /// Password or token.
        secret: Zeroizing<String>,
    },
}

impl Credential {
    pub(super) fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }

    /// Tells credentials apart without keeping them: a token obtained with one is never used for another.
    pub(super) fn fingerprint(&self) -> Option<Digest> {
        match self {
            Self::Anonymous => None,
            Self::Basic { user, secret } => {
                let both = Zeroizing::new(format!("{}:{user}{}", user.len(), **secret));
                Some(Digest::of(both.as_bytes()))
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
        })
    }
}

/// What to send along with a request to the registry itself.
#[derive(Clone)]
pub(super) enum Authorization {
    Bearer(String),
    /// The user and password, which are not kept here.
    Basic,
}
