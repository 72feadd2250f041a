//! The HTTP API as its callers see it: over real connections, with tokens and rights of a real API server, over a real
//! Postgres. `UPDATE=1 cargo test --test api` rewrites the `OpenAPI` document.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "crds/server.rs"]
#[expect(dead_code, reason = "shared with tests/crds.rs, which needs more of it")]
mod server;
#[path = "cli/shop.rs"]
#[expect(dead_code, reason = "shared with tests/cli.rs, which needs more of it")]
mod shop;

#[path = "api/asked_otherwise.rs"]
mod asked_otherwise;
#[path = "api/asking.rs"]
mod asking;
#[path = "api/document.rs"]
mod document;
#[path = "api/lab.rs"]
mod lab;
#[path = "api/reading.rs"]
mod reading;
#[path = "api/routes.rs"]
mod routes;
#[path = "api/values.rs"]
mod values;
