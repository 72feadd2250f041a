//! Time and identity as parameters, so that every rule can be tested at any instant.

use jiff::Timestamp;
use uuid::Uuid;

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The machine's clock: the one place that reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Where new row identities come from.
pub trait Ids: Send + Sync {
    /// A new `UUIDv7`: sortable by creation time.
    fn next(&self) -> Uuid;
}

/// Identities from the machine's clock and random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "this is the source of identities")]
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}
