//! Against listeners of this very process.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Long enough for anything that happens at all.
const LONG: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// A server that sends the same bytes to whoever connects and has asked something.
async fn server(answer: impl Into<Vec<u8>>) -> Server {
    let answer = answer.into();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                while stream.read(&mut asked).await.is_ok_and(|n| n > 0) {
                    if stream.write_all(&answer).await.is_err() || answer.is_empty() {
                        break;
                    }
                }
            });
        }
    });
    Server { address, connections }
}

fn expected() -> Expect {
    "200-299".parse().unwrap()
}

/// Probes over HTTP and answers why the result is bad.
async fn bad(address: SocketAddr, path: &str, within: Duration) -> String {
    reason(http(address, path, &expected(), within).await)
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Verdict::Bad { reason } | Verdict::Unreached { reason } => reason,
        Verdict::Good => panic!("that is not good"),
    }
}

/// An address on which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_expected_code_is_good_whatever_the_body() {
    let server = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(http(server.address, "/healthz?full=1", &expected(), LONG).await, Verdict::Good);
}

#[tokio::test]
async fn another_code_is_told_with_what_the_body_says() {
    let body = "  no \x1bdatabase:\n\tdb.shop\0 is down\n";
    let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
    let server = server(format!("{head}{body}")).await;
    let said = bad(server.address, "/healthz", LONG).await;
    let url = format!("http://{}/healthz", server.address);
    assert_eq!(
        said,
        format!("GET {url} answered 503 Service Unavailable instead of 200-299: no database: db.shop is down")
    );
}

#[tokio::test]
async fn a_long_body_is_cut() {
    let server = server(format!("HTTP/1.1 500 Internal Server Error\r\n\r\n{}", "x".repeat(100_000))).await;
    let said = bad(server.address, "/", LONG).await;
    let body = said.rsplit(": ").next().unwrap();
    assert_eq!(body.chars().count(), EXCERPT_CHARS);
    assert!(body.ends_with('…'), "{body}");
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_hold_the_probe_up() {
    let server = server("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 100\r\n\r\nbegun").await;
    let said = bad(server.address, "/", Duration::from_millis(300)).await;
    assert!(said.ends_with("answered 500 Internal Server Error instead of 200-299: begun"), "{said}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let location = elsewhere.address;
    let server =
        server(format!("HTTP/1.1 302 Found\r\nlocation: http://{location}/\r\ncontent-length: 0\r\n\r\n")).await;
    let said = bad(server.address, "/", LONG).await;
    assert!(said.contains("answered 302 Found"), "{said}");
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn each_probe_is_a_connection_of_its_own() {
    let server = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for _ in 0..3 {
        assert!(http(server.address, "/", &expected(), LONG).await.is_good());
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn nobody_listening_is_a_refusal() {
    let address = nobody().await;
    assert_eq!(bad(address, "/", LONG).await, format!("GET http://{address}/: connection refused"));
    assert_eq!(reason(tcp(address, LONG).await), format!("TCP connection to {address}: connection refused"));
}

#[tokio::test]
async fn silence_ends_at_the_timeout() {
    // The system accepts for a listener that never does.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let said = bad(address, "/", Duration::from_millis(200)).await;
    assert_eq!(said, format!("GET http://{address}/: no answer within 200ms"));
}

#[tokio::test]
async fn hanging_up_and_nonsense_are_told_apart() {
    let hangs_up = server("").await;
    let said = bad(hangs_up.address, "/", LONG).await;
    assert!(said.contains("connection closed") || said.contains("connection reset"), "{said}");
    let nonsense = server("SSH-2.0-OpenSSH_9.2\r\n").await;
    let said = bad(nonsense.address, "/", LONG).await;
    assert!(said.contains("cannot be understood"), "{said}");
}

#[tokio::test]
async fn tcp_asks_for_a_connection_only() {
    let server = server("").await;
    assert!(tcp(server.address, LONG).await.is_good());
}
