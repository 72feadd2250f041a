//! Resolving a tag or digest: what it points at, and the part of it for one platform.

use std::fmt;
use std::sync::{Arc, OnceLock};

use reqwest::{Method, Response, StatusCode};

use super::endpoint::Endpoint;
use super::exchange::{Body, Call, accepted, malformed};
use super::manifest::{self, Content, ManifestError};
use super::runnable::Kind;
use super::{Registry, RegistryError};
use crate::domain::image::{Digest, Platform, is_tag};

const DIGEST_HEADER: &str = "docker-content-digest";

/// What selects an image in its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector<'a> {
    /// A tag, which can move.
    Tag(&'a str),
    /// A digest, which cannot.
    Digest(Digest),
}

impl fmt::Display for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

/// What a tag or digest stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest that the tag points at: of the index where there is one. This is what to deploy.
    pub digest: Digest,
    /// The manifest for the wanted platform; the digest itself when the image is not an index. None when no platform
    /// was asked for.
    pub platform_manifest_digest: Option<Digest>,
    /// Media type of what the digest names.
    pub media_type: String,
    /// The platforms that there are, as far as it was necessary to look.
    pub platforms: Vec<Platform>,
}

impl Registry {
    pub(super) async fn resolved(
        &self,
        endpoint: &Endpoint<'_>,
        selector: Selector<'_>,
        platform: Option<&Platform>,
    ) -> Result<Resolved, RegistryError> {
        if matches!(selector, Selector::Tag(tag) if !is_tag(tag)) {
            return Err(not_found(endpoint, selector, None));
        }
        let kind = match self.head(endpoint, selector).await? {
            Some(digest) => self.seen.get(digest).map(|kind| (digest, kind)),
            None => None,
        };
        // A tag that moves in between is what it is when its manifest is read.
        let (digest, kind) = match kind {
            Some(known) => known,
            None => self.read(endpoint, selector).await?,
        };
        let (manifest, named) = match &*kind {
            Kind::Image { manifest, platform } => (manifest, platform),
            Kind::Unsupported(media_type) => return Err(unsupported(endpoint, selector, media_type)),
        };
        let offered = match (&manifest.content, platform) {
            (Content::Index(images), _) => images.clone(),
            (Content::Image { .. }, None) => Vec::new(),
            (Content::Image { config }, Some(_)) => {
                let own = match named.get() {
                    Some(known) => known.clone(),
                    None => self.config_platform(endpoint, selector, *config).await?,
                };
                vec![(named.get_or_init(|| own).clone(), digest)]
            }
        };
        let platform_manifest_digest = match platform {
            None => None,
            Some(wanted) => {
                let image = pick(&offered, wanted);
                Some(image.ok_or_else(|| missing_platform(endpoint, selector, wanted, &offered))?)
            }
        };
        Ok(Resolved {
            digest,
            platform_manifest_digest,
            media_type: manifest.media_type.to_owned(),
            platforms: offered.into_iter().map(|(platform, _)| platform).collect(),
        })
    }

    /// Asks for the digest alone, which costs the registry little and does not count as a pull. None when the
    /// answer does not tell enough and the manifest itself has to be read.
    async fn head(&self, endpoint: &Endpoint<'_>, selector: Selector<'_>) -> Result<Option<Digest>, RegistryError> {
        let response = self.request(endpoint, &manifest_call(endpoint, Method::HEAD, selector)).await?;
        let media_type = manifest::content_type(response.headers()).as_deref().and_then(manifest::known);
        // An error to HEAD has no body to tell what is missing, and some registries do not know HEAD: then GET tells.
        let says_more = matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        if says_more || (response.status().is_success() && media_type.is_none()) {
            return Ok(None);
        }
        let response = accepted(endpoint, response, self.clock.now(), |_| not_found(endpoint, selector, None)).await?;
        let digest = announced(endpoint, &response)?;
        if let Some(digest) = digest {
            same_digest(endpoint, selector, selected(selector), digest)?;
        }
        Ok(digest)
    }

    /// Reads the manifest, and remembers what it is.
    pub(super) async fn read(
        &self,
        endpoint: &Endpoint<'_>,
        selector: Selector<'_>,
    ) -> Result<(Digest, Arc<Kind>), RegistryError> {
        let response = self.request(endpoint, &manifest_call(endpoint, Method::GET, selector)).await?;
        let missing = |code: Option<&str>| not_found(endpoint, selector, code);
        let response = accepted(endpoint, response, self.clock.now(), missing).await?;
        let content_type = manifest::content_type(response.headers());
        let announced = announced(endpoint, &response)?;
        let bytes = self.body(endpoint, response, self.options.limits.manifest_bytes, "a manifest").await?;
        let digest = Digest::of(&bytes);
        same_digest(endpoint, selector, announced, digest)?;
        same_digest(endpoint, selector, selected(selector), digest)?;
        let kind = match manifest::parse(&bytes, content_type.as_deref()) {
            Ok(manifest) => Kind::Image { manifest, platform: OnceLock::new() },
            Err(ManifestError::Unsupported(media_type)) => Kind::Unsupported(media_type),
            Err(ManifestError::Malformed(what)) => return Err(malformed(endpoint, what)),
        };
        let kind = Arc::new(kind);
        self.seen.keep(digest, kind.clone());
        Ok((digest, kind))
    }

    /// The platform of a single image, which only its configuration names.
    async fn config_platform(
        &self,
        endpoint: &Endpoint<'_>,
        selector: Selector<'_>,
        config: Digest,
    ) -> Result<Platform, RegistryError> {
        manifest::config_platform(&self.config(endpoint, selector, config).await?)
            .ok_or_else(|| malformed(endpoint, "the configuration of the image names no platform"))
    }

    /// The configuration of an image.
    pub(super) async fn config(
        &self,
        endpoint: &Endpoint<'_>,
        selector: Selector<'_>,
        config: Digest,
    ) -> Result<Body, RegistryError> {
        let response = self.request(endpoint, &Call::get(endpoint.blob(&config))).await?;
        let missing = |_: Option<&str>| malformed(endpoint, "the configuration that its manifest names is missing");
        let response = accepted(endpoint, response, self.clock.now(), missing).await?;
        let bytes = self.body(endpoint, response, self.options.limits.manifest_bytes, "an image configuration").await?;
        same_digest(endpoint, selector, Some(config), Digest::of(&bytes))?;
        Ok(bytes)
    }
}

fn manifest_call<'a>(endpoint: &Endpoint<'_>, method: Method, selector: Selector<'_>) -> Call<'a> {
    let url = endpoint.manifest(&selector.to_string());
    Call { method, accept: Some(manifest::ACCEPT), ..Call::get(url) }
}

/// The manifest for a platform: the very same first, then one that it accepts.
pub(super) fn pick(offered: &[(Platform, Digest)], wanted: &Platform) -> Option<Digest> {
    let same = offered.iter().find(|(platform, _)| platform == wanted);
    same.or_else(|| offered.iter().find(|(platform, _)| wanted.accepts(platform))).map(|(_, digest)| *digest)
}

/// The digest that the answer's header announces.
fn announced(endpoint: &Endpoint<'_>, response: &Response) -> Result<Option<Digest>, RegistryError> {
    let Some(header) = response.headers().get(DIGEST_HEADER) else {
        return Ok(None);
    };
    let digest = header.to_str().ok().and_then(|text| text.trim().parse().ok());
    digest.map(Some).ok_or_else(|| malformed(endpoint, "its Docker-Content-Digest is not a sha256 digest"))
}

/// The digest that was asked for, if it was one.
fn selected(selector: Selector<'_>) -> Option<Digest> {
    match selector {
        Selector::Digest(digest) => Some(digest),
        Selector::Tag(_) => None,
    }
}

fn same_digest(
    endpoint: &Endpoint<'_>,
    selector: Selector<'_>,
    expected: Option<Digest>,
    found: Digest,
) -> Result<(), RegistryError> {
    match expected {
        Some(expected) if expected != found => {
            Err(RegistryError::DigestMismatch { place: place(endpoint, selector), expected, found })
        }
        _ => Ok(()),
    }
}

pub(super) fn missing_platform(
    endpoint: &Endpoint<'_>,
    selector: Selector<'_>,
    wanted: &Platform,
    offered: &[(Platform, Digest)],
) -> RegistryError {
    RegistryError::PlatformMissing {
        place: place(endpoint, selector),
        wanted: Box::new(wanted.clone()),
        offered: offered.iter().map(|(platform, _)| platform.clone()).collect(),
    }
}

pub(super) fn unsupported(endpoint: &Endpoint<'_>, selector: Selector<'_>, media_type: &str) -> RegistryError {
    RegistryError::Unsupported { place: place(endpoint, selector), media_type: media_type.to_owned() }
}

fn not_found(endpoint: &Endpoint<'_>, selector: Selector<'_>, code: Option<&str>) -> RegistryError {
    let repository = endpoint.repository().clone();
    if code == Some("NAME_UNKNOWN") {
        RegistryError::RepositoryNotFound { repository }
    } else {
        RegistryError::TagNotFound { repository, image: super::error::excerpt(&selector.to_string()) }
    }
}

fn place(endpoint: &Endpoint<'_>, selector: Selector<'_>) -> String {
    match selector {
        Selector::Tag(tag) => format!("{}:{tag}", endpoint.place()),
        Selector::Digest(digest) => format!("{}@{digest}", endpoint.place()),
    }
}
