//! Connections to upstreams: a bounded number for each address, used again while they are fresh.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{body::Upload, limits::Limits};

/// An address that did not take a connection is asked last for this long.
const SHUNNED: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug)]
pub enum NoConnection {
    /// It was refused, or not made in time.
    Refused(io::Error),
    /// There are as many as there may be.
    Full,
}

/// All connections.
#[derive(Debug)]
pub struct Pool {
    limits: Limits,
    began: Instant,
    upstreams: Mutex<HashMap<SocketAddr, Arc<Upstream>>>,
}

/// Connections to one address.
struct Upstream {
    address: SocketAddr,
    idle: Mutex<Vec<Idle>>,
    kept: usize,
    room: Arc<Semaphore>,
    /// When it last refused one, in milliseconds since the pool was made; 0: never.
    refused: AtomicU64,
}

struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// A connection in use: dropped, it is closed.
pub struct Lease {
    sender: SendRequest<Upload>,
    upstream: Arc<Upstream>,
    /// Whether it was used before.
    pub used: bool,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("upstream", &self.upstream).field("used", &self.used).finish_non_exhaustive()
    }
}

impl Lease {
    /// Sends requests.
    pub fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.sender
    }

    /// For the next one. One that is closed, or one too many, is dropped.
    pub fn give_back(self) {
        let Self { sender, upstream, .. } = self;
        if sender.is_closed() {
            return;
        }
        let mut idle = upstream.idle();
        if idle.len() < upstream.kept {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Upstream {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, of those that are ready: the others may rest until they are closed.
    fn take(&self, fresh: Duration) -> Option<SendRequest<Upload>> {
        let mut idle = self.idle();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            if idle[at].sender.is_closed() || idle[at].since.elapsed() >= fresh {
                idle.remove(at);
            } else if idle[at].sender.is_ready() {
                return Some(idle.remove(at).sender);
            }
        }
        None
    }
}

impl Pool {
    /// With no connection yet.
    pub fn new(limits: Limits) -> Self {
        // So that no moment is 0.
        let began = Instant::now().checked_sub(Duration::from_millis(1)).unwrap_or_else(Instant::now);
        Self { limits, began, upstreams: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Upstream>>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upstream(&self, address: SocketAddr) -> Arc<Upstream> {
        let mut upstreams = self.lock();
        let made = upstreams.entry(address).or_insert_with(|| {
            Arc::new(Upstream {
                address,
                idle: Mutex::default(),
                kept: self.limits.idle_each,
                room: Arc::new(Semaphore::new(self.limits.upstream_each)),
                refused: AtomicU64::new(0),
            })
        });
        made.clone()
    }

    /// A connection that was used before, if there is one.
    pub fn used(&self, address: SocketAddr) -> Option<Lease> {
        let upstream = self.lock().get(&address)?.clone();
        let sender = upstream.take(self.limits.upstream_idle)?;
        Some(Lease { sender, upstream, used: true })
    }

    /// A new connection.
    ///
    /// # Errors
    /// There is none to be had; nothing was sent.
    pub async fn connect(&self, address: SocketAddr) -> Result<Lease, NoConnection> {
        let upstream = self.upstream(address);
        let Ok(permit) = upstream.room.clone().try_acquire_owned() else { return Err(NoConnection::Full) };
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            // What is passed on is passed on at once.
            stream.set_nodelay(true)?;
            let made = http1::Builder::new().max_buf_size(self.limits.buffer).handshake(TokioIo::new(stream)).await;
            made.map_err(io::Error::other)
        };
        let made = match timeout(self.limits.connect, connecting).await {
            Ok(made) => made,
            Err(late) => Err(late.into()),
        };
        let (sender, connection) = made.map_err(|error| {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            upstream.refused.store(now, Ordering::Relaxed);
            NoConnection::Refused(error)
        })?;
        upstream.refused.store(0, Ordering::Relaxed);
        tokio::spawn(async move {
            // What goes wrong with it is told to the request that it carries.
            _ = connection.with_upgrades().await;
            drop(permit);
        });
        Ok(Lease { sender, upstream, used: false })
    }

    /// Whether an address has just refused a connection.
    pub fn shuns(&self, address: SocketAddr) -> bool {
        let Some(upstream) = self.lock().get(&address).cloned() else { return false };
        let at = upstream.refused.load(Ordering::Relaxed);
        at != 0 && self.began.elapsed() < Duration::from_millis(at) + SHUNNED
    }

    /// Closes connections that nobody used for a while, and forgets addresses without any.
    pub fn sweep(&self) {
        let fresh = self.limits.upstream_idle;
        self.lock().retain(|_, upstream| {
            let mut idle = upstream.idle();
            idle.retain(|one| !one.sender.is_closed() && one.since.elapsed() < fresh);
            !idle.is_empty()
                || upstream.room.available_permits() < self.limits.upstream_each
                || upstream.refused.load(Ordering::Relaxed) != 0 && {
                    let at = Duration::from_millis(upstream.refused.load(Ordering::Relaxed));
                    self.began.elapsed() < at + SHUNNED
                }
        });
    }
}
