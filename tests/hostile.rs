//! The registry client against registries that send without an end: its memory has one. A program of its own, because the
//! memory of the whole process is looked at.
#![expect(clippy::unwrap_used, reason = "a test stops at what it cannot reach")]

use std::sync::Arc;

use stagekeeper::domain::clock::SystemClock;
use stagekeeper::domain::image::{Digest, Repository};
use stagekeeper::registry::{Access, Credential, Registry, RegistryError, RegistryOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// How much the memory of this process may grow, in KiB.
const MOST: u64 = 64 << 10;
/// Who asks at the same time.
const AT_ONCE: usize = 16;

/// Whoever answers every request with this head, and then with what a function makes of a number that grows, for ever.
async fn endless(head: &'static str, piece: fn(usize) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await;
                let _head = stream.write_all(head.as_bytes()).await;
                for number in 0.. {
                    let piece = piece(number);
                    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address.to_string()
}

/// Resident memory of this process, in KiB: now, or the most there ever was.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

const LISTING: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{\"tags\":[ \r\n";
const INDEX: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nTransfer-Encoding: \
     chunked\r\n\r\ne\r\n{\"manifests\":[\r\n";

fn tags(from: usize) -> String {
    (0..2000).map(|at| ["\"", &(from * 2000 + at).to_string(), "\","].concat()).collect()
}

fn entries(_: usize) -> String {
    r#"{"digest":""},"#.repeat(2000)
}

fn blanks(_: usize) -> String {
    " ".repeat(64 << 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_an_end_take_a_bounded_memory() {
    let registry = Arc::new(Registry::new(RegistryOptions::default(), Arc::new(SystemClock)).unwrap());
    let hosts = [
        endless(LISTING, tags).await,
        endless(LISTING, blanks).await,
        endless(INDEX, entries).await,
        endless(INDEX, blanks).await,
    ];
    let before = memory("VmRSS");
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..AT_ONCE * 4 {
        let host = number % hosts.len();
        let repository: Repository = format!("{}/shop/web{number}", hosts[host]).parse().unwrap();
        let registry = registry.clone();
        asked.spawn(async move {
            let access = Access { credential: Credential::Anonymous, insecure: true };
            if host < 2 {
                registry.list_tags(&repository, &access, None).await.map(|_| ())
            } else {
                registry.built(&repository, Digest::of(b"x"), None, &access).await.map(|_| ())
            }
        });
        // As many workers as ask registries at once.
        if asked.len() >= AT_ONCE {
            refused(asked.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(result) = asked.join_next().await {
        refused(result.unwrap());
    }
    let grown = memory("VmHWM").saturating_sub(before);
    assert!(grown <= MOST, "memory grew by {grown} KiB");
}

#[track_caller]
fn refused(result: Result<(), RegistryError>) {
    let error = result.unwrap_err();
    // Those who wait for another large answer to be read may run out of time.
    assert!(matches!(error.reason(), "RegistryAnswerTooLarge" | "RegistryUnreachable"), "{error}");
}
