//! Clients of git providers: which pull requests are open, how one of them stands, and what they are told.
//!
//! Three rules hold everywhere in this room. A token goes to the address that the project names, and nowhere else: no redirect
//! is followed, and no address from an answer is asked. Whatever a provider sends is bounded and checked. And a list is either
//! read from end to end or says that it is not: an outage never looks like a repository without pull requests.
//!
//! When to ask is the caller's business. What the client keeps to by itself is the rest that a provider asks for (`rest`).

mod call;
mod error;
mod place;
mod pulls;
mod rest;
mod tell;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use reqwest::Client;
use zeroize::Zeroizing;

use self::rest::Rests;
pub use self::{
    error::ForgeError,
    place::Place,
    pulls::{Listed, Listing},
};
use crate::{
    domain::clock::Clock,
    outbound::{self, Deadlines, guard::Reach},
};

/// How long a request may take.
const DEADLINES: Deadlines = Deadlines { connect: Duration::from_secs(5), request: Duration::from_secs(30) };

/// What a provider is asked with. No `Debug` that shows it, and it is not written anywhere.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token from what is stored as one: a line break at its end is none of it. None if it is nothing that a header can
    /// hold.
    pub fn new(stored: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(stored.trim_ascii()).ok()?;
        let fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fit.then(|| Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The client of all git providers. One serves the whole process: connections and rests are shared.
pub struct Forge {
    http: Client,
    clock: Arc<dyn Clock>,
    rests: Rests,
}

impl Forge {
    /// A client with the usual deadlines.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, ForgeError> {
        let http = outbound::client(DEADLINES, &[], Reach::Named).map_err(|why| ForgeError::Setup { why })?;
        Ok(Self { http, clock, rests: Rests::default() })
    }
}
