//! The password, and the rate.

use std::{num::NonZeroU32, sync::Arc};

use stagekeeper::edge::{Lock, table::Phase};

use super::lab::{Lab, PREVIEW, STAGE, Upstream, until};

pub fn lock(name: &str) -> Arc<Lock> {
    let path = std::env::temp_dir().join(format!("stagekeeper-edge-{name}-{}", std::process::id()));
    std::fs::write(&path, "open sesame\n").unwrap();
    let lock = Arc::new(Lock::open(&path).unwrap());
    std::fs::remove_file(path).unwrap();
    lock
}

#[tokio::test]
async fn environments_are_behind_the_password_and_stages_are_not() {
    let mut lab = Lab::with(|setup| setup.lock = Some(lock("behind"))).await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    lab.lead_stage(&[upstream.address]);
    let caller = lab.caller();
    let url = lab.url(PREVIEW, "/");
    for request in
        [caller.get(&url), caller.get(&url).basic_auth("me", Some("wrong")), caller.get(&url).bearer_auth("x")]
    {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Basic realm=\"preview\", charset=\"UTF-8\"");
        assert_eq!(answer.headers()["x-robots-tag"], "noindex");
    }
    assert_eq!(upstream.asked(), 0);
    lab.edge.write_visits().await;
    assert!(lab.told.touches.lock().unwrap().is_empty(), "who does not get in keeps nothing awake");

    let answer = caller.get(&url).basic_auth("me", Some("open sesame")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let text = answer.text().await.unwrap();
    assert!(!text.contains("authorization"), "{text}");

    let session = cookie.split(';').next().unwrap();
    let request = caller.get(&url).header("cookie", format!("theme=dark; {session}")).bearer_auth("theirs");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("cookie: theme=dark\n") && text.contains("authorization: Bearer theirs"), "{text}");
    assert!(!text.contains("stagekeeper-edge"), "{text}");

    let text = caller.get(lab.url(STAGE, "/")).basic_auth("me", Some("their own")).send().await.unwrap();
    let text = text.text().await.unwrap();
    assert!(text.contains("authorization: Basic "), "{text}");
}

#[tokio::test]
async fn nobody_is_woken_by_strangers_and_details_are_for_who_came_in() {
    let mut lab = Lab::with(|setup| setup.lock = Some(lock("woken"))).await;
    lab.sleep();
    let caller = lab.caller();
    let url = lab.url(PREVIEW, "/");
    let ask = || caller.get(&url).header("accept", "text/html");
    assert_eq!(ask().send().await.unwrap().status(), 401);
    assert!(lab.told.wakes.lock().unwrap().is_empty());
    assert_eq!(ask().basic_auth("me", Some("open sesame")).send().await.unwrap().status(), 503);
    until("it is woken", || lab.told.wakes.lock().unwrap().len() == 1).await;
    lab.preview().phase = Phase::Failed;
    lab.preview().message = Some("exit code 3".into());
    lab.preview().deploy = Some("0192".into());
    lab.tell();
    assert!(!ask().send().await.unwrap().text().await.unwrap().contains("exit code 3"));
    let text = ask().basic_auth("me", Some("open sesame")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("exit code 3"), "{text}");
}

#[tokio::test]
async fn an_environment_takes_so_many_a_second_and_a_stage_all() {
    let rate = NonZeroU32::new(5);
    let mut lab = Lab::with(|setup| setup.rate = rate).await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    lab.lead_stage(&[upstream.address]);
    let caller = lab.caller_with(reqwest::ClientBuilder::http2_prior_knowledge);
    let all = |host: &'static str| {
        let sent = (0..200).map(|_| caller.get(lab.url(host, "/")).send());
        futures::future::join_all(sent)
    };
    let mut refused = 0;
    for answer in all(PREVIEW).await {
        let answer = answer.unwrap();
        if answer.status() == 429 {
            refused += 1;
            assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        }
    }
    // A burst of two seconds passes, and what the test takes besides.
    assert!(refused > 50, "{refused} of 200");
    for answer in all(STAGE).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
}
