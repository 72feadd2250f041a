//! The whole product on a real node: the operator as a process, a real registry, real pods, and Postgres.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/asking.rs"]
mod asking;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/images.rs"]
mod images;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "shared with tests of the store, which need more of it")]
mod postgres;
#[path = "support/shop.rs"]
mod shop;
#[path = "support/visitors.rs"]
mod visitors;

#[path = "e2e/ahead.rs"]
mod ahead;
#[path = "e2e/asked.rs"]
mod asked;
#[path = "e2e/discovery.rs"]
mod discovery;
#[path = "e2e/evidence.rs"]
mod evidence;
#[path = "e2e/forward.rs"]
mod forward;
#[path = "e2e/gate.rs"]
mod gate;
#[path = "e2e/gitops.rs"]
mod gitops;
#[path = "e2e/groups.rs"]
mod groups;
#[path = "e2e/hooks.rs"]
mod hooks;
#[path = "e2e/hostile_registry.rs"]
mod hostile_registry;
#[path = "e2e/inputs.rs"]
mod inputs;
#[path = "e2e/instances.rs"]
mod instances;
#[path = "e2e/lab.rs"]
mod lab;
#[path = "e2e/lifecycle.rs"]
mod lifecycle;
#[path = "e2e/moods.rs"]
mod moods;
#[path = "e2e/moody_registry.rs"]
mod moody_registry;
#[path = "e2e/notified.rs"]
mod notified;
#[path = "e2e/ownership.rs"]
mod ownership;
#[path = "e2e/private.rs"]
mod private;
#[path = "e2e/private_registry.rs"]
mod private_registry;
#[path = "e2e/promotion.rs"]
mod promotion;
#[path = "e2e/pulled.rs"]
mod pulled;
#[path = "e2e/quiet.rs"]
mod quiet;
#[path = "e2e/recorder.rs"]
mod recorder;
#[path = "e2e/replicas.rs"]
mod replicas;
#[path = "e2e/rollback.rs"]
mod rollback;
#[path = "e2e/routes.rs"]
mod routes;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/story.rs"]
mod story;
#[path = "e2e/strategies.rs"]
mod strategies;
#[path = "e2e/token_server.rs"]
mod token_server;
#[path = "e2e/turns.rs"]
mod turns;
#[path = "e2e/updates.rs"]
mod updates;
#[path = "e2e/volumes.rs"]
mod volumes;
