//! A repository with the tag or digest, or both, that select one image in it.

use std::fmt;
use std::str::FromStr;

use super::error::{ImageError, excerpt};
use super::{Digest, MAX_TAG_LENGTH, Repository};

/// Whether the text is a legal tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= MAX_TAG_LENGTH && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

/// An image: `repository[:tag][@digest]`. With both, the digest decides and the tag is there for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The repository alone; add a tag or digest with [`Reference::with_tag`] and [`Reference::with_digest`].
    pub fn new(repository: Repository) -> Self {
        Self { repository, tag: None, digest: None }
    }

    /// The same image reference with this tag.
    ///
    /// # Errors
    /// When the text is not a legal tag.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ImageError> {
        if !is_tag(tag) {
            return Err(ImageError::Tag { tag: excerpt(tag) });
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// The same image reference, held to this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Where the image lives.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, when one is named. None means that nothing was said: `latest` is not implied here.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when one is named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ImageError::Scheme { scheme: excerpt(scheme) });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the registry's port.
        let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[path_start..].find(':') {
            Some(colon) => (&name[..path_start + colon], Some(&name[path_start + colon + 1..])),
            None => (name, None),
        };
        let mut reference = Self::new(repository.parse()?);
        if let Some(tag) = tag {
            reference = reference.with_tag(tag)?;
        }
        reference.digest = digest;
        Ok(reference)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.repository, f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

super::serde_as_string!(Reference);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_parts_are_found() {
        let cases = [
            ("nginx", "docker.io/library/nginx", None, false),
            ("nginx:1.25", "docker.io/library/nginx", Some("1.25"), false),
            ("localhost:5000/shop", "localhost:5000/shop", None, false),
            ("localhost:5000/shop:v1", "localhost:5000/shop", Some("v1"), false),
            ("ghcr.io/acme/shop:1.0_x-y@DIGEST", "ghcr.io/acme/shop", Some("1.0_x-y"), true),
            ("ghcr.io/acme/shop@DIGEST", "ghcr.io/acme/shop", None, true),
            ("[::1]:5000/shop:v1@DIGEST", "[::1]:5000/shop", Some("v1"), true),
        ];
        for (text, repository, tag, pinned) in cases {
            let reference: Reference = text.replace("DIGEST", DIGEST).parse().unwrap();
            assert_eq!(reference.repository().to_string(), repository, "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.digest().is_some(), pinned, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("nginx:{}", "a".repeat(129));
        let cases = [
            ("", "is empty"),
            (":1.0", "is empty"),
            ("http://nginx", "no `http://`"),
            ("nginx:", "not a tag"),
            ("nginx:.a", "not a tag"),
            ("nginx:-a", "not a tag"),
            ("nginx:a b", "not a tag"),
            ("nginx:a\nb", "not a tag"),
            (long.as_str(), "not a tag"),
            ("nginx@", "not a digest"),
            ("nginx@sha256:12", "not a digest"),
            ("nginx@latest", "not a digest"),
            ("Nginx:1", "upper-case"),
        ];
        for (text, want) in cases {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            name in "[a-z]{1,6}\\.[a-z]{2}(:[1-9][0-9]{0,3})?/[a-z0-9]{1,6}(/[a-z0-9]{1,6}){0,2}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
            content in proptest::option::of(any::<u64>()),
        ) {
            let mut reference = Reference::new(name.parse().unwrap());
            if let Some(tag) = &tag {
                reference = reference.with_tag(tag).unwrap();
            }
            if let Some(content) = content {
                reference = reference.with_digest(Digest::of(&content.to_be_bytes()));
            }
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
