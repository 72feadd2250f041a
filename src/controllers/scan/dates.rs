//! When the images of tags were built: a bounded number of requests for each scan, and the rest with the next one.

use std::collections::HashMap;

use super::Registries;
use crate::{
    controllers::images::{Asked, Dates, Sighting},
    domain::image::{Digest, Platform, Repository},
    registry::{Access, RegistryError, Selector},
};

/// Requests for manifests and configurations that one scan makes at most.
const REQUESTS: usize = 100;

/// What a digest costs that was never seen: its manifest, and its configuration.
const NEW_DIGEST: usize = 2;

impl Registries {
    /// Looks at tags, the unknown ones first, until enough was asked. What was found before a registry fails is kept.
    pub(super) async fn dates(
        &self,
        asked: &Asked,
        platform: Option<&Platform>,
        access: &Access,
    ) -> Result<Dates, RegistryError> {
        let repository = &asked.question.repository;
        let mut dates = (*asked.dates).clone();
        dates.keep(&asked.dated);
        let mut known: HashMap<Digest, Sighting> =
            dates.by_digest().into_iter().map(|(digest, seen)| (digest, seen.clone())).collect();
        let (mut left, mut looked) = (REQUESTS, false);
        for name in dates.order(&asked.dated) {
            if left == 0 {
                break;
            }
            let digest = match name.parse::<Digest>() {
                // What a digest stands for never changes.
                Ok(_) if dates.get(name).is_some() => continue,
                Ok(digest) => Ok(digest),
                Err(_) => {
                    left -= 1;
                    let found = self.registry.resolve(repository, Selector::Tag(name), platform, access).await;
                    found.map(|resolved| resolved.digest)
                }
            };
            let seen = match digest {
                Ok(digest) => {
                    if let Some(seen) = known.get(&digest) {
                        Ok(seen.clone())
                    } else {
                        left = left.saturating_sub(NEW_DIGEST);
                        self.sighting(repository, digest, platform, access).await
                    }
                }
                Err(error) => Err(error),
            };
            let seen = match seen.or_else(unfit) {
                Ok(seen) => Sighting { looked_at: self.clock.now(), ..seen },
                Err(_) if looked => break,
                Err(error) => return Err(error),
            };
            looked = true;
            if let Some(digest) = seen.digest {
                known.insert(digest, seen.clone());
            }
            dates.saw(name, seen);
        }
        Ok(dates)
    }

    async fn sighting(
        &self,
        repository: &Repository,
        digest: Digest,
        platform: Option<&Platform>,
        access: &Access,
    ) -> Result<Sighting, RegistryError> {
        let created = self.registry.built(repository, digest, platform, access).await?;
        Ok(Sighting { digest: Some(digest), created, unfit: None, looked_at: self.clock.now() })
    }
}

/// What is wrong with this one image, and does not keep others from being looked at.
fn unfit(error: RegistryError) -> Result<Sighting, RegistryError> {
    match error {
        RegistryError::TagNotFound { .. }
        | RegistryError::Unsupported { .. }
        | RegistryError::PlatformMissing { .. }
        | RegistryError::TooLarge { .. } => {
            let looked_at = jiff::Timestamp::UNIX_EPOCH;
            Ok(Sighting { digest: None, created: None, unfit: Some(error.to_string()), looked_at })
        }
        other => Err(other),
    }
}
