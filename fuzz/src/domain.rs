//! As much of the program's words as webhooks are read into.

pub mod excerpt;
pub mod hint;
pub mod image;
pub mod pull_request;
