//! Bytes that nobody may see.

use zeroize::Zeroizing;

/// A secret while it is in use. It is overwritten when it is dropped, and has no way to be printed, compared in a
/// hurry, or serialized:
///
/// ```compile_fail
/// fn printed(secret: stagekeeper::crypto::Plaintext) -> String { format!("{secret:?}") }
/// ```
/// ```compile_fail
/// fn told(secret: stagekeeper::crypto::Plaintext) -> String { secret.to_string() }
/// ```
/// ```compile_fail
/// fn written(secret: stagekeeper::crypto::Plaintext) -> String { serde_json::to_string(&secret).unwrap() }
/// ```
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// The bytes, for whoever needs them. Every use of this function is a place where a secret can leave: keep what is
    /// made of it as short-lived as it is.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Plaintext {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for Plaintext {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}
