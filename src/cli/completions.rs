//! `stagekeeper completions SHELL`: a script by which a shell asks this program for what could come next; and the answers.

mod live;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap_complete::{
    Shell,
    env::{CompleteEnv, Shells},
};

pub use self::live::{deploys, stages};
use super::failure::{Code, Failure};

/// The variable by which the script says that it is it who asks. Not the one that everybody uses: whoever has set that for
/// something else wants no completions of ours.
const ASKS: &str = "STAGEKEEPER_COMPLETE";

/// The program as it is found by its name.
const PROGRAM: &str = "stagekeeper";

/// Prints the completion script of a shell.
pub fn print(shell: Shell, out: &mut dyn Write) -> Result<(), Failure> {
    let name = shell.to_string();
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(&name) else {
        return Err(Failure::usage(format!("nothing is known of the shell {name}"), "see --help"));
    };
    Ok(completer.write_registration(ASKS, PROGRAM, PROGRAM, PROGRAM, out)?)
}

/// Answers the script of a shell, if it is what asks.
pub fn answered(arguments: &[OsString], grammar: impl Fn() -> clap::Command) -> Option<ExitCode> {
    let here = std::env::current_dir().ok();
    match CompleteEnv::with_factory(grammar).var(ASKS).try_complete(arguments.iter().cloned(), here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        // A shell that asks in a way that nobody knows gets no answer: there is nobody to tell.
        Err(_) => Some(ExitCode::from(Code::Usage as u8)),
    }
}
