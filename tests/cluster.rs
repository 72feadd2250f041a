//! The Kubernetes adapters against a real API server: writing, watching through outages, refusals, leadership.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod cluster {
    pub mod line;
    pub mod policies;
    pub mod server;

    mod access;
    mod applying;
    mod electing;
    mod indexing;
    mod originals;
    mod refusing;
    mod requests;
    mod telling;
}
