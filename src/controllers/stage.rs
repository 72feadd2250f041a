//! The Stage controller.

pub mod sources;
pub mod wanted;
