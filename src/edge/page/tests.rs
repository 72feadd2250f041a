//! What each page says, and what it does not.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::edge::table::EnvironmentView;

fn all() -> Vec<Why> {
    let details = Details { message: "it said <b>no</b>".into(), command: "stagekeeper logs 0192".into() };
    vec![
        Why::Building(None),
        Why::Building(Some("It waits.")),
        Why::Waking,
        Why::Failed(None),
        Why::Failed(Some(details)),
        Why::Gone,
        Why::Unknown,
        Why::Starting,
        Why::Unavailable,
        Why::Busy,
        Why::Broken,
        Why::Late,
        Why::TooMany(3),
        Why::Malformed("why"),
        Why::Coding,
        Why::Method,
        Why::Locked,
        Why::SignIn,
        Why::NotAllowed,
        Why::SignInFailed,
        Why::NoSignIn,
        Why::SignedOut,
        Why::Foreign,
    ]
}

#[test]
fn every_page_can_be_read_by_everybody_and_kept_by_nobody() {
    for why in all() {
        let answer = why.answer(true);
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store", "{why:?}");
        let html = answer.body();
        for part in ["<!doctype html>", "<html lang=\"en\">", "<title>", "<main ", "<h1>", "width=device-width"] {
            assert_eq!(html.matches(part).count(), 1, "{part} in {html}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
        let looks = answer.headers().contains_key(RETRY_AFTER) && !matches!(why, Why::TooMany(_) | Why::NoSignIn);
        for part in ["<noscript><meta http-equiv=\"refresh\"", "<script>", "role=\"status\"", "data-again"] {
            assert_eq!(html.contains(part), looks, "{why:?}: {part}");
        }
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(policy.contains("script-src"), looks, "{policy}");
        let told = why.answer(false);
        assert_eq!(told.headers()[CONTENT_TYPE], "application/problem+json");
        let body: serde_json::Value = serde_json::from_str(told.body()).unwrap();
        assert_eq!(body["status"], why.status().as_u16());
    }
}

#[test]
fn codes_say_whether_to_come_again() {
    for (why, status, again) in [
        (Why::Waking, 503, Some("2")),
        (Why::Building(None), 503, Some("5")),
        (Why::Failed(None), 503, None),
        (Why::Gone, 410, None),
        (Why::Unknown, 404, None),
        (Why::TooMany(7), 429, Some("7")),
        (Why::Broken, 502, None),
        (Why::Late, 504, None),
        (Why::Locked, 401, None),
    ] {
        let answer = why.answer(false);
        assert_eq!(answer.status().as_u16(), status, "{why:?}");
        let told = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!(told, again, "{why:?}");
    }
}

#[test]
fn each_phase_has_its_words_and_details_are_for_those_who_may() {
    let preview = |phase, waiting: Option<&str>| Preview {
        key: ("acme".into(), "pr-42".into()),
        view: EnvironmentView {
            phase,
            awake: true,
            waiting: waiting.map(Into::into),
            deploy: Some("0192".into()),
            message: Some("password=hunter2".into()),
            ..EnvironmentView::default()
        },
        activity: Arc::default(),
    };
    assert_eq!(why(&preview(Phase::Asleep, None), false), Why::Waking);
    assert_eq!(why(&preview(Phase::Ending, None), false), Why::Gone);
    assert_eq!(why(&preview(Phase::Failed, None), false), Why::Failed(None));
    let Why::Failed(Some(details)) = why(&preview(Phase::Failed, None), true) else { panic!("details") };
    assert_eq!((details.message.as_str(), details.command.as_str()), ("password=hunter2", "stagekeeper logs 0192"));
    let Why::Building(Some(text)) = why(&preview(Phase::Pending, Some("ImageMissing")), false) else { panic!("words") };
    assert!(text.contains("image"), "{text}");
    assert_eq!(why(&preview(Phase::Deploying, Some("Odd")), false), Why::Building(None));
}

#[test]
fn browsers_are_told_by_what_they_accept() {
    let cases = [
        (Method::GET, Some("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"), true),
        (Method::HEAD, Some("Text/HTML;q=0.5"), true),
        (Method::POST, Some("text/html"), false),
        (Method::GET, Some("*/*"), false),
        (Method::GET, Some("application/json"), false),
        (Method::GET, None, false),
    ];
    for (method, accept, expected) in cases {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        assert_eq!(is_browser(&method, &headers), expected, "{method} {accept:?}");
    }
}

proptest! {
    #[test]
    fn what_a_deploy_says_is_only_text(message in "\\PC{0,60}") {
        let details = Details { message, command: "x".into() };
        let html = Why::Failed(Some(details)).page();
        let (_, said) = html.split_once("What the deploy said</h2>\n<p>").unwrap();
        let (said, _) = said.split_once("</p>\n<h2>").unwrap();
        prop_assert!(!said.contains(['<', '>', '"', '\'']));
    }
}
