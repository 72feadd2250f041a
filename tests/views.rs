//! Views of the cluster that are wrong, late or lost, leaders that come and go, and what is written when all of it is over.
//! These take minutes each: `make test-faults` runs them.
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
#[path = "faults/story.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod story;
#[path = "support/throwaway.rs"]
mod throwaway;
#[path = "support/trap.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod trap;
#[path = "faults/witness.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod witness;

#[path = "views/dropped.rs"]
mod dropped;
#[path = "views/ground.rs"]
mod ground;
#[path = "views/killed.rs"]
mod killed;
#[path = "views/leaders.rs"]
mod leaders;
#[path = "views/recreated.rs"]
mod recreated;
#[path = "views/settling.rs"]
mod settling;
#[path = "views/shards.rs"]
mod shards;
#[path = "views/two_servers.rs"]
mod two_servers;
