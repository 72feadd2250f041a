//! Bodies go through as they come.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::lab::{Lab, STAGE, in_time};

/// A server that reads a head, and then does this.
async fn server<F>(serve: impl Fn(BufReader<TcpStream>) -> F + Send + 'static) -> std::net::SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            tokio::spawn(serve(stream));
        }
    });
    address
}

#[tokio::test]
async fn an_event_arrives_before_the_next_one_is_made() {
    let mut lab = Lab::new().await;
    let next = Arc::new(Semaphore::new(0));
    let made = next.clone();
    let address = server(move |mut stream| {
        let made = made.clone();
        async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            for number in 0..5 {
                made.acquire().await.unwrap().forget();
                let event = format!("data: {number}\n\n");
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    lab.lead_stage(&[address]);
    for caller in [lab.caller(), lab.caller_with(reqwest::ClientBuilder::http2_prior_knowledge)] {
        let answer = in_time("the head", caller.get(lab.url(STAGE, "/events")).send()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = answer.bytes_stream();
        for number in 0..5 {
            next.add_permits(1);
            let event = in_time("an event", events.next()).await.unwrap().unwrap();
            assert_eq!(event, format!("data: {number}\n\n").as_bytes());
        }
        // HTTP/2 may end with a frame that has nothing in it.
        let rest = in_time("the end", events.map(|one| one.unwrap().to_vec()).concat()).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// 192 MiB go through, and while nobody reads them only a little has been taken.
#[tokio::test]
async fn an_upload_is_taken_as_fast_as_it_is_read() {
    const ALL: usize = 192 << 20;
    let mut lab = Lab::new().await;
    let read = Arc::new(Semaphore::new(0));
    let may_read = read.clone();
    let address = server(move |mut stream| {
        let may_read = may_read.clone();
        async move {
            may_read.acquire().await.unwrap().forget();
            let mut taken = tokio::io::sink();
            let length = tokio::io::copy(&mut (&mut stream).take(ALL as u64), &mut taken).await.unwrap();
            let body = format!("{length}");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            // The caller ends first.
            _ = stream.read_u8().await;
        }
    })
    .await;
    lab.lead_stage(&[address]);
    let mut stream = TcpStream::connect(lab.address).await.unwrap();
    let head = format!("PUT /big HTTP/1.1\r\nHost: {STAGE}\r\nContent-Length: {ALL}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let block = vec![b'x'; 256 << 10];
    let mut sent = 0;
    // Once nothing is taken for a while, everything between here and there is full.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), stream.write(&block)).await {
        sent += written.unwrap();
        assert!(sent < ALL / 2, "somebody keeps what nobody reads");
    }
    read.add_permits(1);
    while sent < ALL {
        let rest = block.len().min(ALL - sent);
        sent += in_time("a block", stream.write(&block[..rest])).await.unwrap();
    }
    let mut answer = String::new();
    in_time("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{ALL}")), "{answer}");
}

/// A caller who goes away takes the request along: nobody works for nobody.
#[tokio::test]
async fn a_caller_who_leaves_ends_the_request() {
    let mut lab = Lab::new().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let address = server(move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await.unwrap();
            // Ends when the other side does.
            let left = stream.read_u8().await;
            tell.send(left.is_err()).unwrap();
        }
    })
    .await;
    lab.lead_stage(&[address]);
    let answer = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap();
    let mut body = answer.bytes_stream();
    assert_eq!(in_time("the beginning", body.next()).await.unwrap().unwrap(), "x");
    drop(body);
    assert_eq!(in_time("the end", told.recv()).await, Some(true));
}

/// An answer that breaks off is not taken for a whole one.
#[tokio::test]
async fn half_an_answer_is_no_answer() {
    let mut lab = Lab::new().await;
    let address = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    })
    .await;
    lab.lead_stage(&[address]);
    let answer = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap();
    assert!(answer.bytes().await.is_err());

    let silent = server(|stream| async move { drop(stream) }).await;
    lab.lead_stage(&[silent]);
    let answer = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(lab.metric("stagekeeper_edge_upstream_errors_total{reason=\"broken\"}"), 1);
}
