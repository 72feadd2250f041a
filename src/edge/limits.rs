//! How much, and how long.

use std::time::Duration;

/// What one process takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of callers at once; more wait in line.
    pub connections: usize,
    /// From the beginning of a request, or the end of the one before, to the end of its headers.
    pub head: Duration,
    /// Until a connection on which nothing is under way is closed.
    pub rest: Duration,
    /// Until a connection is closed on which something is under way and nothing moves: a download that nobody reads, an open
    /// WebSocket on which nobody speaks.
    pub silence: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Until an upstream has taken a connection.
    pub connect: Duration,
    /// Until an upstream has begun to answer.
    pub answer: Duration,
    /// Connections to one address.
    pub upstream_each: usize,
    /// Of those, how many are kept while they are not used.
    pub idle_each: usize,
    /// How long they are. Shorter than most servers keep them: one that closes while a request is on its way loses it.
    pub upstream_idle: Duration,
    /// What is read at once of a head or a body.
    pub buffer: usize,
    /// Requests that wait for an environment to wake.
    pub waiting: usize,
    /// How long requests that are under way may take after the process was asked to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(30),
            rest: Duration::from_secs(75),
            silence: Duration::from_mins(10),
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(2),
            answer: Duration::from_mins(5),
            upstream_each: 1024,
            idle_each: 256,
            upstream_idle: Duration::from_secs(4),
            buffer: 64 << 10,
            waiting: 4096,
            drain: Duration::from_secs(25),
        }
    }
}
