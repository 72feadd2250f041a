//! The pure core: no I/O, no clock, no randomness, no Kubernetes.

pub mod actor;
pub mod annotation;
pub mod clock;
pub mod credential;
pub mod deploy;
pub mod environment;
pub mod excerpt;
pub mod feedback;
pub mod group;
pub mod hint;
pub mod image;
pub mod mask;
pub mod plan;
pub mod policy;
pub mod promotion;
pub mod pull_request;
pub mod release;
pub mod request;
pub mod retire;
pub mod secret;
pub mod share;
pub mod update;
