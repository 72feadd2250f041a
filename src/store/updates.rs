//! The update list: newer images than what runs somewhere, each until it is acknowledged or deployed.

mod see;

pub(super) use see::{SeenRow, see};
