//! The content address of a manifest or blob.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::error::{ImageError, excerpt};

/// A SHA-256 content address, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = |why| ImageError::Digest { digest: excerpt(text), why };
        let Some((algorithm, digits)) = text.split_once(':') else {
            return Err(wrong("write `sha256:` and 64 hexadecimal digits"));
        };
        if algorithm != "sha256" {
            return Err(wrong("only sha256 digests are supported"));
        }
        if digits.len() != 64 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("64 lower-case hexadecimal digits must follow `sha256:`"));
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong("64 hexadecimal digits must follow `sha256:`"))?;
        Ok(Self(bytes))
    }
}

super::serde_as_string!(Digest);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn it_is_the_sha256_of_the_bytes() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(format!("sha256:{}", Digest::of(b"").hex()), EMPTY);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("{EMPTY}0");
        let upper = EMPTY.replace('e', "E");
        let cases = [
            ("", "64 hexadecimal digits"),
            ("e3b0c442", "write `sha256:`"),
            ("sha512:abcd", "only sha256"),
            ("sha256:abcd", "64 lower-case"),
            (long.as_str(), "64 lower-case"),
            (upper.as_str(), "lower-case"),
        ];
        for (text, want) in cases {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes in any::<[u8; 32]>()) {
            let digest = Digest(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
