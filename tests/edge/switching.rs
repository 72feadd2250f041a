//! Traffic moves from one instance to another, and nobody notices.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::lab::{Lab, STAGE, Upstream, in_time, until};

/// Thirty switches under load, the old instance ended after each: every request is answered by the old or the new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_fails_no_request() {
    let mut lab = Lab::new().await;
    let mut serving = Upstream::new("0").await;
    lab.lead_stage(&[serving.address]);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for at in 0..16 {
        let (stop, answered, url) = (stop.clone(), answered.clone(), lab.url(STAGE, "/"));
        let caller =
            if at % 4 == 0 { lab.caller_with(reqwest::ClientBuilder::http2_prior_knowledge) } else { lab.caller() };
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // Every other one cannot be repeated.
                let request = if at % 2 == 0 { caller.get(&url) } else { caller.post(&url).body("once") };
                let answer = request.send().await.expect("an answer");
                assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
                answer.bytes().await.expect("all of it");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for name in NAMES {
        let before = answered.load(Ordering::Relaxed);
        until("requests are answered", || answered.load(Ordering::Relaxed) >= before + 50).await;
        let next = Upstream::new(name).await;
        lab.lead_stage(&[next.address]);
        let old = std::mem::replace(&mut serving, next);
        until("the new one is asked", || serving.asked() > 20).await;
        old.end().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.expect("no request failed");
    }
    assert_eq!(lab.metric("stagekeeper_edge_requests_total{target=\"stage\",code=\"5xx\"}"), 0);
}

const NAMES: [&str; 30] = ["instance"; 30];

#[tokio::test]
async fn what_is_under_way_ends_where_it_began() {
    let mut lab = Lab::new().await;
    let (old, new) = (Upstream::new("old").await, Upstream::new("new").await);
    lab.lead_stage(&[old.address]);
    let caller = lab.caller();
    let held = tokio::spawn(caller.get(lab.url(STAGE, "/held")).send());
    until("the old one is asked", || old.asked() == 1).await;
    lab.lead_stage(&[new.address]);
    let text = caller.get(lab.url(STAGE, "/")).send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("new "), "{text}");
    old.release.add_permits(1);
    let text = in_time("the held answer", held).await.unwrap().unwrap().text().await.unwrap();
    assert!(text.starts_with("old "), "{text}");
}

/// Between two slices there is a moment without any: the addresses of before still answer.
#[tokio::test]
async fn a_moment_without_addresses_is_bridged() {
    let mut lab = Lab::new().await;
    let old = Upstream::new("old").await;
    lab.lead_stage(&[old.address]);
    lab.lead_stage(&[]);
    let caller = lab.caller();
    let answer = caller.get(lab.url(STAGE, "/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    old.end().await;
    let answer = caller.get(lab.url(STAGE, "/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "2"));
}
