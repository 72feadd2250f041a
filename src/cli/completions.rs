//! `stagekeeper completions SHELL`.

use std::io::Write;

use clap_complete::{Shell, generate};

use super::failure::Failure;

/// Prints the completion script of a shell.
pub fn print(shell: Shell, command: &mut clap::Command, out: &mut dyn Write) -> Result<(), Failure> {
    // Into memory first: `generate` panics when its writer fails.
    let mut script = Vec::new();
    generate(shell, command, "stagekeeper", &mut script);
    out.write_all(&script)?;
    Ok(())
}
