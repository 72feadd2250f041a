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

/// A registry with so many tags, and how it lists them.
#[derive(Clone, Copy)]
struct Lister {
    tags: usize,
    heeds_n: bool,
    heeds_last: bool,
    /// It cuts a page at so many tags, whatever was asked for.
    cap: usize,
    links: bool,
    /// It refuses a larger `n`.
    refuses: usize,
}

const HEEDFUL: Lister =
    Lister { tags: 0, heeds_n: true, heeds_last: true, cap: usize::MAX, links: true, refuses: usize::MAX };
/// As docker-registry up to 2.8: all tags in no order, whatever is asked for.
const HEEDLESS: Lister = Lister { heeds_n: false, heeds_last: false, links: false, ..HEEDFUL };

impl Lister {
    async fn start(self) -> MockServer {
        let server = MockServer::start().await;
        self.mount(&server).await;
        server
    }

    async fn mount(self, server: &MockServer) {
        let mut all: Vec<String> = (0..self.tags).map(|number| format!("t{number:05}")).collect();
        if !self.heeds_last {
            all.reverse();
        }
        let answer = move |request: &Request| {
            let query =
                |name| request.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
            let last = query("last").filter(|_| self.heeds_last).unwrap_or_default();
            let n: Option<usize> = query("n").map(|n| n.parse().unwrap());
            if n.is_some_and(|n| n > self.refuses) {
                return ResponseTemplate::new(400);
            }
            let count = n.filter(|_| self.heeds_n).unwrap_or(usize::MAX).min(self.cap);
            let left: Vec<&str> = all.iter().map(String::as_str).filter(|tag| *tag > last.as_str()).collect();
            let tags = &left[..count.min(left.len())];
            let size = n.map(|n| format!("n={n}&")).unwrap_or_default();
            let link = format!(r#"<{LIST}?{size}last={}>; rel="next""#, tags.last().unwrap_or(&""));
            let response = page(tags);
            if self.links && left.len() > count { response.append_header("Link", link.as_str()) } else { response }
        };
        Mock::given(method("GET")).respond_with(answer).mount(server).await;
    }

    /// Lists so often, and says how many tags there were and how many requests each listing took.
    async fn costs(self, listings: usize) -> (usize, Vec<usize>) {
        let (server, registry) = (self.start().await, client());
        let (mut found, mut costs) = (0, Vec::new());
        for _ in 0..listings {
            let before = asked(&server).await;
            let tags = registry.tags_of(&shop(&server), &anonymous()).await.unwrap();
            found = tags.names.len();
            costs.push(asked(&server).await - before);
        }
        (found, costs)
    }
}

#[tokio::test]
async fn a_listing_of_a_thousand_tags_costs_one_request() {
    // The first one tells what kind of registry it is.
    for tags in [100, 1000, 10_000] {
        assert_eq!(Lister { tags, ..HEEDLESS }.costs(3).await, (tags, vec![2, 1, 1]), "as docker-registry does");
        assert_eq!(Lister { tags, ..HEEDFUL }.costs(3).await, (tags, vec![2, 1, 1]), "with links");
    }
    assert_eq!(Lister { tags: 999, ..HEEDLESS }.costs(2).await, (999, vec![1, 1]), "nothing to be found out");
}

#[tokio::test]
async fn those_who_list_while_a_registry_is_found_out_wait_for_what_comes_of_it() {
    let server = Lister { tags: 1000, ..HEEDLESS }.start().await;
    let (registry, repository) = (client(), shop(&server));
    let access = anonymous();
    let all = (0..10).map(|_| registry.tags_of(&repository, &access));
    assert!(futures::future::join_all(all).await.iter().all(|tags| tags.as_ref().unwrap().names.len() == 1000));
    assert_eq!(asked(&server).await, 11);
}

#[tokio::test]
async fn no_tags_are_lost_on_a_registry_that_cuts_and_sends_no_links() {
    for (cap, sizes) in [
        (50, &[49, 50, 51, 100, 333][..]),
        (64, &[64, 65, 128]),
        (100, &[100, 101, 250]),
        (1000, &[1000, 1001, 2000]),
        (usize::MAX, &[10_000, 10_001]),
    ] {
        for tags in sizes {
            let silent = Lister { tags: *tags, cap, links: false, ..HEEDFUL };
            assert_eq!(silent.costs(2).await.0, *tags, "cut at {cap}");
        }
    }
}

#[tokio::test]
async fn a_repository_that_ends_where_a_page_does_teaches_nothing_wrong() {
    let silent = Lister { tags: 1000, cap: 1000, links: false, ..HEEDFUL };
    let (server, registry) = (silent.start().await, client());
    let repository = shop(&server);
    assert_eq!(registry.tags_of(&repository, &anonymous()).await.unwrap().names.len(), 1000);
    server.reset().await;
    Lister { tags: 1500, ..silent }.mount(&server).await;
    assert_eq!(registry.tags_of(&repository, &anonymous()).await.unwrap().names.len(), 1500);
}

#[tokio::test]
async fn a_registry_that_refuses_large_pages_is_asked_for_smaller_ones_and_that_is_remembered() {
    assert_eq!(Lister { tags: 1501, refuses: 1000, ..HEEDFUL }.costs(2).await, (1501, vec![3, 2]));
    assert_eq!(Lister { tags: 201, refuses: 100, ..HEEDFUL }.costs(2).await, (201, vec![5, 3]));
    assert_eq!(Lister { tags: 201, refuses: 10, cap: 77, ..HEEDFUL }.costs(1).await.0, 201, "without a number");
}

#[tokio::test]
async fn a_registry_that_refuses_every_page_is_an_error() {
    let server = MockServer::start().await;
    answers(&server, LIST, ResponseTemplate::new(400)).await;
    let error = list(&server).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerUnexpected", "{error}");
}

/// Answers with an `ETag`, and to whom shows it that nothing has changed.
async fn tagged(server: &MockServer, etag: &'static str, tags: &[&str], link: Option<&'static str>) {
    let with = move |response: ResponseTemplate| {
        let response = response.append_header("ETag", etag);
        link.map_or(response.clone(), |link| response.append_header("Link", link))
    };
    let changed = with(page(tags));
    let answer = move |request: &Request| {
        let shown = request.headers.get("if-none-match").is_some_and(|shown| shown == etag);
        if shown { with(ResponseTemplate::new(304)) } else { changed.clone() }
    };
    Mock::given(method("GET")).and(query_param_is_missing("last")).respond_with(answer).mount(server).await;
}

#[tokio::test]
async fn a_listing_that_did_not_change_is_not_sent_again() {
    let (server, registry) = (MockServer::start().await, client());
    let (repository, access) = (shop(&server), anonymous());
    tagged(&server, r#"W/"one""#, &["a", "b"], None).await;
    let first = registry.tags_of(&repository, &access).await.unwrap();
    let known = first.validator.unwrap();
    for known in [&known, &known.to_string().parse().unwrap()] {
        assert_eq!(registry.list_tags(&repository, &access, Some(known)).await.unwrap(), Listing::Unchanged);
    }
    server.reset().await;
    tagged(&server, r#""two""#, &["a", "b", "c"], None).await;
    let second = registry.list_tags(&repository, &access, Some(&known)).await.unwrap().tags().unwrap();
    assert_eq!(second.names, ["a", "b", "c"]);
    assert_ne!(second.validator, Some(known));
}

#[tokio::test]
async fn a_first_page_that_did_not_change_says_nothing_about_what_was_added_behind_it() {
    let full: Vec<String> = (0..100).map(|number| format!("t{number:03}")).collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    for (tags, link) in [(&full[..], None), (&["a", "b"][..], Some(r#"</v2/shop/web/tags/list?last=b>; rel="next""#))] {
        let server = MockServer::start().await;
        tagged(&server, r#""one""#, tags, link).await;
        linked(&server, Some("b"), &["c"], None).await;
        linked(&server, Some("t097"), &["t098", "t099"], None).await;
        linked(&server, Some("t099"), &[], None).await;
        assert_eq!(list(&server).await.unwrap().validator, None, "{link:?}");
    }
    // One page became two, and the first one is the same.
    let (server, registry) = (MockServer::start().await, client());
    tagged(&server, r#""one""#, &["a", "b"], None).await;
    let known = registry.tags_of(&shop(&server), &anonymous()).await.unwrap().validator.unwrap();
    server.reset().await;
    tagged(&server, r#""one""#, &["a", "b"], Some(r#"</v2/shop/web/tags/list?last=b>; rel="next""#)).await;
    linked(&server, Some("b"), &["c"], None).await;
    let listing = registry.list_tags(&shop(&server), &anonymous(), Some(&known)).await.unwrap();
    assert_eq!(listing.tags().unwrap().names, ["a", "b", "c"]);
}

#[tokio::test]
async fn unchanged_is_no_answer_to_whoever_showed_nothing() {
    let server = MockServer::start().await;
    answers(&server, LIST, ResponseTemplate::new(304)).await;
    let error = list(&server).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerUnexpected", "{error}");
}

#[tokio::test]
async fn more_tags_than_anybody_has_are_an_error() {
    let server = MockServer::start().await;
    let body = format!(r#"{{"tags":["a"{}]}}"#, r#","a""#.repeat(200_000));
    answers(&server, LIST, ResponseTemplate::new(200).set_body_string(body)).await;
    let error = list(&server).await.unwrap_err();
    assert!(matches!(&error, RegistryError::TooLarge { limit, .. } if limit == "200000 tags"), "{error}");
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
