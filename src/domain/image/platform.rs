//! Operating system and processor that an image is made for.

use std::fmt;
use std::str::FromStr;

use super::error::{ImageError, excerpt};

/// A platform, written `os/architecture` or `os/architecture/variant`.
///
/// Spellings of the same thing are equal, as containerd sees them: `linux/x86_64` is `linux/amd64`,
/// `linux/arm64/v8` is `linux/arm64`, `linux/amd64/v1` is `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// From its parts, as manifests name them. An empty variant is none.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, ImageError> {
        let variant = variant.filter(|v| !v.is_empty());
        let wrong = || {
            let variant = variant.map(|v| format!("/{v}")).unwrap_or_default();
            ImageError::Platform { platform: excerpt(&format!("{os}/{architecture}{variant}")) }
        };
        let word = |text: &str| {
            let legal = (1..=32).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if legal { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
        };
        let (os, architecture) = (word(os)?, word(architecture)?);
        let variant = variant.map(word).transpose()?;
        let (architecture, variant) = normalised(architecture, variant);
        Ok(Self { os, architecture, variant })
    }

    /// The operating system, for example `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The processor architecture in Go's words, for example `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The architecture's variant, for example `v7` of `arm`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether an image made for `offered` runs where this platform is wanted: the same, or any variant when none is named.
    pub fn accepts(&self, offered: &Self) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || self.variant == offered.variant)
    }
}

/// One spelling for each architecture and variant.
fn normalised(architecture: String, variant: Option<String>) -> (String, Option<String>) {
    match (architecture.as_str(), variant.as_deref()) {
        ("x86_64" | "x86-64", _) => normalised("amd64".into(), variant),
        ("aarch64", _) => normalised("arm64".into(), variant),
        ("i386", _) => ("386".into(), variant),
        ("armhf", _) => ("arm".into(), Some("v7".into())),
        ("armel", _) => ("arm".into(), Some("v6".into())),
        ("amd64", Some("v1")) | ("arm64", Some("8" | "v8")) => (architecture, None),
        ("arm", Some(v)) if v.bytes().all(|b| b.is_ascii_digit()) => {
            let variant = format!("v{v}");
            (architecture, Some(variant))
        }
        _ => (architecture, variant),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = || ImageError::Platform { platform: excerpt(text) };
        let mut parts = text.split('/');
        let (os, architecture) = parts.next().zip(parts.next()).ok_or_else(wrong)?;
        let variant = parts.next();
        if parts.next().is_some() || variant == Some("") {
            return Err(wrong());
        }
        Self::new(os, architecture, variant)
    }
}

super::serde_as_string!(Platform);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_the_same_platform_are_equal() {
        let cases = [
            ("linux/amd64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64/v8", "linux/arm64"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm", "linux/arm"),
            ("windows/amd64", "windows/amd64"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_platform_is_refused() {
        for text in ["", "linux", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v1/x", "linux/am d64", "linux/ämd64"]
        {
            let error = text.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains("linux/amd64`"), "{text}: {error}");
        }
    }

    #[test]
    fn a_wanted_platform_without_variant_accepts_any() {
        let cases = [
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/arm64", false),
        ];
        for (wanted, offered, want) in cases {
            let (wanted, offered): (Platform, Platform) = (wanted.parse().unwrap(), offered.parse().unwrap());
            assert_eq!(wanted.accepts(&offered), want, "{wanted} from {offered}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-zA-Z0-9]{1,8}/[a-zA-Z0-9_]{1,8}(/[a-z0-9]{1,4})?") {
            let platform: Platform = text.parse().unwrap();
            prop_assert_eq!(&platform.to_string().parse::<Platform>().unwrap(), &platform);
            let json = serde_json::to_string(&platform).unwrap();
            prop_assert_eq!(serde_json::from_str::<Platform>(&json).unwrap(), platform);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            if let Ok(platform) = text.parse::<Platform>() {
                prop_assert!(platform.accepts(&platform));
            }
        }
    }
}
