//! Names of images: repository, tag, digest and platform, parsed once and normalised.
//!
//! The grammar is the one of the distribution project (`docker.io` and `library/` are implied). Two spellings of
//! the same repository are equal here, and every value displays in its full, canonical form, so that it can be
//! stored, compared and handed to a node as it is.

mod digest;
mod error;
mod platform;
mod reference;
mod repository;

pub use digest::Digest;
pub use error::ImageError;
pub use platform::Platform;
pub use reference::{Reference, is_tag};
pub use repository::Repository;

/// Longest tag that a registry accepts, in bytes.
pub const MAX_TAG_LENGTH: usize = 128;

/// Makes a parsed type a plain string in JSON and YAML.
macro_rules! serde_as_string {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use serde_as_string;
