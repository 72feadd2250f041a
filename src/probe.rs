//! Health probes: HTTP and TCP against an instance's own address.
//!
//! Each probe is a connection of its own, so it reaches the instance that its address names now and not one that an
//! earlier connection was left open to. Redirects are not followed and proxies not used: what is asked is that
//! address.

mod expect;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use reqwest::{Client, Response, redirect};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

pub use expect::{BadExpectation, Expect};

/// Longest excerpt of an answer's body, in characters.
const EXCERPT_CHARS: usize = 120;
/// Bytes of a body that are read for it.
const EXCERPT_BYTES: usize = 1024;

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Good,
    /// Not so.
    Bad {
        /// One sentence: what was asked of whom, and what happened instead.
        reason: String,
    },
    /// Nobody took the connection: whether anything is wrong behind the address cannot be told.
    Unreached {
        /// One sentence: what was asked of whom, and why it did not get there.
        reason: String,
    },
}

impl Verdict {
    /// As expected.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good)
    }

    fn bad(reason: String) -> Self {
        Self::Bad { reason }
    }
}

/// One client for all probes, which keeps no connection.
static CLIENT: LazyLock<Result<Client, String>> = LazyLock::new(|| {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .http1_only()
        .referer(false)
        // Probes are plain HTTP: no certificates are needed, and an image without any will do.
        .tls_certs_only([])
        .user_agent(concat!("stagekeeper-probe/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|err| format!("this process cannot make HTTP requests: {}", said(&err)))
});

/// Asks for `path`, which begins with a slash, and looks at the status code of the answer. Takes no longer than
/// `within`.
pub async fn http(address: SocketAddr, path: &str, expect: &Expect, within: Duration) -> Verdict {
    let by = Instant::now() + within;
    let client = match &*CLIENT {
        Ok(client) => client,
        Err(reason) => return Verdict::bad(reason.clone()),
    };
    let url = format!("http://{address}{path}");
    match timeout_at(by, client.get(&url).send()).await {
        Ok(Ok(answer)) if expect.contains(answer.status().as_u16()) => Verdict::Good,
        Ok(Ok(answer)) => {
            let status = answer.status();
            let body = excerpt(answer, by).await;
            let body = if body.is_empty() { String::new() } else { format!(": {body}") };
            Verdict::bad(format!("GET {url} answered {status} instead of {expect}{body}"))
        }
        Ok(Err(err)) if err.is_connect() => Verdict::Unreached { reason: format!("GET {url}: {}", said(&err)) },
        Ok(Err(err)) => Verdict::bad(format!("GET {url}: {}", said(&err))),
        Err(_) => Verdict::bad(format!("GET {url}: no answer within {within:?}")),
    }
}

/// Opens a connection and closes it. Takes no longer than `within`.
pub async fn tcp(address: SocketAddr, within: Duration) -> Verdict {
    match timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Verdict::Good,
        Ok(Err(err)) => Verdict::Unreached { reason: format!("TCP connection to {address}: {}", said(&err)) },
        Err(_) => Verdict::bad(format!("TCP connection to {address}: not accepted within {within:?}")),
    }
}

/// The innermost cause in words that people use.
fn said(err: &(dyn Error + 'static)) -> String {
    let mut cause: &(dyn Error + 'static) = err;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && let Some(words) = words(io.kind())
        {
            return words.to_owned();
        }
        match cause.source() {
            Some(source) => cause = source,
            None => break,
        }
    }
    if err.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_request) {
        return format!("the answer cannot be understood ({cause})");
    }
    cause.to_string()
}

fn words(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some("connection reset"),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => Some("connection closed without an answer"),
        io::ErrorKind::HostUnreachable => Some("host unreachable"),
        io::ErrorKind::NetworkUnreachable => Some("network unreachable"),
        _ => None,
    }
}

/// The beginning of a body, in one line of printable characters.
async fn excerpt(mut answer: Response, by: Instant) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < EXCERPT_BYTES {
        // A body that does not come says as much as one that is empty.
        let Ok(Ok(Some(chunk))) = timeout_at(by, answer.chunk()).await else {
            break;
        };
        bytes.extend_from_slice(&chunk[..chunk.len().min(EXCERPT_BYTES)]);
    }
    printable(&String::from_utf8_lossy(&bytes))
}

fn printable(text: &str) -> String {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.chars().filter(|c| !c.is_control() && *c != '\u{fffd}').collect::<String>())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        None => line,
        Some(_) => line.chars().take(EXCERPT_CHARS - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
