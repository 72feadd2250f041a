//! Values that are given to a command: never as an argument, which every process of the machine could read.

use std::io::{IsTerminal as _, Read};

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::crypto::{MAX_PLAINTEXT, Plaintext};

/// Reads the value of `name`: on a terminal without showing it, elsewhere all of standard input but one line break at its
/// end.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn given(name: &str) -> Result<Plaintext, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let typed = rpassword::prompt_password(format!("value of {name} (not shown): "));
        return typed.map(Plaintext::from).map_err(|error| unread(&error)).and_then(not_empty);
    }
    // Room for one line break and one byte too many, which says that there is more.
    let bytes = at_most(stdin.lock(), MAX_PLAINTEXT + 3).map_err(|error| unread(&error))?;
    let end = bytes.strip_suffix(b"\n").map_or(bytes.len(), |rest| rest.strip_suffix(b"\r").unwrap_or(rest).len());
    not_empty(Plaintext::from(bytes[..end].to_vec()))
}

/// Reads no more than `limit` bytes, into memory that is overwritten when it is dropped.
///
/// # Errors
/// As reading itself.
pub fn at_most(from: impl Read, limit: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    from.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_empty(value: Plaintext) -> Result<Plaintext, Failure> {
    if value.is_empty() {
        Err(Failure::usage("there is no value", "write it to standard input, or type it on a terminal"))
    } else {
        Ok(value)
    }
}

fn unread(error: &std::io::Error) -> Failure {
    Failure::failed(format!("the value cannot be read: {error}"), "")
}
