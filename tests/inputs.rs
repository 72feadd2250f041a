//! Objects by chance: what the API server takes of them, the operator bears, and says of each where it stands. On a cluster of its own,
//! because their definitions' every corner is tried.
//!
//! `STAGEKEEPER_TEST_INPUTS` and `STAGEKEEPER_TEST_CHANGES` say how many, `STAGEKEEPER_TEST_SEED` which.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "inputs/chance.rs"]
mod chance;
#[path = "inputs/changes.rs"]
mod changes;
#[path = "inputs/generator.rs"]
mod generator;
#[path = "support/process.rs"]
mod process;
#[path = "inputs/registry.rs"]
mod registry;
#[path = "inputs/stand.rs"]
mod stand;
#[path = "support/throwaway.rs"]
#[expect(dead_code, reason = "shared with tests/faults.rs, which needs more of it")]
mod throwaway;
