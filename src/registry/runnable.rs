//! Which digests were read before, and what they turned out to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::manifest::{Content, Manifest};
use crate::domain::image::{Digest, Platform};

/// Most digests in a generation. There are two.
const GENERATION: usize = 2048;
/// Largest index that is remembered, in images. A larger one is read each time.
const MAX_IMAGES: usize = 64;

/// What a digest was found to be. It is the same everywhere and for ever, so nobody learns from this what they may not
/// read: that the digest is in a repository is asked each time.
pub(super) enum Kind {
    /// It can run.
    Image {
        manifest: Manifest,
        /// The platform of a single image, once its configuration was read.
        platform: OnceLock<Platform>,
    },
    /// It cannot; its media type.
    Unsupported(String),
}

/// The digests that were read last, in bounded memory: a generation that grows, and the one before it.
#[derive(Default)]
pub(super) struct Seen(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Digest, Arc<Kind>>,
    old: HashMap<Digest, Arc<Kind>>,
}

impl Seen {
    pub(super) fn get(&self, digest: Digest) -> Option<Arc<Kind>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = seen.young.get(&digest) {
            return Some(kind.clone());
        }
        let kind = seen.old.remove(&digest)?;
        seen.keep(digest, kind.clone());
        Some(kind)
    }

    pub(super) fn keep(&self, digest: Digest, kind: Arc<Kind>) {
        if matches!(&*kind, Kind::Image { manifest, .. } if manifest.images() > MAX_IMAGES) {
            return;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(digest, kind);
    }
}

impl Generations {
    fn keep(&mut self, digest: Digest, kind: Arc<Kind>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, kind);
    }
}

impl Manifest {
    fn images(&self) -> usize {
        match &self.content {
            Content::Index(images) => images.len(),
            Content::Image { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let seen = Seen::default();
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..10 * GENERATION {
            seen.keep(digest(number), Arc::new(Kind::Unsupported(String::new())));
            assert!(seen.get(digest(0)).is_some(), "{number}");
        }
        assert!(seen.get(digest(1)).is_none());
        let seen = seen.0.lock().unwrap();
        assert!(seen.young.len() + seen.old.len() <= 2 * GENERATION);
    }
}
