//! Secrets that are made here: nobody chooses them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::SafeError;
use crate::crypto;

/// Bytes of randomness in a token.
const BYTES: usize = 32;

/// A token that nobody can guess, of 43 letters, digits, `-` and `_`.
///
/// # Errors
/// The machine gives no random bytes.
pub fn token() -> Result<String, SafeError> {
    let bytes = crypto::random::<BYTES>().map_err(SafeError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(*bytes))
}

/// Random bytes for a name that nobody can guess.
///
/// # Errors
/// The machine gives no random bytes.
pub fn random() -> Result<[u8; 32], SafeError> {
    crypto::random::<32>().map(|bytes| *bytes).map_err(SafeError::Random)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let all: BTreeSet<String> = (0..1000).map(|_| token().unwrap()).collect();
        assert_eq!(all.len(), 1000);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(all.iter().all(|token| token.len() == 43 && token.bytes().all(plain)));
    }
}
