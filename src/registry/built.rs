//! When an image was created.

use jiff::Timestamp;

use super::endpoint::Endpoint;
use super::exchange::malformed;
use super::manifest::{self, Content};
use super::resolve::{Selector, missing_platform, pick, unsupported};
use super::runnable::Kind;
use super::{Registry, RegistryError};
use crate::domain::image::{Digest, Platform};

impl Registry {
    pub(super) async fn creation(
        &self,
        endpoint: &Endpoint<'_>,
        digest: Digest,
        wanted: Option<&Platform>,
    ) -> Result<Option<Timestamp>, RegistryError> {
        let mut image = digest;
        // An index, and an image in it.
        for _ in 0..2 {
            let selector = Selector::Digest(image);
            let kind = match self.seen.get(image) {
                Some(kind) => kind,
                None => self.read(endpoint, selector).await?.1,
            };
            let manifest = match &*kind {
                Kind::Image { manifest, .. } => manifest,
                Kind::Unsupported(media_type) => return Err(unsupported(endpoint, selector, media_type)),
            };
            match &manifest.content {
                Content::Image { config } => {
                    let bytes = self.config(endpoint, selector, *config).await?;
                    return Ok(manifest::config_created(&bytes));
                }
                Content::Index(images) => {
                    image = match wanted {
                        Some(wanted) => {
                            pick(images, wanted).ok_or_else(|| missing_platform(endpoint, selector, wanted, images))?
                        }
                        None => images
                            .first()
                            .map(|(_, digest)| *digest)
                            .ok_or_else(|| malformed(endpoint, "its index names the platform of no image"))?,
                    };
                }
            }
        }
        Err(malformed(endpoint, "its index lists another index as an image"))
    }
}
