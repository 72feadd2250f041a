//! Previews on a real API server: pull requests of a provider that these tests play become Environments, change them and end
//! them. No pod runs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it cannot read, and says what it saw"
)]

#[path = "previews/asked.rs"]
mod asked;
#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "what tests of deploys need is not needed here")]
mod cluster;
#[path = "support/images.rs"]
mod images;
#[path = "support/operator.rs"]
#[expect(dead_code, reason = "what tests of deploys need is not needed here")]
mod operator;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "what tests of the store need is not needed here")]
mod postgres;
#[path = "previews/provider.rs"]
mod provider;
#[path = "previews/scene.rs"]
mod scene;
#[path = "previews/told.rs"]
mod told;
