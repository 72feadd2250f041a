//! A release: the exact set of image digests, one per service, addressed by its content.

use std::{collections::BTreeMap, fmt};

use litemap::LiteMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// One service's image in a release. The digest decides what runs; the tag is kept for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseImage {
    /// Registry host and path, without tag: `ghcr.io/acme/shop`.
    pub repository: String,
    /// The tag it was found under, if any.
    pub tag: Option<String>,
    /// What the tag pointed at: `sha256:…`.
    pub digest: String,
}

impl ReleaseImage {
    /// The reference that a node pulls: always by digest.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }
}

/// Content hash of a release: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(pub String);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ReleaseId {
    /// The first twelve digits: enough for people, never for the machine.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// Images by service name, sorted. One service is the rule, and a tree has room for eleven from the first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Release(pub LiteMap<String, ReleaseImage>);

impl Release {
    /// The content hash: services with repository and digest, in name order, each part length-prefixed
    /// so that no two different releases share a text. Tags do not take part: a moved tag is not a new release.
    pub fn id(&self) -> ReleaseId {
        let mut hash = Sha256::new();
        for (service, image) in &self.0 {
            for part in [service, &image.repository, &image.digest] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
        }
        ReleaseId(hex::encode(hash.finalize()))
    }

    /// What decides, by service.
    pub fn digests(&self) -> BTreeMap<&str, &str> {
        self.0.iter().map(|(service, image)| (service.as_str(), image.digest.as_str())).collect()
    }

    /// What people read: `web 1.4.2, db 16`; digests stand in for missing tags.
    pub fn summary(&self) -> String {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(service, image)| {
                let version = image.tag.as_deref().unwrap_or_else(|| image.digest.get(..19).unwrap_or(&image.digest));
                format!("{service} {version}")
            })
            .collect();
        parts.join(", ")
    }

    /// The same for a table's column, without spaces inside: `web:1.4.2, db:16`; a missing tag is the beginning of the
    /// digest, as in `web@sha256:6c3c624b58db`.
    pub fn images(&self) -> String {
        let part = |(service, image): (&String, &ReleaseImage)| match &image.tag {
            Some(tag) => format!("{service}:{tag}"),
            None => format!("{service}@{}", image.digest.get(..19).unwrap_or(&image.digest)),
        };
        self.0.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(parts: &[(&str, &str, Option<&str>, &str)]) -> Release {
        Release(
            parts
                .iter()
                .map(|(service, repository, tag, digest)| {
                    let image = ReleaseImage {
                        repository: (*repository).into(),
                        tag: tag.map(Into::into),
                        digest: (*digest).into(),
                    };
                    ((*service).to_owned(), image)
                })
                .collect(),
        )
    }

    #[test]
    fn a_moved_tag_is_the_same_release_and_another_digest_is_not() {
        let one = release(&[("web", "r/a", Some("1.0"), "sha256:aa")]);
        let renamed = release(&[("web", "r/a", Some("latest"), "sha256:aa")]);
        let other = release(&[("web", "r/a", Some("1.0"), "sha256:bb")]);
        assert_eq!(one.id(), renamed.id());
        assert_ne!(one.id(), other.id());
    }

    #[test]
    fn the_images_are_told_in_a_line() {
        let digest = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";
        let release = release(&[("web", "r/a", Some("1.4.2"), "sha256:aa"), ("db", "r/b", None, digest)]);
        assert_eq!(release.images(), "db@sha256:6c3c624b58db, web:1.4.2");
        assert_eq!(release.summary(), "db sha256:6c3c624b58db, web 1.4.2");
    }

    #[test]
    fn parts_cannot_slide_into_each_other() {
        let one = release(&[("web", "r/ab", None, "c")]);
        let other = release(&[("web", "r/a", None, "bc")]);
        assert_ne!(one.id(), other.id());
    }
}
