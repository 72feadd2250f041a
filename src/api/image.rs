//! Where a service's image comes from: a repository, and either a policy that follows it or a fixed tag or digest.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::rules;

/// A service's image. Exactly one of `policy`, `tag` and `digest` says which image of the repository runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.policy), has(self.tag), has(self.digest)].exists_one(given, given)")
        .message("image needs exactly one of policy (follow new tags), tag and digest (fixed image)")
)]
pub struct Image {
    /// Name of the repository without tag and digest, such as `ghcr.io/acme/shop`. Without a registry host it is on
    /// Docker Hub.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^(([a-zA-Z0-9.-]+|\\[[0-9a-fA-F:]+\\])(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$')")
            .message("repository must be a name in lower case without tag and digest, such as ghcr.io/acme/shop; a tag goes into tag")
    )]
    pub repository: String,
    /// Follow the repository: which of its tags is the newest wanted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// A fixed tag; it is resolved to a digest once per deploy and not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::tag())]
    pub tag: Option<String>,
    /// A fixed digest, such as `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = rules::digest())]
    pub digest: Option<String>,
    /// Glob patterns of tags that a policy never considers, such as `*-rc*`. Tags of signatures, attestations and
    /// SBOMs are never considered, with or without this list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub ignore_tags: Vec<String>,
    /// The platform that an image must have, as `os/architecture` or `os/architecture/variant`, such as
    /// `linux/amd64`. Left out, the nodes choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$')")
            .message("platform must be os/architecture or os/architecture/variant, such as linux/amd64")
    )]
    pub platform: Option<String>,
    /// How often a policy looks for new tags.
    #[serde(default = "default_interval")]
    #[x_kube(validation = rules::duration("1s", "24h"))]
    pub interval: Duration,
    /// How much of the repository's tags may be gone at once, in percent of those that it listed before. When more is
    /// gone, nothing is chosen until they are back or somebody accepts it with `stagekeeper images accept`: what runs
    /// stays.
    #[serde(default = "default_max_tag_loss")]
    #[schemars(range(min = 1, max = 100))]
    pub max_tag_loss: u8,
    /// Name of the project's credential with which this registry is asked for tags and digests, and with which nodes pull;
    /// see `stagekeeper credential set` and the Project's `credentials`. Left out, nobody in particular asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::credential_name("credential"))]
    pub credential: Option<String>,
    /// Speak plain HTTP to the registry. Only for a registry on a network that you trust.
    #[serde(default)]
    pub insecure: bool,
}

/// Which tag of a repository is the wanted one. Exactly one of `semver`, `glob`, `regex`, `numeric`, `newest` and `digest`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.semver), has(self.glob), has(self.regex), has(self.numeric), has(self.newest), has(self.digest)].exists_one(given, given)")
        .message("policy needs exactly one of semver, glob, regex, numeric, newest and digest"),
    validation = Rule::new("!has(self.extract) || has(self.regex)")
        .message("extract takes a part of what regex matched: add regex, or remove extract"),
    validation = Rule::new("!has(self.order) || has(self.regex)")
        .message("order sorts what regex matched: add regex, or remove order")
)]
pub struct Policy {
    /// The highest version in this range, such as `>=1.2 <2`. Pre-releases only when the range names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub semver: Option<String>,
    /// The highest of the tags that match this glob pattern, such as `build-*`, in natural order: `build-10` is above
    /// `build-9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub glob: Option<String>,
    /// The highest of the tags that match this regular expression, such as `^main-(?P<run>[0-9]+)$`; see `extract`
    /// and `order`. Without `^` and `$` it may match anywhere in the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub regex: Option<String>,
    /// What of a match of `regex` is compared, such as `$run` or `$1.$2`. Left out, the whole tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub extract: Option<String>,
    /// How the matches of `regex` are compared; see [`TagOrder`], whose description is the schema's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<TagOrder>,
    /// The highest of the tags that are whole numbers, such as build numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("numeric is true or left out"))]
    pub numeric: Option<bool>,
    /// The image that was created last, of the tags that match this glob pattern, such as `main-*`; `*` for all tags. The
    /// date is the one in the image's configuration. Costs a few requests for each new image: where names tell the order,
    /// use another rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub newest: Option<String>,
    /// Follow one tag, such as `latest`: whenever it points to another digest, that is the newest image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::tag())]
    pub digest: Option<String>,
}

/// How the matches of `regex` are compared: as versions, as whole numbers, or byte by byte. Left out,
/// `Semver`. What the order cannot read is not a candidate.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagOrder {
    /// As semantic versions.
    #[default]
    Semver,
    /// As whole numbers.
    Numeric,
    /// Byte by byte.
    Alphabetical,
}

/// Which image of a repository is wanted, as one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ImageSource<'a> {
    /// The repository is watched.
    Policy(&'a Policy),
    /// One tag, not watched.
    Tag(&'a str),
    /// One digest.
    Digest(&'a str),
}

impl Image {
    /// Which image is wanted; `None` if the object did not pass the schema's rules (none given, or several).
    pub fn source(&self) -> Option<ImageSource<'_>> {
        match (&self.policy, &self.tag, &self.digest) {
            (Some(policy), None, None) => Some(ImageSource::Policy(policy)),
            (None, Some(tag), None) => Some(ImageSource::Tag(tag)),
            (None, None, Some(digest)) => Some(ImageSource::Digest(digest)),
            _ => None,
        }
    }
}

fn default_max_tag_loss() -> u8 {
    50
}

fn default_interval() -> Duration {
    Duration::from_mins(5)
}
