//! The first request to what sleeps.

use std::{sync::Arc, time::Duration};

use stagekeeper::edge::{Limits, table::Phase};

use super::lab::{Lab, PREVIEW, SUBDOMAIN, Upstream, in_time, until};

const HTML: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";

/// Takes all that come, so that a thousand at once do not fail for want of patience with new connections.
fn many(lab: &Lab) -> reqwest::Client {
    lab.caller_with(reqwest::ClientBuilder::http2_prior_knowledge)
}

#[tokio::test]
async fn a_thousand_requests_are_one_wake_and_all_are_answered() {
    let mut lab = Lab::new().await;
    lab.sleep();
    let upstream = Upstream::new("a").await;
    let callers: Vec<_> = (0..10).map(|_| many(&lab)).collect();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let request = callers[number % 10].post(lab.url(PREVIEW, &format!("/{number}"))).body("x".repeat(number));
        asking.spawn(async move {
            let answer = request.send().await.expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("all of it"), number)
        });
    }
    until("a thousand wait", || lab.metric("stagekeeper_edge_waiting_requests") >= 1000).await;
    until("it is woken", || !lab.told.wakes.lock().unwrap().is_empty()).await;
    // On its way: its pods start.
    (lab.preview().phase, lab.preview().awake) = (Phase::Deploying, true);
    lab.tell();
    lab.awaken(&[upstream.address]);
    while let Some(answered) = in_time("all answers", asking.join_next()).await {
        let (status, text, number) = answered.unwrap();
        assert_eq!(status, 200, "{text}");
        assert!(text.starts_with(&format!("a POST /{number} {number}\n")), "{text}");
    }
    assert_eq!(*lab.told.wakes.lock().unwrap(), [SUBDOMAIN], "one wake");
    assert_eq!(lab.metric("stagekeeper_edge_wakes_total{result=\"asked\"}"), 1);
    assert_eq!(lab.metric("stagekeeper_edge_waiting_requests"), 0);
    lab.edge.write_visits().await;
    assert_eq!(*lab.told.touches.lock().unwrap(), [SUBDOMAIN], "and one visit");
}

#[tokio::test]
async fn a_browser_gets_a_page_that_looks_again() {
    let mut lab = Lab::new().await;
    lab.sleep();
    let caller = lab.caller();
    let url = lab.url(PREVIEW, "/");
    let ask = || caller.get(&url).header("accept", HTML).send();
    let answer = in_time("the page", ask()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["x-robots-tag"], "noindex");
    let html = answer.text().await.unwrap();
    assert!(
        html.contains("<meta http-equiv=\"refresh\" content=\"2\"></noscript>") && html.contains("waking up"),
        "{html}"
    );
    until("it is woken", || lab.told.wakes.lock().unwrap().len() == 1).await;
    let upstream = Upstream::new("a").await;
    lab.awaken(&[upstream.address]);
    assert_eq!(ask().await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_waits_too_long_is_told_to_come_again() {
    let mut lab = Lab::with(|setup| setup.wake_limit = Duration::from_millis(300)).await;
    lab.sleep();
    let answer = lab.caller().get(lab.url(PREVIEW, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let limits = Limits { waiting: 3, ..Limits::default() };
    let mut lab = Lab::with(|setup| setup.limits = limits).await;
    lab.sleep();
    let caller = many(&lab);
    let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(caller.get(lab.url(PREVIEW, "/")).send())).collect();
    until("three wait", || lab.metric("stagekeeper_edge_waiting_requests") >= 3).await;
    let answer = in_time("the fourth", caller.get(lab.url(PREVIEW, "/")).send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    let upstream = Upstream::new("a").await;
    lab.awaken(&[upstream.address]);
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap().status(), 200);
    }
}

/// Nothing of a body is read before there is somebody to give it to, and then all of it is.
#[tokio::test]
async fn a_body_waits_with_its_request() {
    let mut lab = Lab::new().await;
    lab.sleep();
    let body = vec![b'x'; 20 << 20];
    let asking = tokio::spawn(lab.caller().put(lab.url(PREVIEW, "/big")).body(body).send());
    until("it waits", || lab.metric("stagekeeper_edge_waiting_requests") >= 1).await;
    let upstream = Upstream::new("a").await;
    lab.awaken(&[upstream.address]);
    let text = in_time("the answer", asking).await.unwrap().unwrap().text().await.unwrap();
    assert!(text.starts_with(&format!("a PUT /big {}\n", 20 << 20)), "{text}");
}

/// It fell asleep a moment ago, and its pod still answers while it ends: it is woken, and the request waits for what comes back.
#[tokio::test]
async fn who_comes_right_after_it_fell_asleep_wakes_it() {
    let mut lab = Lab::new().await;
    let (old, new) = (Upstream::new("old").await, Upstream::new("new").await);
    lab.awaken(&[old.address]);
    (lab.preview().phase, lab.preview().awake) = (Phase::Asleep, false);
    for slice in lab.objects.slices.values_mut() {
        (slice.endpoints[0].ready, slice.endpoints[0].lingers) = (false, true);
    }
    lab.tell();
    let asking = tokio::spawn(lab.caller().get(lab.url(PREVIEW, "/")).send());
    until("it is woken", || *lab.told.wakes.lock().unwrap() == [SUBDOMAIN]).await;
    lab.awaken(&[new.address]);
    let text = in_time("the answer", asking).await.unwrap().unwrap().text().await.unwrap();
    assert!(text.starts_with("new ") && old.asked() == 0, "{text}");
}

/// The same while its pod is still ready: that one answers, and the environment comes back for who comes next.
#[tokio::test]
async fn an_answer_of_what_falls_asleep_wakes_it() {
    let mut lab = Lab::new().await;
    let old = Upstream::new("old").await;
    lab.awaken(&[old.address]);
    (lab.preview().phase, lab.preview().awake) = (Phase::Asleep, false);
    lab.tell();
    let answer = lab.caller().get(lab.url(PREVIEW, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    until("it is woken", || *lab.told.wakes.lock().unwrap() == [SUBDOMAIN]).await;
}

/// Its pods are gone and the edge has not been told that it sleeps: the request waits for what comes back.
#[tokio::test]
async fn an_address_that_is_gone_is_waited_out() {
    let mut lab = Lab::new().await;
    let old = Upstream::new("old").await;
    lab.lead_preview(&[old.address]);
    old.end().await;
    let asking = tokio::spawn(lab.caller().get(lab.url(PREVIEW, "/")).send());
    until("it waits", || lab.metric("stagekeeper_edge_waiting_requests") >= 1).await;
    let new = Upstream::new("new").await;
    lab.lead_preview(&[new.address]);
    let text = in_time("the answer", asking).await.unwrap().unwrap().text().await.unwrap();
    assert!(text.starts_with("new "), "{text}");
}

/// Nobody answers there: the store is made all the same, and says so when it is asked. That a wake is heard is the story of
/// tests/environments.
#[tokio::test]
async fn a_database_that_is_away_is_an_error_and_no_reason_not_to_begin() {
    use stagekeeper::edge::wake::Records;
    let store = stagekeeper::store::Store::lazy("postgres://nobody@127.0.0.1:1/none", 1).unwrap();
    let records: Arc<dyn Records> = Arc::new(store);
    assert!(in_time("an error", records.wake("a", jiff::Timestamp::UNIX_EPOCH)).await.is_err());
}
