//! How a registry lists tags: how many in a page, and whether it says that there are more.
//!
//! Some registries cut a listing and send no `Link` to the rest. Their pages look like those of a repository that has
//! exactly so many tags, so a page of a size at which registries cut is not believed at once. What one more request
//! tells is remembered for the host: a listing costs one request from then on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// Tags that are asked for in one page, the most first. A registry that refuses a number is asked for the next one, and
/// in the end without any.
const SIZES: [Option<usize>; 4] = [Some(10_000), Some(1000), Some(100), None];

/// What was learnt from one registry's listings.
#[derive(Default)]
pub(super) struct Paging {
    /// The first of the sizes that it did not refuse.
    size: AtomicUsize,
    /// A page without a link is all there is: it was seen to send links, or to know no pages at all.
    believed: AtomicBool,
    /// It was tried whether it sends links.
    tried: AtomicBool,
    trying: Mutex<()>,
}

impl Paging {
    /// The sizes to ask for, in order, each with its index.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (usize, Option<usize>)> + use<> {
        SIZES.into_iter().enumerate().skip(self.size.load(Ordering::Relaxed))
    }

    /// The size with this index was not refused.
    pub(super) fn accepts(&self, index: usize) {
        self.size.store(index, Ordering::Relaxed);
    }

    pub(super) fn is_believed(&self) -> bool {
        self.believed.load(Ordering::Relaxed)
    }

    pub(super) fn believe(&self) {
        self.believed.store(true, Ordering::Relaxed);
    }

    /// The right to try it out; None when somebody did. All who ask meanwhile wait for what comes of it.
    pub(super) async fn to_try(&self) -> Option<MutexGuard<'_, ()>> {
        if self.tried.load(Ordering::Relaxed) {
            return None;
        }
        let trying = self.trying.lock().await;
        (!self.is_believed() && !self.tried.load(Ordering::Relaxed)).then_some(trying)
    }

    pub(super) fn was_tried(&self) {
        self.tried.store(true, Ordering::Relaxed);
    }
}

/// Whether a page with so many tags, of which so many were asked for, may have been cut. Registries that cut by a limit
/// of their own choose a round one.
pub(super) fn may_be_cut(count: usize, asked: Option<usize>) -> bool {
    let round = count >= 50 && (count.is_multiple_of(50) || count.is_power_of_two());
    round || asked.is_some_and(|asked| count >= asked)
}
