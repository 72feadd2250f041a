//! The `stagekeeper` binary: a thin shell around [`stagekeeper::cli`].

fn main() {}
