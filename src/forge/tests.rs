//! The client against a local server that speaks the used part of each API: well, slowly, wrongly and with bad intent.

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{body_partial_json, header, method, path, query_param},
};

use super::*;
use crate::domain::{
    feedback::{CommitState, CommitStatus},
    pull_request::{Answer, Known, Look, Provider, PullState, Sweep, sweep},
};

/// A token that must not appear anywhere but in requests to its provider.
const CANARY: &str = "canary-hunter2";

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Bench {
    server: MockServer,
    forge: Forge,
    clock: Arc<TestClock>,
    token: Token,
}

impl Bench {
    async fn new() -> Self {
        let clock = Arc::new(TestClock(Mutex::new("2026-03-01T12:00:00Z".parse().unwrap())));
        let forge = Forge::new(clock.clone()).unwrap();
        Self { server: MockServer::start().await, forge, clock, token: Token::new(b"canary-hunter2\n").unwrap() }
    }

    fn place(&self, provider: Provider) -> Place {
        Place::new(provider, Some(&self.server.uri()), "acme/shop").unwrap()
    }

    async fn open(&self, provider: Provider) -> Result<Listing, ForgeError> {
        match self.forge.open(&self.place(provider), &self.token, None).await? {
            Listed::New(listing) => Ok(listing),
            Listed::Same => panic!("nothing was known before"),
        }
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }
}

fn list_path(provider: Provider) -> &'static str {
    match provider {
        Provider::GitLab => "/projects/acme%2Fshop/merge_requests",
        Provider::GitHub | Provider::Gitea => "/repos/acme/shop/pulls",
    }
}

/// A pull request as the provider's API has it.
fn pull(provider: Provider, number: i64) -> Value {
    if provider == Provider::GitLab {
        return json!({
            "iid": number, "title": "Add a cart", "state": "opened", "updated_at": "2026-03-01T11:00:00.000Z",
            "author": {"id": 7, "username": "jane"}, "source_branch": "feat/cart", "target_branch": "main",
            "source_project_id": 1, "target_project_id": 1, "sha": COMMIT, "labels": ["preview"], "closed_at": null,
        });
    }
    json!({
        "number": number, "title": "Add a cart", "state": "open", "updated_at": "2026-03-01T11:00:00Z",
        "closed_at": null, "merged_at": null, "user": {"login": "jane"}, "labels": [{"name": "preview"}],
        "head": {"ref": "feat/cart", "sha": COMMIT, "repo": {"full_name": "Acme/Shop"}},
        "base": {"ref": "main", "sha": COMMIT, "repo": {"full_name": "Acme/Shop"}},
    })
}

fn page(provider: Provider, numbers: std::ops::Range<i64>) -> Vec<Value> {
    numbers.map(|number| pull(provider, number)).collect()
}

/// That an error says where and what to do, and nothing that it should not.
fn well_said(error: &ForgeError) {
    let text = format!("{error} {error:?}");
    assert!(text.contains("acme/shop"), "{text}");
    assert!(!text.contains(CANARY) && !text.contains("gossip"), "{text}");
}

#[tokio::test]
async fn lists_of_every_provider_are_read_to_their_end() {
    for (provider, size) in [(Provider::GitHub, 100), (Provider::GitLab, 100), (Provider::Gitea, 50)] {
        let bench = Bench::new().await;
        for (number, range) in [("1", 1..=size), ("2", size + 1..=size * 2), ("3", size * 2 + 1..=size * 2 + 3)] {
            let (first, last) = (*range.start(), *range.end());
            Mock::given(method("GET"))
                .and(path(list_path(provider)))
                .and(query_param("page", number))
                .respond_with(ResponseTemplate::new(200).set_body_json(page(provider, first..last + 1)))
                .mount(&bench.server)
                .await;
        }
        let listing = bench.open(provider).await.unwrap();
        assert!(listing.complete);
        assert_eq!(listing.open.len(), usize::try_from(size * 2 + 3).unwrap(), "{provider}");
        let first = &listing.open[0];
        assert_eq!((first.author.as_str(), first.head.as_str(), first.fork), ("jane", COMMIT, false), "{provider}");
        assert!(first.labels.contains("preview") && first.state == PullState::Open, "{provider}");
        for request in bench.requests().await {
            let (name, value) = match provider {
                Provider::GitHub => ("authorization", format!("Bearer {CANARY}")),
                Provider::GitLab => ("private-token", CANARY.to_owned()),
                Provider::Gitea => ("authorization", format!("token {CANARY}")),
            };
            assert_eq!(request.headers.get(name).unwrap(), value.as_str());
        }
    }
}

#[tokio::test]
async fn a_link_to_a_next_page_counts_and_its_address_is_not_asked() {
    let bench = Bench::new().await;
    let elsewhere = MockServer::start().await;
    let link = format!("<{}/steal?page=2>; rel=\"next\", <{}/x>; rel=\"last\"", elsewhere.uri(), elsewhere.uri());
    let listed = Mock::given(method("GET")).and(path("/repos/acme/shop/pulls"));
    listed
        .and(query_param("page", "1"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(page(Provider::Gitea, 1..4)).insert_header("link", link.as_str()),
        )
        .mount(&bench.server)
        .await;
    Mock::given(query_param("page", "2"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page(Provider::Gitea, 4..5)))
        .mount(&bench.server)
        .await;
    let listing = bench.open(Provider::Gitea).await.unwrap();
    assert_eq!(listing.open.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_without_end_says_that_it_is_not_whole() {
    let bench = Bench::new().await;
    Mock::given(method("GET"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(page(Provider::Gitea, 1..2))
                .insert_header("link", "<x>; rel=\"next\""),
        )
        .mount(&bench.server)
        .await;
    let listing = bench.open(Provider::Gitea).await.unwrap();
    assert!(!listing.complete);
    let known = Known::new(
        Provider::Gitea,
        "acme/shop",
        crate::domain::pull_request::PullRequest { number: 99, ..listing.open[0].clone() },
    );
    assert!(sweep(&[known], &Answer::from(listing)).look.is_empty());
}

#[tokio::test]
async fn a_list_that_is_the_same_is_not_sent_again() {
    let bench = Bench::new().await;
    Mock::given(header("if-none-match", "\"one\"")).respond_with(ResponseTemplate::new(304)).mount(&bench.server).await;
    Mock::given(method("GET"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(page(Provider::GitHub, 1..3)).insert_header("etag", "\"one\""),
        )
        .with_priority(9)
        .mount(&bench.server)
        .await;
    let listing = bench.open(Provider::GitHub).await.unwrap();
    let again = bench.forge.open(&bench.place(Provider::GitHub), &bench.token, Some(&listing)).await;
    assert_eq!(again, Ok(Listed::Same));
}

#[tokio::test]
async fn redirects_do_not_carry_the_token() {
    let elsewhere = MockServer::start().await;
    for status in [301, 302, 303, 307, 308] {
        let bench = Bench::new().await;
        let to = format!("{}/repos/acme/shop/pulls", elsewhere.uri());
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(status).insert_header("location", to.as_str()))
            .mount(&bench.server)
            .await;
        let error = bench.open(Provider::GitHub).await.unwrap_err();
        assert_eq!(error.reason(), "ProviderRedirects");
        well_said(&error);
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_told_without_what_was_answered() {
    for (status, reason, transient) in [
        (401, "TokenRefused", false),
        (403, "TokenRefused", false),
        (404, "RepositoryNotFound", false),
        (410, "RepositoryNotFound", false),
        (418, "ProviderAnswerUnexpected", false),
        (429, "ProviderRateLimited", true),
        (500, "ProviderUnavailable", true),
        (503, "ProviderUnavailable", true),
    ] {
        for provider in Provider::ALL {
            let bench = Bench::new().await;
            let said = json!({"message": format!("gossip about {CANARY}")});
            Mock::given(method("GET"))
                .respond_with(ResponseTemplate::new(status).set_body_json(said))
                .mount(&bench.server)
                .await;
            let error = bench.open(provider).await.unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), (reason, transient), "{status}");
            well_said(&error);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_malformed_and_not_empty() {
    for body in ["", "{}", "gossip", "null", "[{}]", "[1]", "{\"message\": \"gossip\"}"] {
        for provider in Provider::ALL {
            let bench = Bench::new().await;
            Mock::given(method("GET"))
                .respond_with(ResponseTemplate::new(200).set_body_raw(body, "application/json"))
                .mount(&bench.server)
                .await;
            let error = bench.open(provider).await.unwrap_err();
            assert_eq!(error.reason(), "ProviderAnswerMalformed", "{body}");
            well_said(&error);
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_while_a_rest_lasts() {
    let bench = Bench::new().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(429).insert_header("retry-after", "120"))
        .up_to_n_times(1)
        .mount(&bench.server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page(Provider::GitHub, 1..2)))
        .mount(&bench.server)
        .await;
    let wait = |error: ForgeError| error.retry_after().map(|rest| rest.as_secs());
    assert_eq!(bench.open(Provider::GitHub).await.map_err(wait).unwrap_err(), Some(120));
    *bench.clock.0.lock().unwrap() += SignedDuration::from_secs(20);
    assert_eq!(bench.open(Provider::GitHub).await.map_err(wait).unwrap_err(), Some(100));
    assert_eq!(bench.requests().await.len(), 1);
    *bench.clock.0.lock().unwrap() += SignedDuration::from_secs(101);
    assert_eq!(bench.open(Provider::GitHub).await.unwrap().open.len(), 1);
}

#[tokio::test]
async fn one_pull_request_is_looked_at_by_its_number() {
    for provider in Provider::ALL {
        let bench = Bench::new().await;
        let mut closed = pull(provider, 7);
        closed["state"] = json!("closed");
        closed["closed_at"] = json!("2026-03-01T11:30:00Z");
        Mock::given(path(format!("{}/7", list_path(provider))))
            .respond_with(ResponseTemplate::new(200).set_body_json(&closed))
            .mount(&bench.server)
            .await;
        let place = bench.place(provider);
        let Look::Found(found) = bench.forge.look(&place, &bench.token, 7).await.unwrap() else { panic!("{provider}") };
        assert_eq!((found.number, found.state), (7, PullState::Closed));
        assert_eq!(found.updated_at, "2026-03-01T11:30:00Z".parse::<Timestamp>().unwrap());
        assert_eq!(bench.forge.look(&place, &bench.token, 8).await, Ok(Look::Absent), "{provider}");
        Mock::given(path(format!("{}/9", list_path(provider))))
            .respond_with(ResponseTemplate::new(200).set_body_json(&closed))
            .mount(&bench.server)
            .await;
        let other = bench.forge.look(&place, &bench.token, 9).await.unwrap_err();
        assert_eq!(other.reason(), "ProviderAnswerMalformed", "it is about another one");
        assert_eq!(sweep(&[], &Answer::Unknown), Sweep::default());
    }
}

#[tokio::test]
async fn who_set_a_label_is_asked_of_gitea() {
    let bench = Bench::new().await;
    let event = |by: &str, label: &str, body: &str| json!({"type": "label", "body": body, "user": {"login": by}, "label": {"name": label}});
    let events = json!([
        event("mallory", "safe", "1"),
        event("jane", "bug", "1"),
        {"type": "comment", "body": "1", "user": {"login": "jane"}, "label": null},
        event("jane", "gone", "1"),
        event("jane", "gone", ""),
    ]);
    Mock::given(path("/repos/acme/shop/issues/7/timeline"))
        .respond_with(ResponseTemplate::new(200).set_body_json(events))
        .mount(&bench.server)
        .await;
    let mut of = bench_pull();
    of.author = "mallory".into();
    of.labels = ["safe", "bug", "gone"].map(str::to_owned).into();
    let vouched = bench.forge.vouched(&bench.place(Provider::Gitea), &bench.token, &of).await.unwrap();
    assert_eq!(vouched, ["bug".to_owned()].into());
}

fn bench_pull() -> crate::domain::pull_request::PullRequest {
    let object: crate::webhook::PullObject = serde_json::from_value(pull(Provider::Gitea, 7)).unwrap();
    object.read("acme/shop").unwrap()
}

fn notes_path(provider: Provider) -> &'static str {
    match provider {
        Provider::GitLab => "/projects/acme%2Fshop/merge_requests/7/notes",
        Provider::GitHub | Provider::Gitea => "/repos/acme/shop/issues/7/comments",
    }
}

fn note_path(provider: Provider, id: u64) -> String {
    match provider {
        Provider::GitLab => format!("/projects/acme%2Fshop/merge_requests/7/notes/{id}"),
        Provider::GitHub | Provider::Gitea => format!("/repos/acme/shop/issues/comments/{id}"),
    }
}

#[tokio::test]
async fn there_is_one_comment_and_it_is_edited() {
    for provider in Provider::ALL {
        let bench = Bench::new().await;
        let edits = if provider == Provider::GitLab { "PUT" } else { "PATCH" };
        let comments =
            json!([{"id": 1, "body": "hello"}, {"id": 5, "body": "MARK from before"}, {"id": 6, "body": "MARK"}]);
        Mock::given(method("GET"))
            .and(path(notes_path(provider)))
            .respond_with(ResponseTemplate::new(200).set_body_json(comments))
            .mount(&bench.server)
            .await;
        Mock::given(method("POST"))
            .and(path(notes_path(provider)))
            .and(body_partial_json(json!({"body": "OTHER text"})))
            .respond_with(ResponseTemplate::new(201).set_body_json(json!({"id": 9})))
            .mount(&bench.server)
            .await;
        for id in [3, 5] {
            Mock::given(method(edits))
                .and(path(note_path(provider, id)))
                .respond_with(ResponseTemplate::new(200).set_body_json(json!({"id": id})))
                .mount(&bench.server)
                .await;
        }
        let place = bench.place(provider);
        let write = async |known: Option<&str>, mark: &str| {
            let text = format!("{mark} text");
            bench.forge.comment(&place, &bench.token, 7, known, (mark, &text)).await.unwrap()
        };
        assert_eq!(write(Some("3"), "MARK").await, "3", "{provider}: the one that is known");
        assert_eq!(bench.requests().await.len(), 1);
        assert_eq!(write(None, "MARK").await, "5", "{provider}: the first that has the mark, after a crash");
        assert_eq!(write(Some("4"), "MARK").await, "5", "{provider}: somebody deleted the one that was known");
        assert_eq!(write(None, "OTHER").await, "9", "{provider}: there is none");
    }
}

#[tokio::test]
async fn the_status_of_a_commit_is_set() {
    let status = |state| CommitStatus {
        state,
        context: "stagekeeper/shop".into(),
        description: "x".repeat(500),
        url: Some("https://pr-7.preview.test".into()),
    };
    for (provider, at, failed) in [
        (Provider::GitHub, format!("/repos/acme/shop/statuses/{COMMIT}"), "failure"),
        (Provider::GitLab, format!("/projects/acme%2Fshop/statuses/{COMMIT}"), "failed"),
        (Provider::Gitea, format!("/repos/acme/shop/statuses/{COMMIT}"), "failure"),
    ] {
        let bench = Bench::new().await;
        Mock::given(method("POST"))
            .and(path(at))
            .respond_with(ResponseTemplate::new(201).set_body_json(json!({})))
            .mount(&bench.server)
            .await;
        for state in [CommitState::Pending, CommitState::Success, CommitState::Failure] {
            bench.forge.status(&bench.place(provider), &bench.token, COMMIT, &status(state)).await.unwrap();
        }
        let sent: Vec<Value> =
            bench.requests().await.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
        let states: Vec<&str> = sent.iter().map(|body| body["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["pending", "success", failed], "{provider}");
        assert!(sent.iter().all(|body| body["description"].as_str().unwrap().chars().count() <= 140));
        assert!(sent.iter().all(|body| body["target_url"] == "https://pr-7.preview.test"));
    }
}

#[tokio::test]
async fn gitlab_may_have_the_status_already() {
    for (said, good) in [("Cannot transition status via :enqueue from :pending", true), ("gossip", false)] {
        let bench = Bench::new().await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(400).set_body_json(json!({"message": said})))
            .mount(&bench.server)
            .await;
        let (context, description) = ("stagekeeper/shop".to_owned(), "pending".to_owned());
        let status = CommitStatus { state: CommitState::Pending, context, description, url: None };
        let set = bench.forge.status(&bench.place(Provider::GitLab), &bench.token, COMMIT, &status).await;
        assert_eq!(set.is_ok(), good, "{set:?}");
    }
}

#[test]
fn a_token_is_shown_to_nobody() {
    let token = Token::new(b" canary-hunter2\n").unwrap();
    assert_eq!(format!("{token:?}"), "Token(…)");
    for stored in [&b""[..], b"\n", b"two words", b"line\nbreak", &[0xff, 0xfe], "schlüssel".as_bytes()] {
        assert!(Token::new(stored).is_none(), "{stored:?}");
    }
}
