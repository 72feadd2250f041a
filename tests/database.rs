//! Faults of the database: read-only, gone back in time, hanging, full, locked, without room for connections. Whatever happens
//! to it, what runs is untouched and serves, the operator says so, and it goes on by itself. Takes minutes: it runs with
//! `make test-faults` only.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/api_proxy.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod api_proxy;
#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod cluster;
#[path = "support/images.rs"]
mod images;
#[path = "support/operator.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod operator;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod postgres;
#[path = "support/postgres_proxy.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod postgres_proxy;
#[path = "support/postgres_server.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod postgres_server;
#[path = "faults/story.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod story;
#[path = "support/trap.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod trap;
#[path = "support/visitors.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod visitors;
#[path = "faults/witness.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod witness;

#[path = "database/back.rs"]
mod back;
#[path = "database/ground.rs"]
mod ground;
#[path = "database/refused.rs"]
mod refused;
#[path = "database/relay.rs"]
mod relay;
#[path = "database/silent.rs"]
mod silent;
