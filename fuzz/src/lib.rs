//! The readers of bytes from elsewhere, built by themselves (the files are the program's own, behind links): all of the
//! program would take minutes, and none of the rest is fuzzed.

pub mod crypto;
pub mod domain;
pub mod login;
pub mod webhook;
