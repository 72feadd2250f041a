//! Controllers: observe, validate, advance the deploy machine, apply, write status.

pub mod asked;
pub mod backoff;
pub mod beginnings;
pub mod context;
pub mod count;
pub mod deploy;
pub mod environment;
pub mod error;
#[cfg(test)]
mod fixture;
pub mod groups;
pub mod images;
pub mod lanes;
pub mod previews;
pub mod project;
mod run;
pub mod scan;
pub mod stage;
pub mod strangers;
pub mod trigger;
pub mod vault;

pub use run::{RunError, run, stand_beside};
