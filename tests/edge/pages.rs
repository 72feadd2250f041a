//! What is said when there is nobody to ask.

use std::time::Duration;

use stagekeeper::edge::table::{Phase, Table};

use super::lab::{Lab, PREVIEW, STAGE, SUBDOMAIN, Upstream};

#[tokio::test]
async fn each_phase_has_its_code_and_its_words() {
    let mut lab = Lab::with(|setup| setup.wake_limit = Duration::ZERO).await;
    let cases = [
        (Phase::Pending, 503, true, "being made"),
        (Phase::Queued, 503, true, "before it"),
        (Phase::Deploying, 503, true, "image"),
        (Phase::Ready, 503, true, "starting"),
        (Phase::Asleep, 503, true, "waking up"),
        (Phase::Failed, 503, false, "could not be deployed"),
        (Phase::Ending, 410, false, "gone"),
    ];
    for (phase, code, again, words) in cases {
        lab.preview().phase = phase;
        lab.preview().waiting = (phase == Phase::Deploying).then(|| "Image".into());
        lab.preview().message = Some("password=hunter2".into());
        lab.preview().deploy = Some("0192".into());
        lab.tell();
        for accept in ["text/html", "application/json"] {
            let answer = lab.caller().get(lab.url(PREVIEW, "/")).header("accept", accept).send().await.unwrap();
            let headers = answer.headers().clone();
            assert_eq!(answer.status().as_u16(), code, "{phase:?}");
            assert_eq!(headers.contains_key("retry-after"), again, "{phase:?}");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["x-robots-tag"], "noindex");
            let text = answer.text().await.unwrap();
            assert!(!text.contains("hunter2") && !text.contains("0192"), "{phase:?}: {text}");
            if accept == "text/html" {
                assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
                assert!(text.contains(words), "{phase:?}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn details_are_for_installations_that_want_them() {
    let mut lab = Lab::with(|setup| setup.details = true).await;
    lab.preview().phase = Phase::Failed;
    lab.preview().message = Some("exit code 3 <b>".into());
    lab.preview().deploy = Some("0192".into());
    lab.tell();
    let html = lab.caller().get(lab.url(PREVIEW, "/")).header("accept", "text/html").send().await.unwrap();
    let html = html.text().await.unwrap();
    assert!(html.contains("exit code 3 &lt;b&gt;") && html.contains("stagekeeper logs 0192"), "{html}");
}

#[tokio::test]
async fn what_has_ended_is_gone_and_what_never_was_is_not_found() {
    let mut lab = Lab::new().await;
    let ask = |lab: &Lab, host: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let (lab, request) = (lab.address, request);
        async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = tokio::net::TcpStream::connect(lab).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text.split(' ').nth(1).unwrap().to_owned()
        }
    };
    assert_eq!(ask(&lab, "pr-1-aaaaaaaaaaaa.preview.test").await, "404");
    lab.objects.environments.clear();
    lab.objects.services.remove(&("home-42".to_owned(), "web".to_owned()));
    lab.tell();
    assert_eq!(ask(&lab, PREVIEW).await, "410", "it went before our eyes");
    lab.edge.end(["pr-1-aaaaaaaaaaaa".to_owned()]);
    for host in
        ["pr-1-aaaaaaaaaaaa.preview.test", "api.pr-1-aaaaaaaaaaaa.preview.test", "api-pr-1-aaaaaaaaaaaa.preview.test"]
    {
        assert_eq!(ask(&lab, host).await, "410", "{host}");
    }
    assert_eq!(ask(&lab, "preview.test").await, "404");
    assert_eq!(ask(&lab, &format!("x{SUBDOMAIN}.preview.test")).await, "404");
}

#[tokio::test]
async fn a_stage_without_addresses_is_not_available() {
    let lab = Lab::new().await;
    let answer = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    assert!(!answer.headers().contains_key("x-robots-tag"));
    assert!(lab.told.wakes.lock().unwrap().is_empty());
}

/// Before everything was listed once, what is not known may exist.
#[tokio::test]
async fn an_edge_without_a_table_is_starting() {
    let lab = Lab::new().await;
    lab.edge.replace(Table::default());
    let answer = lab.caller().get(lab.url(STAGE, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
}

/// A failed deploy behind an instance that serves is none of the visitors' business.
#[tokio::test]
async fn what_serves_is_served_whatever_failed() {
    let mut lab = Lab::new().await;
    let upstream = Upstream::new("a").await;
    lab.preview().phase = Phase::Failed;
    lab.lead_preview(&[upstream.address]);
    assert_eq!(lab.caller().get(lab.url(PREVIEW, "/")).send().await.unwrap().status(), 200);
}
