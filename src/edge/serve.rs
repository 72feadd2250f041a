//! Connections of callers: a bounded number of them, over plain HTTP or TLS, in HTTP/1.1 or HTTP/2.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderValue;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Edge, limits::Limits};

/// Pause after a connection could not be accepted: there may be too many open files.
const BREATH: Duration = Duration::from_millis(100);
/// How much of a body HTTP/2 callers may send ahead, for one request and for all of a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Requests at once on one connection.
const STREAMS: u32 = 200;
/// How often a quiet HTTP/2 connection is asked whether it lives.
const PING: Duration = Duration::from_secs(20);

/// A port that requests come in by.
pub struct Door {
    /// What it listens on.
    pub listener: TcpListener,
    /// TLS, if it is spoken there.
    pub tls: Option<Arc<ServerConfig>>,
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub struct Caller {
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// The same, as the value of a header.
    pub peer_text: HeaderValue,
    /// Whether it is over TLS.
    pub secure: bool,
    /// Something has moved since it was last looked at.
    moved: AtomicBool,
    /// Requests that are under way.
    open: AtomicUsize,
}

impl Caller {
    fn new(peer: SocketAddr, secure: bool) -> Arc<Self> {
        // A caller over IPv4 looks like one to upstreams, however the port is listened on.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let peer_text = HeaderValue::try_from(peer.ip().to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Arc::new(Self { peer, peer_text, secure, moved: AtomicBool::new(true), open: AtomicUsize::new(0) })
    }

    /// Whether something has moved since this was last asked.
    pub fn has_moved(&self) -> bool {
        self.moved.swap(false, Ordering::Relaxed)
    }
}

/// A request that is under way; counts until it is dropped.
#[derive(Debug)]
pub struct Open(Arc<Caller>);

impl Open {
    /// One more.
    pub fn count(caller: &Arc<Caller>) -> Self {
        caller.open.fetch_add(1, Ordering::Relaxed);
        Self(caller.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until `shutdown`, then lets what is under way end, but not for ever.
///
/// # Errors
/// A listener is not usable.
pub async fn serve(edge: Arc<Edge>, doors: Vec<Door>, shutdown: CancellationToken) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(edge.limits.connections));
    let open = TaskTracker::new();
    let mut listening = tokio::task::JoinSet::new();
    for door in doors {
        // Found out here, and not with the first caller.
        door.listener.local_addr()?;
        listening.spawn(accept(edge.clone(), door, room.clone(), open.clone(), shutdown.clone()));
    }
    while let Some(ended) = listening.join_next().await {
        ended.map_err(io::Error::other)?;
    }
    open.close();
    edge.tunnels.close();
    let drained = async {
        open.wait().await;
        edge.tunnels.wait().await;
    };
    if timeout(edge.limits.drain, drained).await.is_err() {
        tracing::warn!(connections = open.len(), tunnels = edge.tunnels.len(), "cut off: they did not end in time");
    }
    Ok(())
}

/// Takes connections at one door until `shutdown`.
async fn accept(edge: Arc<Edge>, door: Door, room: Arc<Semaphore>, open: TaskTracker, shutdown: CancellationToken) {
    let tls = door.tls.map(TlsAcceptor::from);
    let builder = Arc::new(builder(&edge.limits));
    loop {
        let next = async {
            // Never closed: there is always a permit one day.
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            door.listener.accept().await.map(|(stream, peer)| (permit, stream, peer))
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = next => accepted,
        };
        let (permit, stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (edge, tls, builder, shutdown) = (edge.clone(), tls.clone(), builder.clone(), shutdown.clone());
        open.spawn(async move {
            edge.metrics.connected(1);
            welcome(&edge, stream, peer, tls, &builder, shutdown).await;
            edge.metrics.connected(-1);
            drop(permit);
        });
    }
}

/// The way in which HTTP is spoken with callers.
fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head.max(limits.rest))
        .max_buf_size(limits.buffer)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.buffer).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

async fn welcome(
    edge: &Arc<Edge>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    builder: &Builder<TokioExecutor>,
    shutdown: CancellationToken,
) {
    // What is passed on is passed on at once.
    _ = stream.set_nodelay(true);
    let caller = Caller::new(peer, tls.is_some());
    match tls {
        None => converse(edge, stream, caller, builder, shutdown).await,
        Some(tls) => match timeout(edge.limits.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => converse(edge, stream, caller, builder, shutdown).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => tracing::debug!(%peer, "no TLS in time"),
        },
    }
}

/// Answers the requests of one connection.
async fn converse<S>(
    edge: &Arc<Edge>,
    stream: S,
    caller: Arc<Caller>,
    builder: &Builder<TokioExecutor>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (edge, caller) = (edge.clone(), caller.clone());
        async move { Ok::<_, Infallible>(edge.answer(request, caller).await) }
    });
    let stream = Watched { stream, caller: caller.clone() };
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let look = edge.limits.rest.min(edge.limits.silence) / 5;
    let mut quiet = Duration::ZERO;
    let mut stopping = false;
    loop {
        tokio::select! {
            // What goes wrong with a connection is its caller's to know.
            _ = connection.as_mut() => return,
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(look) => {
                quiet = if caller.has_moved() { Duration::ZERO } else { quiet + look };
                let idle = caller.open.load(Ordering::Relaxed) == 0;
                if quiet >= edge.limits.silence || idle && quiet >= edge.limits.rest {
                    return;
                }
            }
        }
    }
}

/// A stream that tells whether anything moves on it.
struct Watched<S> {
    stream: S,
    caller: Arc<Caller>,
}

impl<S> Watched<S> {
    fn moved(&self) {
        if !self.caller.moved.load(Ordering::Relaxed) {
            self.caller.moved.store(true, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.moved();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(1..)) = polled {
            self.moved();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(1..)) = polled {
            self.moved();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
