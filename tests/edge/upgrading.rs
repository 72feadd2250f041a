//! `WebSocket`s, and whatever else HTTP/1.1 may be changed into.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::lab::{Lab, PREVIEW, STAGE, Upstream, in_time};

/// A server that changes the protocol to one that gives back each line in capitals; tells the head that it got.
async fn shouting() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let head = head(&mut stream).await;
                tell.send(head).unwrap();
                // The first bytes of the new protocol come with the answer.
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                              Sec-WebSocket-Accept: yes\r\n\r\nhello\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    stream.write_all(line.to_uppercase().as_bytes()).await.unwrap();
                    line.clear();
                }
            });
        }
    });
    (address, told)
}

async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(in_time("a head", stream.read_line(&mut head)).await.unwrap() > 0, "{head}");
    }
    head
}

async fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    in_time("a line", stream.read_line(&mut line)).await.unwrap();
    line
}

#[tokio::test]
async fn bytes_go_both_ways_after_an_upgrade() {
    let mut lab = Lab::new().await;
    let (address, mut told) = shouting().await;
    lab.lead_preview(&[address]);
    let mut stream = BufReader::new(TcpStream::connect(lab.address).await.unwrap());
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {PREVIEW}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nearly\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answered = head(&mut stream).await.to_lowercase();
    assert!(answered.starts_with("http/1.1 101 "), "{answered}");
    for header in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: yes", "x-robots-tag: noindex"] {
        assert!(answered.contains(header), "{header} in {answered}");
    }
    assert_eq!(line(&mut stream).await, "hello\n");
    assert_eq!(line(&mut stream).await, "EARLY\n");
    for number in 0..100 {
        stream.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
        assert_eq!(line(&mut stream).await, format!("LINE {number}\n"));
    }
    let asked = told.recv().await.unwrap().to_lowercase();
    for header in
        ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: ", "x-stagekeeper-environment: pr-42"]
    {
        assert!(asked.contains(header), "{header} in {asked}");
    }
    // One side ends, and so does the other.
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    in_time("the end", stream.read_to_string(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_upgraded_is_answered() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let ask = |upgrade: &str| {
        format!("GET / HTTP/1.1\r\nHost: {STAGE}\r\nConnection: Upgrade, close\r\nUpgrade: {upgrade}\r\n\r\n")
    };
    let answer = lab.raw(ask("websocket").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("upgrade: websocket"), "{answer}");
    let answer = lab.raw(ask("h2c").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("h2c"), "{answer}");
}

#[tokio::test]
async fn a_change_that_nobody_asked_for_is_an_error() {
    let mut lab = Lab::new().await;
    let (address, _told) = shouting().await;
    lab.lead_stage(&[address]);
    let answer = lab.raw(format!("GET / HTTP/1.1\r\nHost: {STAGE}\r\nConnection: close\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}
