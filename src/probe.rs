//! Health probes: HTTP and TCP against an instance's own address.
//!
//! Each probe is a connection of its own, so it reaches the instance that its address names now and not one that an
//! earlier connection was left open to. Redirects are not followed and proxies not used: what is asked is that
//! address.

mod expect;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Response, redirect};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

pub use expect::{BadExpectation, StatusCodes};

/// Longest excerpt of an answer's body, in characters.
const EXCERPT_CHARS: usize = 120;
/// Bytes of a body that are read for it.
const EXCERPT_BYTES: usize = 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A GET request must answer with one of these status codes.
    Http {
        /// Path and query, beginning with a slash.
        path: String,
        /// The codes of a healthy answer.
        expect: StatusCodes,
    },
    /// A connection must be accepted.
    Tcp,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Good,
    /// Not so. One sentence: what was asked of whom, and what happened instead.
    Bad(String),
}

impl Verdict {
    /// As expected.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good)
    }
}

/// Makes probes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    http: reqwest::Client,
}

impl Prober {
    /// A prober.
    ///
    /// # Errors
    /// When no HTTP client can be made, which depends on this machine only.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .http1_only()
            .referer(false)
            // Probes are plain HTTP: no certificates are needed, and an image without any will do.
            .tls_certs_only([])
            .user_agent(concat!("stagekeeper-probe/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    /// Makes one probe. Takes no longer than `within`.
    pub async fn probe(&self, address: SocketAddr, check: &Check, within: Duration) -> Verdict {
        let by = Instant::now() + within;
        match check {
            Check::Tcp => match timeout_at(by, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Verdict::Good,
                Ok(Err(err)) => {
                    Verdict::Bad(format!("TCP connection to {address}: {}", said(&err)))
                }
                Err(_) => Verdict::Bad(format!(
                    "TCP connection to {address}: not accepted within {within:?}"
                )),
            },
            Check::Http { path, expect } => {
                let url = format!("http://{address}{path}");
                match timeout_at(by, self.http.get(&url).send()).await {
                    Ok(Ok(answer)) if expect.contains(answer.status().as_u16()) => Verdict::Good,
                    Ok(Ok(answer)) => {
                        let status = answer.status();
                        let body = excerpt(answer, by).await;
                        let body = if body.is_empty() {
                            String::new()
                        } else {
                            format!(": {body}")
                        };
                        Verdict::Bad(format!(
                            "GET {url} answered {status} instead of {expect}{body}"
                        ))
                    }
                    Ok(Err(err)) => Verdict::Bad(format!("GET {url}: {}", said(&err))),
                    Err(_) => Verdict::Bad(format!("GET {url}: no answer within {within:?}")),
                }
            }
        }
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
    if err
        .downcast_ref::<reqwest::Error>()
        .is_some_and(reqwest::Error::is_request)
    {
        return format!("the answer cannot be understood ({cause})");
    }
    cause.to_string()
}

fn words(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some("connection reset"),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
            Some("connection closed without an answer")
        }
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
        .map(|word| {
            word.chars()
                .filter(|c| !c.is_control() && *c != '\u{fffd}')
                .collect::<String>()
        })
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        None => line,
        Some(_) => line.chars().take(EXCERPT_CHARS - 1).chain(['…']).collect(),
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { path, expect } => write!(f, "GET {path} answers {expect}"),
            Self::Tcp => f.write_str("a TCP connection is accepted"),
        }
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
