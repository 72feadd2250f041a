//! Kubernetes adapters: clients with deadlines, server-side apply, the memory of child objects, events, evidence
//! and leadership.
//!
//! Nothing in here knows a rule of deploys: it writes what it is given and shows what it sees, as small plain
//! views. What a view means for a deploy is decided by the controllers.

pub mod client;
