//! Webhooks as their senders see them: over real connections, into a real Postgres.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/postgres.rs"]
mod postgres;

#[path = "webhooks/bounds.rs"]
mod bounds;
#[path = "webhooks/door.rs"]
mod door;
#[path = "webhooks/inbox.rs"]
mod inbox;
#[path = "webhooks/receiving.rs"]
mod receiving;
#[path = "webhooks/trust.rs"]
mod trust;
