//! Environments: what they are called, how long they live, when they sleep, which of them may run, and what they cost. Pure.

pub mod cost;
pub mod life;
pub mod room;
pub mod subdomain;

pub use life::{Ending, Life, Span, Standing, standing};
pub use room::{Seat, Tenant, seats};
pub use subdomain::{host, prefix, subdomain};
