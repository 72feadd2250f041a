//! The crash matrix: each plan is one workload in which the operator is killed once, before or after one write, and another
//! one goes on. What comes of it is what comes of the same workload undisturbed. `docs/faults.md` says more.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "support/api_proxy.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod api_proxy;
#[path = "support/asking.rs"]
mod asking;
#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod cluster;
#[path = "support/http_proxy.rs"]
mod http_proxy;
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
#[path = "previews/provider.rs"]
mod provider;
#[path = "support/throwaway.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod throwaway;
#[path = "support/trap.rs"]
mod trap;
#[path = "faults/witness.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod witness;

#[path = "matrix/compare.rs"]
mod compare;
#[path = "matrix/credentials.rs"]
mod credentials;
#[path = "matrix/environments.rs"]
mod environments;
#[path = "matrix/ground.rs"]
mod ground;
#[path = "matrix/layers.rs"]
mod layers;
#[path = "matrix/outcome.rs"]
mod outcome;
#[path = "matrix/plans.rs"]
mod plans;
#[path = "matrix/pulls.rs"]
mod pulls;
#[path = "matrix/run.rs"]
mod run;
#[path = "matrix/scene.rs"]
mod scene;
#[path = "matrix/stages.rs"]
mod stages;
#[path = "matrix/workloads.rs"]
mod workloads;
