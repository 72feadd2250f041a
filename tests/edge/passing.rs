//! What upstreams are told, and what callers get.

use std::sync::atomic::Ordering;

use super::lab::{Lab, PREVIEW, STAGE, Upstream};

#[tokio::test]
async fn an_upstream_is_told_who_asks_and_believes_nobody_else() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    let answer = lab
        .caller()
        .post(lab.url(PREVIEW, "/cart?item=1"))
        .header("x-forwarded-for", "10.9.9.9")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=10.9.9.9")
        .header("x-stagekeeper-environment", "other")
        .header("x-stagekeeper-pull-request", "7")
        .header("x-mine", "1")
        .header("connection", "x-for-the-hop")
        .header("x-for-the-hop", "1")
        .body("hello")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let headers = answer.headers().clone();
    assert_eq!(headers["x-robots-tag"], "noindex");
    assert_eq!(headers["x-upstream"], "a");
    for gone in ["connection", "keep-alive", "x-of-this-hop"] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:?}");
    }
    let text = answer.text().await.unwrap();
    let port = lab.address.port();
    let host = format!("{PREVIEW}:{port}");
    let expected = [
        "a POST /cart?item=1 5".to_owned(),
        format!("host: {host}"),
        "content-length: 5".into(),
        "x-mine: 1".into(),
        "x-forwarded-for: 127.0.0.1".into(),
        "x-forwarded-proto: http".into(),
        format!("x-forwarded-host: {host}"),
        format!("x-forwarded-port: {port}"),
        format!("forwarded: for=127.0.0.1;host=\"{host}\";proto=http"),
        "x-stagekeeper-environment: pr-42".into(),
        "x-stagekeeper-project: shop".into(),
        "x-stagekeeper-pull-request: 42".into(),
    ];
    for line in &expected {
        assert_eq!(text.lines().filter(|one| one == line).count(), 1, "{line} in\n{text}");
    }
    for word in ["10.9.9.9", "other", "x-for-the-hop"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
}

#[tokio::test]
async fn a_stage_is_no_preview() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let answer = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap();
    assert!(!answer.headers().contains_key("x-robots-tag"));
    let text = answer.text().await.unwrap();
    assert!(text.contains("x-stagekeeper-project: shop") && !text.contains("x-stagekeeper-environment"), "{text}");
    lab.edge.write_visits().await;
    assert!(lab.told.touches.lock().unwrap().is_empty(), "nobody counts visits of stages");
}

#[tokio::test]
async fn hosts_are_found_however_they_are_written() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_stage(&[upstream.address]);
    let cases = [
        ("GET / HTTP/1.1\r\nHost: shop.test\r\n", "200"),
        ("GET / HTTP/1.1\r\nHost: SHOP.Test.:8000\r\n", "200"),
        ("GET http://shop.test/x HTTP/1.1\r\nHost: shop.test\r\n", "200"),
        ("GET http://shop.test/x HTTP/1.1\r\nHost: other.test\r\n", "400"),
        ("GET http://other.test/x HTTP/1.1\r\nHost: shop.test\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: other.test\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", "404"),
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: shop.test\r\nHost: shop.test\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: shop.test, other.test\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: user@shop.test\r\n", "400"),
        ("CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n", "405"),
        ("OPTIONS * HTTP/1.1\r\nHost: shop.test\r\n", "200"),
    ];
    for (request, code) in cases {
        let answer = lab.raw(format!("{request}Connection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {answer}");
    }
    let absolute = lab.raw(b"GET http://shop.test/x?y HTTP/1.1\r\nHost: SHOP.test\r\nConnection: close\r\n\r\n").await;
    assert!(absolute.contains("a GET /x?y 0") && absolute.contains("host: shop.test"), "{absolute}");
    let old = lab.raw(b"GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 ") || old.starts_with("HTTP/1.1 200 "), "{old}");
}

#[tokio::test]
async fn http_2_is_spoken_with_who_likes_it() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    let caller = lab.caller_with(reqwest::ClientBuilder::http2_prior_knowledge);
    let many = (0..200).map(|number| {
        let request = caller.post(lab.url(PREVIEW, &format!("/{number}"))).body(vec![b'x'; number]);
        async move { request.send().await.unwrap() }
    });
    for (number, answer) in futures::future::join_all(many).await.into_iter().enumerate() {
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(&format!("a POST /{number} {number}\n")), "{text}");
        assert!(text.contains(&format!("host: {PREVIEW}:")), "{text}");
    }
    assert_eq!(lab.metric("stagekeeper_edge_requests_total{target=\"environment\",code=\"2xx\"}"), 200);
}

#[tokio::test]
async fn connections_to_upstreams_are_used_again_and_a_closed_one_costs_nobody_a_request() {
    let mut lab = Lab::new().await;
    let (first, second) = (Upstream::new("a").await, Upstream::new("b").await);
    lab.lead_stage(&[first.address]);
    let caller = lab.caller();
    for _ in 0..20 {
        assert_eq!(caller.get(lab.url(STAGE, "/")).send().await.unwrap().status(), 200);
    }
    assert_eq!(first.asked.load(Ordering::SeqCst), 20);
    // The server goes, and with it the connections that rest; the edge is not told yet.
    let address = first.address;
    first.end().await;
    lab.lead_stage(&[address, second.address]);
    for _ in 0..20 {
        let answer = caller.post(lab.url(STAGE, "/")).body("x").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap().split(' ').next(), Some("b"));
    }
    assert!(lab.metric("stagekeeper_edge_upstream_errors_total{reason=\"connect\"}") >= 1);
}

#[tokio::test]
async fn requests_are_spread_over_the_addresses() {
    let mut lab = Lab::new().await;
    let upstreams = [Upstream::new("a").await, Upstream::new("b").await, Upstream::new("c").await];
    lab.lead_stage(&upstreams.each_ref().map(|upstream| upstream.address));
    let caller = lab.caller();
    for _ in 0..30 {
        caller.get(lab.url(STAGE, "/")).send().await.unwrap();
    }
    assert_eq!(upstreams.each_ref().map(Upstream::asked), [10, 10, 10]);
}

#[tokio::test]
async fn two_claims_of_one_host_are_told() {
    let mut lab = Lab::new().await;
    let (ours, theirs) = (Upstream::new("ours").await, Upstream::new("theirs").await);
    let mut young = lab.objects.services[&("shop".to_owned(), "web".to_owned())].clone();
    young.created = 2;
    lab.objects.services.insert(("evil".into(), "web".into()), young);
    lab.lead("evil", &[theirs.address]);
    lab.lead_stage(&[ours.address]);
    let text = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("ours "), "{text}");
    assert_eq!(lab.metric("stagekeeper_edge_host_conflicts"), 1);
    assert_eq!(lab.metric("stagekeeper_edge_hosts"), 2);
}
