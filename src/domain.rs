//! The pure core: no I/O, no clock, no randomness, no Kubernetes.

pub mod clock;
pub mod image;
pub mod policy;
