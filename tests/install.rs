//! The chart on a cluster of its own: installed as `docs/install.md` says, line by line, tried out, upgraded in the middle of a deploy,
//! and removed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "chart/audit.rs"]
mod audit;
#[path = "chart/ground.rs"]
mod ground;
#[path = "chart/install.rs"]
mod install;
#[path = "support/throwaway.rs"]
#[expect(dead_code, reason = "shared with tests/faults.rs, which needs more of it")]
mod throwaway;
