//! Stopping in order.

use std::time::Duration;

use stagekeeper::edge::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::lab::{Lab, STAGE, Upstream, in_time, until};

#[tokio::test]
async fn what_is_under_way_is_answered_and_nothing_new_is_taken() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let mut held = Vec::new();
    for caller in [lab.caller(), lab.caller_with(reqwest::ClientBuilder::http2_prior_knowledge)] {
        held.push(tokio::spawn(caller.get(lab.url(STAGE, "/held")).send()));
    }
    // One that rests: it is closed, and nobody waits for it.
    let mut resting = TcpStream::connect(lab.address).await.unwrap();
    resting.write_all(format!("GET / HTTP/1.1\r\nHost: {STAGE}\r\n\r\n").as_bytes()).await.unwrap();
    let mut some = [0; 4096];
    assert!(in_time("an answer", resting.read(&mut some)).await.unwrap() > 0);
    until("all are under way", || upstream.asked() == 3).await;

    lab.shutdown.cancel();
    let mut rest = Vec::new();
    in_time("what rests is closed", resting.read_to_end(&mut rest)).await.unwrap();
    let refused = async {
        while TcpStream::connect(lab.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("nobody new is let in", refused).await;
    assert!(!lab.serving.is_finished());
    upstream.release.add_permits(2);
    for one in held {
        assert_eq!(in_time("the held answer", one).await.unwrap().unwrap().status(), 200);
    }
    in_time("the end", lab.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_does_not_end_is_cut_off() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let mut lab = Lab::with(|setup| setup.limits = limits).await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let _held = tokio::spawn(lab.caller().get(lab.url(STAGE, "/held")).send());
    until("it is under way", || upstream.asked() == 1).await;
    lab.shutdown.cancel();
    in_time("the end", lab.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed() {
    let short = Duration::from_millis(300);
    let limits = Limits { rest: short, head: short, ..Limits::default() };
    let lab = Lab::with(|setup| setup.limits = limits).await;
    for begin in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: shop.test\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(lab.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        _ = in_time("it is closed", stream.read_to_end(&mut rest)).await;
    }
}
