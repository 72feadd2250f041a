//! The `stagekeeper` binary: a thin shell around [`stagekeeper::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    stagekeeper::cli::run(std::env::args_os())
}
