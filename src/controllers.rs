//! Controllers: observe, validate, advance the deploy machine, apply, write status.
