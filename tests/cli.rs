//! The built binary as people and scripts call it: words, forms and exit codes, on a real database and a real cluster.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/postgres.rs"]
mod postgres;

#[path = "crds/server.rs"]
#[expect(dead_code, reason = "shared with tests/crds.rs, which needs more of it")]
mod server;

#[path = "cli/access.rs"]
mod access;
#[path = "cli/binary.rs"]
mod binary;
#[path = "cli/both.rs"]
mod both;
#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/controller.rs"]
mod controller;
#[path = "cli/credentials.rs"]
mod credentials;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/grammar.rs"]
mod grammar;
#[path = "cli/history.rs"]
mod history;
#[path = "cli/images.rs"]
mod images;
#[path = "api/lab.rs"]
#[expect(dead_code, reason = "shared with tests/api.rs, which needs more of it")]
mod lab;
#[path = "cli/logs.rs"]
mod logs;
#[path = "cli/migrate.rs"]
mod migrate;
#[path = "cli/questions.rs"]
mod questions;
#[path = "cli/registries.rs"]
mod registries;
#[path = "cli/remote.rs"]
mod remote;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/shop.rs"]
mod shop;
#[path = "cli/updates.rs"]
mod updates;
#[path = "cli/why.rs"]
mod why;
