//! The chart: its generated files are what they are made of, what it renders is what it says, and a real API server accepts it.
//! `UPDATE=1 cargo test --test chart` rewrites the generated files. `tests/install.rs` installs it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "chart/accepted.rs"]
mod accepted;
#[path = "chart/generated.rs"]
mod generated;
#[path = "chart/helm.rs"]
mod helm;
#[path = "chart/image.rs"]
mod image;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "chart/rights.rs"]
mod rights;
#[path = "chart/setup.rs"]
mod setup;
#[path = "chart/values.rs"]
mod values;
