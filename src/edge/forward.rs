//! One request to one of several addresses, and its answer.
//!
//! What was not sent can be sent elsewhere. What was sent is sent again only if a connection that had been used before broke
//! before there was any answer, and the request is one that may be repeated and has no body: the server closed while the request
//! was on its way.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Instant};

use hyper::{Method, Request, Response, body::Incoming};
use tokio::time::timeout;

use super::{
    Edge,
    body::Upload,
    pool::{Lease, NoConnection},
    table::Route,
};

/// An answer that has begun, and the connection that it comes over.
pub type Answered = (Response<Incoming>, Lease);

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// No address took a connection: the request was not sent, and is given back.
    Unreachable(Box<Request<Upload>>),
    /// Too many requests are under way.
    Full,
    /// The connection broke, or what came is no answer.
    Broken(hyper::Error),
    /// It did not come in time.
    Late,
}

impl Edge {
    /// Sends a request to the address whose turn it is, or to the next one that takes it.
    pub(super) async fn forward(&self, route: &Route, mut request: Request<Upload>) -> Result<Answered, Trouble> {
        let addresses = route.addresses(Instant::now());
        let turn = if addresses.len() > 1 { route.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let mut full = false;
        let mut tried = vec![false; addresses.len()];
        // Those that have just refused somebody else come last.
        for also_shunned in [false, true] {
            for step in 0..addresses.len() {
                let at = turn.wrapping_add(step) % addresses.len();
                let address = addresses[at];
                if tried[at] || !also_shunned && addresses.len() > 1 && self.pool.shuns(address) {
                    continue;
                }
                tried[at] = true;
                match self.send(address, request).await {
                    Ok(answered) => return Ok(answered),
                    Err(NotSent::Back(back)) => request = *back,
                    Err(NotSent::Full(back)) => {
                        full = true;
                        request = *back;
                    }
                    Err(NotSent::Lost(trouble)) => return Err(trouble),
                }
            }
        }
        Err(if full { Trouble::Full } else { Trouble::Unreachable(Box::new(request)) })
    }

    /// Sends a request to one address: over a connection that is there, else over a new one.
    async fn send(&self, address: SocketAddr, mut request: Request<Upload>) -> Result<Answered, NotSent> {
        while let Some(lease) = self.pool.used(address) {
            let copy = copy(&request);
            match self.exchange(lease, request).await {
                Ok(answered) => return Ok(answered),
                Err(Lost::Unsent(back)) => request = *back,
                Err(Lost::Sent(error)) => match copy {
                    // One more try, over a connection that nobody has closed yet.
                    Some(copy) if ended_unanswered(&error) => {
                        request = copy;
                        break;
                    }
                    _ => return Err(NotSent::Lost(Trouble::Broken(error))),
                },
                Err(Lost::Late) => return Err(NotSent::Lost(Trouble::Late)),
            }
        }
        let lease = match self.pool.connect(address).await {
            Ok(lease) => lease,
            Err(NoConnection::Refused(error)) => {
                tracing::debug!(%address, %error, "no connection");
                self.metrics.upstream_failed("connect");
                return Err(NotSent::Back(Box::new(request)));
            }
            Err(NoConnection::Full) => {
                self.metrics.upstream_failed("full");
                return Err(NotSent::Full(Box::new(request)));
            }
        };
        match self.exchange(lease, request).await {
            Ok(answered) => Ok(answered),
            Err(Lost::Unsent(back)) => Err(NotSent::Back(back)),
            Err(Lost::Sent(error)) => Err(NotSent::Lost(Trouble::Broken(error))),
            Err(Lost::Late) => Err(NotSent::Lost(Trouble::Late)),
        }
    }

    /// One request over one connection.
    async fn exchange(&self, mut lease: Lease, request: Request<Upload>) -> Result<Answered, Lost> {
        let sending = lease.sender().try_send_request(request);
        match timeout(self.limits.answer, sending).await {
            Ok(Ok(answer)) => Ok((answer, lease)),
            Ok(Err(mut error)) => match error.take_message() {
                Some(back) => Err(Lost::Unsent(Box::new(back))),
                None => Err(Lost::Sent(error.into_error())),
            },
            Err(_) => Err(Lost::Late),
        }
    }
}

/// What became of a request at one address.
enum NotSent {
    Back(Box<Request<Upload>>),
    Full(Box<Request<Upload>>),
    Lost(Trouble),
}

/// What became of a request on one connection.
enum Lost {
    Unsent(Box<Request<Upload>>),
    Sent(hyper::Error),
    Late,
}

/// The connection was closed before any part of an answer came.
fn ended_unanswered(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|error| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
        })
    }
}

/// The same request once more, if it may be repeated.
fn copy(request: &Request<Upload>) -> Option<Request<Upload>> {
    let repeats = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !repeats || !matches!(request.body(), Upload::Nothing) {
        return None;
    }
    let mut copy = Request::new(Upload::Nothing);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
