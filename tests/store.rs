//! The store on a real Postgres: each test on a database of its own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/postgres_server.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod postgres_server;

#[path = "store/adopt.rs"]
mod adopt;
#[path = "store/audit.rs"]
mod audit;
#[path = "store/connect.rs"]
mod connect;
#[path = "store/deploys.rs"]
mod deploys;
#[path = "store/environments.rs"]
mod environments;
#[path = "store/fence.rs"]
mod fence;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/gates.rs"]
mod gates;
#[path = "store/groups.rs"]
mod groups;
#[path = "store/history.rs"]
mod history;
#[path = "store/instances.rs"]
mod instances;
#[path = "store/log_search.rs"]
mod log_search;
#[path = "store/logs.rs"]
mod logs;
#[path = "store/migrate.rs"]
mod migrate;
#[path = "store/outcomes.rs"]
mod outcomes;
#[path = "store/plans.rs"]
mod plans;
#[path = "store/pull_requests.rs"]
mod pull_requests;
#[path = "store/questions.rs"]
mod questions;
#[path = "store/requests.rs"]
mod requests;
#[path = "store/safe.rs"]
mod safe;
#[path = "store/scan.rs"]
mod scan;
#[path = "store/scans.rs"]
mod scans;
#[path = "store/schema.rs"]
mod schema;
#[path = "store/secrets.rs"]
mod secrets;
#[path = "store/server.rs"]
mod server;
#[path = "store/shards.rs"]
mod shards;
#[path = "store/targets.rs"]
mod targets;
#[path = "store/update_deploys.rs"]
mod update_deploys;
#[path = "store/updates.rs"]
mod updates;
#[path = "store/users.rs"]
mod users;
#[path = "store/vault.rs"]
mod vault;
