//! Names of keyring keys.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest id.
const LONGEST: usize = 63;

/// The id of a keyring key, as it stands beside everything that it wrapped: `2026-11`, `k2`. Lower-case letters, digits,
/// `.`, `-` and `_`, 1 to 63 of them, the first one a letter or digit. An id is never given to another key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Box<str>);

/// Why a text is no key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key id has 1 to {LONGEST} characters: lower-case letters, digits, `.`, `-` and `_`, the first one a letter or digit"
)]
pub struct KeyIdError;

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let begins = bytes.first().is_some_and(plain);
        let all = bytes.iter().all(|byte| plain(byte) || matches!(byte, b'.' | b'-' | b'_'));
        if begins && all && bytes.len() <= LONGEST { Ok(Self(text.into())) } else { Err(KeyIdError) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyIdError;

    fn try_from(text: String) -> Result<Self, KeyIdError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
