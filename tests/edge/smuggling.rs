//! One request in, one request out: whatever a caller says about where a request ends, an upstream sees the same.

use super::lab::{Lab, STAGE, Upstream};

/// What follows the odd request, and must never be taken for one by itself where the edge saw a body.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.test\r\n\r\n";

#[tokio::test]
async fn no_second_request_is_hidden_in_the_first() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let hidden = HIDDEN.len();
    let cases: &[(&str, String)] = &[
        (
            "both lengths, chunks end first",
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", hidden + 5),
        ),
        (
            "both lengths, the other way round",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{HIDDEN}", hidden + 5),
        ),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {hidden}\r\n\r\n{HIDDEN}")),
        ("a length with a sign", format!("Content-Length: +{hidden}\r\n\r\n{HIDDEN}")),
        ("a list of lengths", format!("Content-Length: 0, {hidden}\r\n\r\n{HIDDEN}")),
        ("a coding after chunked", format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("a coding before chunked", format!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("chunked twice", format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("nearly chunked", format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("chunked with a tab", format!("Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}")),
        (
            "a space before the colon",
            format!("Transfer-Encoding : chunked\r\nContent-Length: {hidden}\r\n\r\n{HIDDEN}"),
        ),
        ("a folded header", format!("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: {hidden}\r\n\r\n{HIDDEN}")),
        (
            "a bare line break in a header",
            format!("X: y\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}"),
        ),
        ("a chunk size with a sign", format!("Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{HIDDEN}")),
        ("a chunk size that overflows", format!("Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{HIDDEN}")),
        (
            "a length that the hop is to forget",
            format!("Connection: close, content-length\r\nContent-Length: {hidden}\r\n\r\n{HIDDEN}"),
        ),
        (
            "an upgrade to another HTTP",
            format!(
                "Connection: upgrade, http2-settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {hidden}\r\n\r\n{HIDDEN}"
            ),
        ),
    ];
    for (name, request) in cases {
        let before = upstream.asked();
        // The last request closes, so that the edge does.
        let end = "GET /end HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
        let answer = lab.raw(format!("POST /odd HTTP/1.1\r\nHost: shop.test\r\n{request}{end}").as_bytes()).await;
        let bodies: Vec<&str> = answer.lines().filter(|line| line.starts_with("a ")).collect();
        let told = upstream.asked() - before;
        assert_eq!(told, bodies.len(), "{name}: what was passed on was answered: {answer}");
        assert!(!bodies.iter().any(|line| line.contains("/hidden")), "{name}: {answer}");
        let refused = answer.contains("HTTP/1.1 400 ") || answer.contains("HTTP/1.1 501 ") || answer.is_empty();
        let taken_as_body = bodies.first().is_some_and(|line| **line == format!("a POST /odd {hidden}"));
        // RFC 9112, 6.1: the coding counts, and nothing else is read from that connection.
        let last = bodies.len() == 1 && answer.contains("connection: close") && !answer.contains("/end");
        assert!(refused || taken_as_body || last, "{name}: {answer}");
    }
    // All is well afterwards.
    let text = lab.caller().get(lab.url(STAGE, "/fine")).send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("a GET /fine 0\n"), "{text}");
}

#[tokio::test]
async fn several_requests_at_once_are_answered_in_turn() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let requests = "GET /1 HTTP/1.1\r\nHost: shop.test\r\n\r\nPOST /2 HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
    let answer = lab.raw(requests.as_bytes()).await;
    let bodies: Vec<&str> = answer.lines().filter(|line| line.starts_with("a ")).collect();
    assert_eq!(bodies, ["a GET /1 0", "a POST /2 3", "a GET /3 0"], "{answer}");
}
