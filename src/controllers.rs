//! Controllers: observe, validate, advance the deploy machine, apply, write status.

pub mod backoff;
pub mod images;
pub mod stage;
