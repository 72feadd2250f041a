//! Faults in the middle of deploys: crashes, lost replies, servers that go away, and more than one leader. Whatever
//! happens, a deploy ends as it would have ended undisturbed, and nothing is done twice.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/api_proxy.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod api_proxy;
#[path = "support/asking.rs"]
mod asking;
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
#[path = "support/throwaway.rs"]
mod throwaway;
#[path = "support/trap.rs"]
mod trap;

#[path = "faults/crashes.rs"]
mod crashes;
#[path = "faults/groups.rs"]
mod groups;
#[path = "faults/leaders.rs"]
mod leaders;
#[path = "faults/outages.rs"]
mod outages;
#[path = "faults/replies.rs"]
mod replies;
#[path = "faults/requests.rs"]
mod requests;
#[path = "faults/settled.rs"]
mod settled;
#[path = "faults/stale.rs"]
mod stale;
#[path = "faults/story.rs"]
mod story;
#[path = "faults/webhooks.rs"]
mod webhooks;
#[path = "faults/witness.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod witness;
