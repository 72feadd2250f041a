//! Listings: complete, or an error.

use std::time::Duration;

use wiremock::matchers::{query_param, query_param_is_missing};

use super::*;

const LIST: &str = "/v2/shop/web/tags/list";

fn page(tags: &[&str]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(serde_json::json!({ "name": "shop/web", "tags": tags }))
}

async fn list(server: &MockServer) -> Result<Tags, RegistryError> {
    let repository = shop(server);
    let result = client().tags_of(&repository, &anonymous()).await;
    if let Err(error) = &result {
        well_said(error, &repository);
    }
    result
}

/// Answers with `next` as the `Link` to the page after `last`.
async fn linked(server: &MockServer, last: Option<&str>, tags: &[&str], next: Option<String>) {
    let mut response = page(tags);
    if let Some(next) = next {
        response = response.append_header("Link", format!(r#"<{next}>; rel="next""#).as_str());
    }
    let mock = Mock::given(method("GET")).and(path(LIST));
    let mock = match last {
        Some(last) => mock.and(query_param("last", last)),
        None => mock.and(query_param_is_missing("last")),
    };
    mock.respond_with(response).mount(server).await;
}

#[tokio::test]
async fn tags_come_sorted_and_each_once() {
    let server = MockServer::start().await;
    answers(&server, LIST, page(&["b", "1.0.0", "a", "b", "not a tag", "../x"])).await;
    let tags = list(&server).await.unwrap();
    assert_eq!(tags, Tags { names: ["1.0.0", "a", "b"].map(Into::into).into(), illegal: 2, pages: 1, validator: None });
}

#[tokio::test]
async fn a_repository_without_tags_is_not_an_error() {
    for body in [r#"{"name":"shop/web","tags":null}"#, r#"{"tags":[]}"#] {
        let server = MockServer::start().await;
        answers(&server, LIST, ResponseTemplate::new(200).set_body_string(body)).await;
        assert_eq!(list(&server).await.unwrap().names, Vec::<String>::new(), "{body}");
    }
}

#[tokio::test]
async fn pages_are_followed_whatever_their_links_look_like() {
    let links: [fn(&MockServer) -> String; 5] = [
        |_| format!("{LIST}?last=b&n=1000"),
        |_| "?last=b&n=1000".into(),
        |server| format!("{}{LIST}?last=b&n=1000", server.uri()),
        |_| format!("http://127.0.0.1{LIST}?last=b&n=1000"),
        |server| format!("https://{}{LIST}?last=b&n=1000", server.address()),
    ];
    for link in links {
        let server = MockServer::start().await;
        let link = link(&server);
        linked(&server, None, &["a", "b"], Some(link.clone())).await;
        linked(&server, Some("b"), &["c", "d"], None).await;
        let tags = list(&server).await.unwrap();
        assert_eq!((tags.names.join(" "), tags.pages), ("a b c d".into(), 2), "{link}");
    }
}

#[tokio::test]
async fn a_listing_never_goes_on_at_another_host() {
    let (server, foreign) = (MockServer::start().await, MockServer::start().await);
    let elsewhere = format!("http://localhost:{}{LIST}?last=b", foreign.address().port());
    linked(&server, None, &["a", "b"], Some(elsewhere)).await;
    let error = list(&server).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Malformed { what, .. } if what.contains("another host")), "{error}");
    assert_eq!(asked(&foreign).await, 0);
}

#[tokio::test]
async fn pages_that_go_in_a_circle_are_an_error() {
    let server = MockServer::start().await;
    linked(&server, None, &["a"], Some(format!("{LIST}?last=a"))).await;
    linked(&server, Some("a"), &["b"], Some(format!("{LIST}?last=b"))).await;
    linked(&server, Some("b"), &["a"], Some(format!("{LIST}?last=a"))).await;
    let error = list(&server).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Malformed { what, .. } if what.contains("circle")), "{error}");
    assert_eq!(asked(&server).await, 3);
}

#[tokio::test]
async fn endless_pages_are_an_error() {
    let server = MockServer::start().await;
    let endless = |request: &Request| {
        let last =
            request.url.query_pairs().find(|(key, _)| key == "last").map_or(0, |(_, last)| last.parse().unwrap());
        let next = format!(r#"<{LIST}?last={}>; rel="next""#, last + 1);
        page(&[&last.to_string()]).append_header("Link", next.as_str())
    };
    Mock::given(method("GET")).respond_with(endless).mount(&server).await;
    let registry = small(Limits { listing_pages: 7, ..Limits::default() });
    let error = registry.tags_of(&shop(&server), &anonymous()).await.unwrap_err();
    assert!(matches!(&error, RegistryError::TooLarge { limit, .. } if limit == "7 pages"), "{error}");
    assert_eq!(asked(&server).await, 7);
}

#[tokio::test]
async fn the_bytes_of_all_pages_are_counted_together() {
    let server = MockServer::start().await;
    let long = "x".repeat(100);
    linked(&server, None, &[&long], Some(format!("{LIST}?last=a"))).await;
    linked(&server, Some("a"), &[&long], None).await;
    let repository = shop(&server);
    for (listing_bytes, fits) in [(400, true), (200, false), (50, false)] {
        let registry = small(Limits { listing_bytes, ..Limits::default() });
        let result = registry.tags_of(&repository, &anonymous()).await;
        match result {
            Ok(_) => assert!(fits, "{listing_bytes}"),
            Err(error) => {
                assert!(!fits && error.reason() == "RegistryAnswerTooLarge", "{listing_bytes}: {error}");
                assert!(!error.is_transient());
            }
        }
    }
}

#[tokio::test]
async fn a_full_page_without_a_link_is_not_believed_to_be_all() {
    let names: Vec<String> = (0..1500).map(|number| format!("t{number:04}")).collect();
    // A registry that cuts at `n` and sends no links, one that ignores `last`, and one that ignores `n`.
    for (heeds_n, heeds_last, want, pages) in [(true, true, 1500, 2), (true, false, 1000, 2), (false, true, 1500, 1)] {
        let server = MockServer::start().await;
        let all = names.clone();
        let cut = move |request: &Request| {
            let query =
                |name| request.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
            let last = query("last").filter(|_| heeds_last).unwrap_or_default();
            let count = query("n").filter(|_| heeds_n).map_or(usize::MAX, |n| n.parse().unwrap());
            let tags: Vec<&str> =
                all.iter().map(String::as_str).filter(|tag| *tag > last.as_str()).take(count).collect();
            page(&tags)
        };
        Mock::given(method("GET")).respond_with(cut).mount(&server).await;
        let tags = list(&server).await.unwrap();
        assert_eq!((tags.names.len(), tags.pages), (want, pages), "n {heeds_n}, last {heeds_last}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_large_pages_is_asked_without_a_number() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(query_param("n", "1000"))
        .respond_with(ResponseTemplate::new(400))
        .mount(&server)
        .await;
    Mock::given(method("GET")).and(query_param_is_missing("n")).respond_with(page(&["a"])).mount(&server).await;
    assert_eq!(list(&server).await.unwrap().names, ["a"]);
}

#[tokio::test]
async fn what_is_not_a_listing_never_looks_like_no_tags() {
    let bodies = [
        "",
        "{}",
        "[]",
        "null",
        r#"{"name":"shop/web"}"#,
        r#"{"tags":{}}"#,
        r#"{"tags":[null]}"#,
        r#"{"tags":[1]}"#,
        r#"{"tags":["a","b"#,
        r#"{"tags":["a"]} trailing"#,
        "<html><title>Sign in</title></html>",
        r#"{"errors":[{"code":"UNKNOWN"}]}"#,
    ];
    for body in bodies {
        let server = MockServer::start().await;
        answers(&server, LIST, ResponseTemplate::new(200).set_body_string(body)).await;
        let error = list(&server).await.unwrap_err();
        assert_eq!(error.reason(), "RegistryAnswerMalformed", "{body}: {error}");
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn statuses_say_what_went_wrong() {
    struct Case {
        status: u16,
        retry_after: Option<&'static str>,
        body: &'static str,
        reason: &'static str,
        transient: bool,
        rest: Option<u64>,
        says: &'static str,
    }
    #[rustfmt::skip]
    let cases = [
        Case { status: 404, retry_after: None, body: r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, reason: "RepositoryNotFound", transient: false, rest: None, says: "there is no repository" },
        Case { status: 404, retry_after: None, body: "", reason: "RepositoryNotFound", transient: false, rest: None, says: "check its name" },
        Case { status: 403, retry_after: None, body: r#"{"errors":[{"code":"DENIED","message":"canary-hunter2"}]}"#, reason: "RegistryDenied", transient: false, rest: None, says: "403 (DENIED)" },
        Case { status: 403, retry_after: None, body: r#"{"errors":[{"code":"canary-hunter2"}]}"#, reason: "RegistryDenied", transient: false, rest: None, says: "it answered 403; check" },
        Case { status: 401, retry_after: None, body: "", reason: "RegistryDenied", transient: false, rest: None, says: "does not say how to authenticate" },
        Case { status: 429, retry_after: Some("120"), body: "", reason: "RegistryRateLimited", transient: true, rest: Some(120), says: "asks for 120 s of rest" },
        Case { status: 429, retry_after: Some("Fri, 02 Jan 2026 03:05:05 GMT"), body: "", reason: "RegistryRateLimited", transient: true, rest: Some(60), says: "60 s" },
        Case { status: 429, retry_after: None, body: "", reason: "RegistryRateLimited", transient: true, rest: None, says: "longer interval" },
        Case { status: 500, retry_after: None, body: "canary-hunter2", reason: "RegistryUnavailable", transient: true, rest: None, says: "answered 500" },
        Case { status: 503, retry_after: Some("7"), body: "", reason: "RegistryUnavailable", transient: true, rest: Some(7), says: "answered 503" },
        Case { status: 418, retry_after: None, body: "", reason: "RegistryAnswerUnexpected", transient: false, rest: None, says: "answered 418" },
        Case { status: 302, retry_after: None, body: "", reason: "RegistryAnswerUnexpected", transient: false, rest: None, says: "answered 302" },
    ];
    for Case { status, retry_after, body, reason, transient, rest, says } in cases {
        let server = MockServer::start().await;
        let mut response = ResponseTemplate::new(status).set_body_string(body);
        if let Some(retry_after) = retry_after {
            response = response.append_header("Retry-After", retry_after);
        }
        answers(&server, LIST, response).await;
        let error = list(&server).await.unwrap_err();
        let text = error.to_string();
        assert_eq!((error.reason(), error.is_transient()), (reason, transient), "{status}: {text}");
        assert_eq!(error.retry_after(), rest.map(Duration::from_secs), "{status}: {text}");
        assert!(text.contains(says), "{status}: {text}");
    }
}

#[tokio::test]
async fn a_failure_on_a_later_page_fails_the_listing() {
    for status in [404, 429, 500, 401] {
        let server = MockServer::start().await;
        linked(&server, None, &["a", "b"], Some(format!("{LIST}?last=b"))).await;
        Mock::given(method("GET"))
            .and(query_param("last", "b"))
            .respond_with(ResponseTemplate::new(status))
            .with_priority(1)
            .mount(&server)
            .await;
        assert!(list(&server).await.is_err(), "{status}");
    }
}
