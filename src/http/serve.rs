//! Connections: a bounded number of them, none of which may take its time.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// How long answers in progress may still take after a shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// Pause after a connection could not be accepted: there may be too many open files.
const REST: Duration = Duration::from_millis(100);

/// Headers that a request may have, and the memory that they may take.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What a caller may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in line.
    pub connections: usize,
    /// From the beginning of a request, or the end of the one before, to the end of its headers.
    pub headers: Duration,
    /// From the end of the headers to the end of the body, where one is read.
    pub body: Duration,
    /// A connection is not used for longer.
    pub lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            headers: Duration::from_secs(10),
            body: Duration::from_secs(10),
            lifetime: Duration::from_mins(5),
        }
    }
}

/// Who is at the other end of a connection: an extension of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves until `shutdown`, then lets answers in progress end, but not for ever.
///
/// # Errors
/// The listener is not usable.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Found out here, and not with the first caller.
    listener.local_addr()?;
    let room = Arc::new(Semaphore::new(limits.connections));
    let open = TaskTracker::new();
    loop {
        let next = async {
            // Never closed: there is always a permit one day.
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (permit, stream, Peer(peer)))
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((permit, stream, peer)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                open.spawn(async move {
                    converse(stream, peer, router, limits, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
    drop(listener);
    open.close();
    // Whoever is not done by then is cut off with the process.
    _ = tokio::time::timeout(DRAIN, open.wait()).await;
    Ok(())
}

/// Answers the requests of one connection.
async fn converse(stream: TcpStream, peer: Peer, router: Router, limits: Limits, shutdown: CancellationToken) {
    let named = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    // Answers are small and whole: waiting for more of them helps nobody.
    _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(named));
    let mut connection = pin!(connection);
    // What goes wrong with a connection is its caller's to know.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(limits.lifetime) => {}
    }
    connection.as_mut().graceful_shutdown();
    _ = tokio::time::timeout(DRAIN, connection).await;
}
