//! How a command ends when it does not end well: what, where, what to do, and an exit code for scripts.

use std::{fmt, io, process::ExitCode};

use crate::config::ConfigErrors;

/// Exit codes that scripts can rely on. 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// It failed, or what was asked for does not exist.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The API, the cluster or the database cannot be reached: the same command may work later.
    Unavailable = 3,
    /// What was asked of a stage cannot be done; nothing has changed.
    Refused = 4,
    /// The deploy that was waited for has failed.
    DeployFailed = 5,
    /// The deploy that was waited for was stopped, or a newer one took its place.
    Stopped = 6,
    /// The deploy that was waited for has not ended in time.
    TimedOut = 7,
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Something to tell.
    Said {
        /// The exit code.
        code: Code,
        /// What is wrong and where.
        what: String,
        /// What to do next.
        next: Option<String>,
    },
    /// Whoever read our output has read enough: not an error.
    OutputClosed,
    /// Everything was told already in the command's own output.
    Told(Code),
}

impl Failure {
    /// It failed, or what was asked for does not exist.
    pub fn failed(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::said(Code::Failed, what, next)
    }

    /// The command line is wrong.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::said(Code::Usage, what, next)
    }

    /// Something that the command needs cannot be reached.
    pub fn unavailable(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::said(Code::Unavailable, what, next)
    }

    fn said(code: Code, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Said { code, what: what.into(), next: Some(next.into()).filter(|next| !next.is_empty()) }
    }

    /// What is wrong and where, without what to do.
    pub fn summary(&self) -> String {
        match self {
            Self::Said { what, .. } => what.clone(),
            Self::OutputClosed | Self::Told(_) => String::new(),
        }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Said { code, .. } | Self::Told(code) => ExitCode::from(*code as u8),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said { what, next, .. } => {
                write!(f, "error: {what}")?;
                next.iter().try_for_each(|next| write!(f, "\n  {next}"))
            }
            Self::OutputClosed | Self::Told(_) => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::failed(format!("the output cannot be written: {error}"), "")
        }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::usage(errors.to_string(), "")
    }
}
