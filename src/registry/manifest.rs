//! Manifests and image configurations: what of them matters to a deploy.

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bounded::AtMost;
use crate::domain::image::{Digest, Platform};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// How the types of layers begin that make up a file system.
const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
/// Most images of an index, and most layers of an image.
const MAX_ENTRIES: usize = 1000;
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The manifests that we understand. Without this header a registry answers in an outdated format.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest that has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) media_type: &'static str,
    pub(super) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// One image for each platform.
    Index(Vec<(Platform, Digest)>),
    /// One image, and where its configuration is.
    Image { config: Digest },
}

/// Why a manifest is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManifestError {
    Malformed(String),
    Unsupported(String),
}

/// The union of the four formats.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<AtMost<Entry, MAX_ENTRIES>>,
    config: Option<Descriptor>,
    layers: Option<AtMost<Layer, MAX_ENTRIES>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: Option<String>,
}

impl Layer {
    /// Whether it is a part of a file system. Signatures, attestations and SBOMs come with the configuration of an image
    /// and with layers of types of their own.
    fn is_files(&self) -> bool {
        self.media_type.as_deref().is_none_or(|it| LAYERS.iter().any(|files| it.starts_with(files)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: Option<String>,
    artifact_type: Option<String>,
    digest: String,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl RawPlatform {
    /// None for what is not a platform: attestations beside an image are listed as `unknown/unknown`.
    fn read(&self) -> Option<Platform> {
        let platform =
            Platform::new(self.os.as_deref()?, self.architecture.as_deref()?, self.variant.as_deref()).ok()?;
        (platform.os() != "unknown").then_some(platform)
    }
}

/// The media type of an answer, without its parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The type if it is one of the four that we understand.
pub(super) fn known(media_type: &str) -> Option<&'static str> {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].into_iter().find(|known| *known == media_type)
}

/// Reads a manifest. `content_type` is what the answer's header says; where header and content disagree about what
/// this is, nobody should believe either.
pub(super) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    let malformed = |why: &str| ManifestError::Malformed(why.to_owned());
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ManifestError::Malformed(format!("its manifest is not the expected JSON (line {line}, column {column})"))
    })?;
    if raw.fs_layers.is_some() {
        return Err(ManifestError::Unsupported("schema 1 manifest, which current tools no longer make".into()));
    }
    if raw.manifests.is_some() && (raw.config.is_some() || raw.layers.is_some()) {
        return Err(malformed("its manifest is an index and an image at the same time"));
    }
    let announced = content_type.and_then(known);
    let declared = raw.media_type.as_deref();
    if let (Some(announced), Some(declared)) = (announced, declared)
        && announced != declared
    {
        return Err(malformed("its header and its manifest name different media types"));
    }
    let unsupported =
        || ManifestError::Unsupported(super::error::excerpt(declared.or(content_type).unwrap_or("unknown")));
    let media_type = match declared {
        Some(declared) => known(declared).ok_or_else(unsupported)?,
        None => match announced {
            Some(announced) => announced,
            // OCI documents need not name their type.
            None if raw.manifests.is_some() => OCI_INDEX,
            None if raw.config.is_some() && raw.layers.is_some() => OCI_MANIFEST,
            None => return Err(unsupported()),
        },
    };
    let content = if matches!(media_type, OCI_INDEX | DOCKER_LIST) {
        let entries = raw.manifests.ok_or_else(|| malformed("its index lists no manifests"))?.0;
        if !entries.iter().any(Entry::can_run) {
            let media_type = raw.artifact_type.as_deref().unwrap_or("index without an image");
            return Err(ManifestError::Unsupported(super::error::excerpt(media_type)));
        }
        Content::Index(entries.iter().filter_map(Entry::image).collect())
    } else {
        let config = raw.config.ok_or_else(|| malformed("its manifest names no configuration"))?;
        let config_type = config.media_type.as_deref().unwrap_or_default();
        if !matches!(config_type, OCI_CONFIG | DOCKER_CONFIG) {
            let media_type = raw.artifact_type.as_deref().unwrap_or(config_type);
            return Err(ManifestError::Unsupported(super::error::excerpt(media_type)));
        }
        let layers = raw.layers.map(|layers| layers.0).unwrap_or_default();
        if let Some(other) = layers.first().filter(|_| !layers.iter().any(Layer::is_files)) {
            let media_type = raw.artifact_type.as_deref().or(other.media_type.as_deref()).unwrap_or("unknown");
            return Err(ManifestError::Unsupported(super::error::excerpt(media_type)));
        }
        let config = config.digest.parse().map_err(|_| malformed("its configuration has no sha256 digest"))?;
        Content::Image { config }
    };
    Ok(Manifest { media_type, content })
}

impl Entry {
    /// Whether it may be an image, of whatever platform. Attestations name an unknown one.
    fn can_run(&self) -> bool {
        let manifest = self.media_type.as_deref().is_none_or(|it| matches!(it, OCI_MANIFEST | DOCKER_MANIFEST));
        let unknown = self.platform.as_ref().is_some_and(|platform| platform.os.as_deref() == Some("unknown"));
        manifest && !unknown && self.artifact_type.is_none()
    }

    /// The image that an index lists here for a platform; none for anything else, such as an attestation.
    fn image(&self) -> Option<(Platform, Digest)> {
        let platform = self.platform.as_ref()?.read()?;
        Some((platform, self.digest.parse().ok()?)).filter(|_| self.can_run())
    }
}

/// The platform that an image's configuration names.
pub(super) fn config_platform(bytes: &[u8]) -> Option<Platform> {
    serde_json::from_slice::<RawPlatform>(bytes).ok()?.read()
}

/// The date that an image's configuration names. Builds that are to come out the same each time name the beginning of
/// time, which is no date.
pub(super) fn config_created(bytes: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Dated {
        created: Option<String>,
    }
    let created: Timestamp = serde_json::from_slice::<Dated>(bytes).ok()?.created?.parse().ok()?;
    (created > Timestamp::UNIX_EPOCH).then_some(created)
}

#[cfg(test)]
mod tests;
