//! Environments on a real node: their namespaces, their sleep, and their end. The operator of these tests sees the whole
//! cluster, so there is one of it at a time, and no other test program runs meanwhile.
#![expect(clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod cluster;
#[path = "environments/ending.rs"]
mod ending;
#[path = "environments/faults.rs"]
mod faults;
#[path = "support/images.rs"]
mod images;
#[path = "environments/leaks.rs"]
mod leaks;
#[path = "environments/life.rs"]
mod life;
#[path = "support/operator.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod operator;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod postgres;
#[path = "environments/proxy.rs"]
mod proxy;
#[path = "environments/routed.rs"]
mod routed;
#[path = "environments/stand.rs"]
mod stand;
#[path = "environments/story.rs"]
mod story;
#[path = "support/throwaway.rs"]
mod throwaway;
