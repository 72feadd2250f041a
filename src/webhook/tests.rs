//! Every sender's format, and each mistake that other receivers of it make; longer than 500 lines because it is one table of cases
//! after the other, and they are read side by side.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{signature::sign, *};

const NOW: &str = "2026-03-01T12:00:00Z";
const SECRET: &[u8] = b"It's a Secret to Everybody";

fn now() -> Timestamp {
    NOW.parse().expect("an instant")
}

fn headers(all: &[(&str, &str)]) -> Headers {
    all.iter().copied().collect()
}

/// One of the composed bodies in `tests/fixtures/webhooks`.
fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// `REPOSITORY:TAG@DIGIT`, with the one digit that the digests of these bodies consist of.
fn shown(hint: &Hint) -> String {
    let tag = hint.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = hint.digest.map(|digest| format!("@{}", &digest.hex()[..1])).unwrap_or_default();
    format!("{}{tag}{digest}", hint.repository)
}

fn images(event: Result<Event, Malformed>) -> Vec<String> {
    match event {
        Ok(Event::Images(images)) => images.iter().map(shown).collect(),
        other => panic!("no images: {other:?}"),
    }
}

fn hints(event: Result<Event, Malformed>) -> Vec<Hint> {
    match event {
        Ok(Event::Images(images)) => images,
        other => panic!("no images: {other:?}"),
    }
}

fn event_of(name: &str) -> &'static str {
    if name.contains("registry_package") || name.contains("version-only") { "registry_package" } else { "package" }
}

/// The headers that go with a body.
fn headers_of(source: Source, name: &str) -> Headers {
    match source {
        Source::GitHub if name == "ping" => headers(&[("X-GitHub-Event", "ping")]),
        Source::GitHub if name.starts_with("pull-request") => headers(&[("X-GitHub-Event", "pull_request")]),
        Source::GitLab if name.starts_with("merge-request") => headers(&[("X-Gitlab-Event", "Merge Request Hook")]),
        Source::Gitea if name == "push" => headers(&[("X-Gitea-Event", "push")]),
        Source::Gitea => headers(&[("X-Gitea-Event", "pull_request"), ("X-GitHub-Event", "pull_request")]),
        Source::GitHub => headers(&[("X-GitHub-Event", event_of(name))]),
        Source::GitLab if name == "pipeline" => headers(&[("X-Gitlab-Event", "Pipeline Hook")]),
        Source::GitLab if name == "tag-push" => headers(&[("X-Gitlab-Event", "Tag Push Hook")]),
        _ => Headers::default(),
    }
}

fn read(source: Source, name: &str) -> Result<Event, Malformed> {
    parse(source, &headers_of(source, name), &fixture(&format!("{source}/{name}")), None)
}

#[test]
fn every_image_of_every_source_is_found() {
    let cases: &[(Source, &str, &[&str])] = &[
        (Source::Diun, "new", &["127.0.0.1:5999/org/app:1.0.1@2"]),
        (Source::Diun, "update", &["docker.io/crazymax/diun:latest@3"]),
        (Source::DockerHub, "push", &["docker.io/acme/shop:1.4.2"]),
        (Source::GitHub, "package", &["ghcr.io/acme/shop:1.4.2@b"]),
        (Source::GitHub, "registry_package", &["ghcr.io/acme/shop:1.4.2@b"]),
        (Source::Harbor, "push", &["harbor.example.com/acme/shop:1.4.2@1", "harbor.example.com/acme/shop:latest@1"]),
        (
            Source::Harbor,
            "push-old",
            &["harbor.example.com/acme/shop:1.4.2@1", "harbor.example.com/acme/shop:latest@1"],
        ),
        (
            Source::Harbor,
            "cloudevents",
            &["harbor.example.com/acme/shop:1.4.2@1", "harbor.example.com/acme/shop:latest@1"],
        ),
        (Source::Quay, "push", &["quay.io/acme/shop:latest", "quay.io/acme/shop:1.4.2"]),
        (
            Source::Distribution,
            "push",
            &["registry.example.com:5000/acme/shop:1.4.2@8", "registry.example.com:5000/acme/cart:2.0.0@9"],
        ),
        (Source::GitLab, "registry", &["registry.example.com:5000/acme/shop:1.4.2@8"]),
        (Source::GitLab, "pipeline", &["registry.gitlab.com/acme/shop"]),
        (Source::Acr, "push", &["acme.azurecr.io/acme/shop:1.4.2@c"]),
        (Source::JFrog, "pushed", &["acme.jfrog.io/docker-local/acme/shop:1.4.2@d"]),
        (Source::CloudEvents, "ecr", &["123456789012.dkr.ecr.us-west-2.amazonaws.com/acme/shop:1.4.2@e"]),
        (Source::CloudEvents, "short", &["registry.example.com/acme/shop:1.4.2@e"]),
        (Source::Generic, "image", &["registry.example.com/acme/shop:1.4.2"]),
        (Source::Generic, "parts", &["registry.example.com/acme/shop:1.4.2@f"]),
        (Source::Generic, "several", &["registry.example.com/acme/shop:1.4.2", "registry.example.com/acme/cart:2.0.0"]),
    ];
    for (source, name, want) in cases {
        assert_eq!(images(read(*source, name)), *want, "{source}/{name}");
    }
    // Gitea tells of pull requests alone.
    assert!(
        Source::ALL.iter().all(|source| *source == Source::Gitea || cases.iter().any(|(known, ..)| known == source))
    );
}

#[test]
fn an_unknown_event_is_ignored_and_submits_no_empty_image() {
    for (source, name, want) in [
        (Source::GitHub, "ping", "ping"),
        (Source::GitHub, "npm", "package of type npm"),
        (Source::Harbor, "pull", "PULL_ARTIFACT"),
        (Source::Quay, "build", "without updated_tags"),
        (Source::Distribution, "pull", "pull without a tag"),
        (Source::GitLab, "tag-push", "Tag Push Hook"),
        (Source::Gitea, "push", "push"),
        (Source::Acr, "ping", "ping"),
        (Source::JFrog, "deleted", "artifact deleted"),
        (Source::CloudEvents, "other", "com.example.order.placed"),
    ] {
        assert_eq!(read(source, name), Ok(Event::Ignored { what: want.into() }), "{source}/{name}");
    }
    let unknown = |source, headers: &[(&str, &str)], body: &str| {
        matches!(parse(source, &self::headers(headers), body.as_bytes(), None), Ok(Event::Ignored { .. }))
    };
    assert!(unknown(Source::GitHub, &[("x-github-event", "pull_request")], r#"{"action":"assigned"}"#));
    assert!(unknown(Source::Gitea, &[("x-gitea-event", "pull_request")], r#"{"action":"reviewed"}"#));
    assert!(unknown(Source::GitHub, &[("x-github-event", "package")], r#"{"action":"deleted"}"#));
    assert!(unknown(
        Source::GitLab,
        &[("x-gitlab-event", "Merge Request Hook")],
        r#"{"object_attributes":{"iid":1,"action":"approved"}}"#
    ));
    assert!(unknown(
        Source::GitLab,
        &[("x-gitlab-event", "Pipeline Hook")],
        r#"{"object_attributes":{"status":"failed"}}"#
    ));
    assert!(unknown(Source::Diun, &[], r#"{"status":"unchange","image":"a"}"#));
    assert!(unknown(Source::DockerHub, &[], "{}"));
    assert!(unknown(Source::Generic, &[], r#"{"text":"hello"}"#));
    let long = "e".repeat(5_000);
    let Ok(Event::Ignored { what }) = parse(Source::GitHub, &headers(&[("x-github-event", &long)]), b"{}", None) else {
        panic!("it is an event")
    };
    assert!(what.chars().count() <= 81, "{what}");
}

fn news(source: Source, name: &str) -> PullNews {
    match read(source, name) {
        Ok(Event::PullRequest(news)) => *news,
        other => panic!("no pull request: {other:?}"),
    }
}

/// `REPOSITORY#NUMBER STATE BRANCH>TARGET by AUTHOR [LABELS] at TIME`, with `!` for a fork and `+` for labels of another.
fn told(news: &PullNews) -> String {
    let one = &news.pull_request;
    let labels: Vec<&str> = one.labels.iter().map(String::as_str).collect();
    let (fork, another) = (if one.fork { "!" } else { "" }, if news.labelled_by_another { "+" } else { "" });
    format!(
        "{}#{} {} {fork}{}>{} by {} [{}]{another} at {}",
        news.repository,
        one.number,
        one.state.word(),
        one.branch,
        one.target,
        one.author,
        labels.join(" "),
        one.updated_at
    )
}

#[test]
fn pull_requests_of_every_provider_are_read() {
    for (source, name, want) in [
        (Source::GitHub, "pull-request", "Acme/Shop#42 open feat/cart>main by jane [preview] at 2026-03-01T12:00:00Z"),
        (
            Source::GitHub,
            "pull-request-closed",
            "Acme/Shop#42 merged feat/cart>main by jane [preview] at 2026-03-01T13:00:00Z",
        ),
        (
            Source::GitHub,
            "pull-request-fork",
            "Acme/Shop#42 open !patch-1>main by mallory [safe]+ at 2026-03-01T12:00:00Z",
        ),
        (Source::Gitea, "pull-request", "Acme/Shop#42 open feat/cart>main by jane [preview] at 2026-03-01T12:00:00Z"),
        (
            Source::Gitea,
            "pull-request-gone",
            "Acme/Shop#42 open !patch-1>main by mallory [safe] at 2026-03-01T12:00:00Z",
        ),
        (
            Source::GitLab,
            "merge-request",
            "Acme/Sub/Shop#42 open feat/cart>main by jane [preview] at 2026-03-01T12:00:00Z",
        ),
        (
            Source::GitLab,
            "merge-request-merged",
            "Acme/Sub/Shop#42 merged feat/cart>main by  [preview] at 2026-03-01T13:00:00.123Z",
        ),
        (
            Source::GitLab,
            "merge-request-fork",
            "Acme/Sub/Shop#42 open !feat/cart>main by  [safe]+ at 2026-03-01T12:00:00Z",
        ),
    ] {
        let news = news(source, name);
        assert_eq!(told(&news), want, "{source}/{name}");
        assert_eq!(Some(news.provider), source.provider());
        assert_eq!(news.pull_request.head, "0123456789abcdef0123456789abcdef01234567");
    }
}

#[test]
fn a_pull_request_that_makes_no_sense_is_refused() {
    let text = String::from_utf8(fixture("github/pull-request")).expect("text");
    for (from, to, want) in [
        ("\"number\": 42,\n  \"state\"", "\"number\": 0,\n  \"state\"", "greater than 0"),
        ("\"state\": \"open\"", "\"state\": \"ajar\"", "pull_request.state"),
        ("0123456789abcdef0123456789abcdef01234567", "main; rm -rf", "no commit"),
        ("2026-03-01T12:00:00Z", "yesterday", "no instant"),
        ("\"ref\": \"feat/cart\"", "\"ref\": null", "pull_request.head.ref is missing"),
    ] {
        assert!(text.contains(from), "{from}");
        let body = text.replacen(from, to, 1);
        let error = parse(Source::GitHub, &headers(&[("x-github-event", "pull_request")]), body.as_bytes(), None);
        let error = error.expect_err(to).to_string();
        assert!(error.contains(want) && !error.contains("rm -rf"), "{error}");
    }
    // Another repository's pull request in a delivery of this one.
    let mut body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    body["pull_request"]["base"]["repo"]["full_name"] = "acme/other".into();
    let body = body.to_string();
    let error = parse(Source::GitHub, &headers(&[("x-github-event", "pull_request")]), body.as_bytes(), None);
    assert!(error.expect_err("it is of another").to_string().contains("not the repository"), "{text}");
}

#[test]
fn quay_counts_all_tags_and_not_only_the_first() {
    let body = r#"{"docker_url":"quay.io/a/b","updated_tags":["1","2","3"]}"#;
    assert_eq!(
        images(parse(Source::Quay, &Headers::default(), body.as_bytes(), None)),
        ["quay.io/a/b:1", "quay.io/a/b:2", "quay.io/a/b:3"]
    );
    for tags in ["[]", "null"] {
        let body = format!(r#"{{"docker_url":"quay.io/a/b","updated_tags":{tags}}}"#);
        assert_eq!(images(parse(Source::Quay, &Headers::default(), body.as_bytes(), None)), ["quay.io/a/b"], "{tags}");
    }
}

#[test]
fn harbor_counts_all_resources_and_not_only_the_first() {
    assert_eq!(images(read(Source::Harbor, "push")).len(), 2);
}

#[test]
fn harbors_digest_in_the_place_of_a_tag_is_no_tag() {
    assert_eq!(
        images(read(Source::Harbor, "untagged")),
        ["harbor.example.com/acme/shop@4", "harbor.example.com/acme/shop@5"]
    );
}

#[test]
fn harbor_without_an_address_takes_the_registry_that_is_declared() {
    let body = br#"{"type":"PUSH_ARTIFACT","event_data":{"resources":[{"tag":"1","resource_url":null}],
        "repository":{"repo_full_name":"acme/shop"}}}"#;
    let error = parse(Source::Harbor, &Headers::default(), body, None).expect_err("the registry is unknown");
    assert!(error.to_string().contains("spec.webhooks[].registry"), "{error}");
    assert_eq!(
        images(parse(Source::Harbor, &Headers::default(), body, Some("harbor.example.com"))),
        ["harbor.example.com/acme/shop:1"]
    );
}

#[test]
fn githubs_empty_tag_is_a_digest_alone() {
    assert_eq!(images(read(Source::GitHub, "untagged")), ["ghcr.io/acme/shop@b"]);
}

#[test]
fn githubs_sha256_version_is_never_a_tag() {
    assert_eq!(images(read(Source::GitHub, "version-only")), ["ghcr.io/acme/shop@a"]);
    let body = String::from_utf8(fixture("github/package"))
        .expect("text")
        .replace("\"1.4.2\"", &format!("\"{}\"", digest('c')));
    let found = hints(parse(Source::GitHub, &headers(&[("x-github-event", "package")]), body.as_bytes(), None));
    assert_eq!(found[0].tag, None);
}

#[test]
fn github_is_read_in_both_of_its_events_and_both_actions() {
    for name in ["package", "registry_package"] {
        for action in ["published", "updated"] {
            let body = String::from_utf8(fixture(&format!("github/{name}"))).expect("text");
            let body = body.replace("\"published\"", "\"updated\"").replace("\"updated\"", &format!("\"{action}\""));
            let found = parse(Source::GitHub, &headers(&[("x-github-event", name)]), body.as_bytes(), None);
            assert_eq!(images(found), ["ghcr.io/acme/shop:1.4.2@b"], "{name} {action}");
        }
    }
}

#[test]
fn docker_hub_may_send_numbers_and_texts_as_it_likes() {
    assert_eq!(read(Source::DockerHub, "lenient"), read(Source::DockerHub, "push"));
}

#[test]
fn null_in_an_optional_field_is_no_mistake() {
    for (source, body) in [
        (
            Source::Diun,
            r#"{"status":null,"image":"ghcr.io/a/b:1","hub_link":null,"digest":null,"created":null,"platform":null,
                "provider":null,"hostname":null,"metadata":null}"#,
        ),
        (Source::DockerHub, r#"{"push_data":{"tag":null},"repository":{"repo_name":"a/b","repo_url":null}}"#),
        (
            Source::Harbor,
            r#"{"type":"PUSH_ARTIFACT","event_data":{"repository":null,"resources":[{"resource_url":"h.io/a/b","tag":null,"digest":null}]}}"#,
        ),
        (Source::Quay, r#"{"docker_url":"quay.io/a/b","homepage":null,"updated_tags":null}"#),
        (
            Source::Distribution,
            r#"{"events":[{"action":"push","target":{"repository":"a/b","tag":"1","digest":null,"url":null},"request":{"host":"h.io"}},{"action":null,"target":null,"request":null}]}"#,
        ),
        (
            Source::Acr,
            r#"{"action":"push","target":{"repository":"a/b","tag":null,"digest":null},"request":{"host":"h.azurecr.io"}}"#,
        ),
        (
            Source::JFrog,
            r#"{"domain":"docker","event_type":"pushed","jpd_origin":"https://h.io","data":{"repo_key":"a","image_name":"b","tag":null,"sha256":null,"platforms":null}}"#,
        ),
        (
            Source::CloudEvents,
            r#"{"specversion":"1.0","type":"image","data":{"repositoryName":"a/b","registryUrl":null,"imageTag":null,"imageDigest":null}}"#,
        ),
        (Source::Generic, r#"{"image":"h.io/a/b","tag":null,"images":null}"#),
    ] {
        let found = hints(parse(source, &Headers::default(), body.as_bytes(), None));
        assert!(found.iter().all(|hint| hint.digest.is_none() && hint.created.is_none()), "{source}: {found:?}");
    }
    let body = br#"{"action":"published","package":{"name":"b","package_type":"container","ecosystem":null,"owner":{"login":"a"},
        "html_url":null,"package_version":{"version":null,"package_url":null,"container_metadata":{"tag":null,"manifest":null}}}}"#;
    assert_eq!(images(parse(Source::GitHub, &headers(&[("x-github-event", "package")]), body, None)), ["ghcr.io/a/b"]);
}

#[test]
fn what_diun_says_of_a_host_is_kept() {
    let found = hints(read(Source::Diun, "update")).remove(0);
    assert_eq!(found.host.as_deref(), Some("node-1"));
    assert_eq!(found.provider.as_deref(), Some("docker"));
    assert_eq!(found.platform.map(|platform| platform.to_string()).as_deref(), Some("linux/arm/v7"));
    assert_eq!(found.link.as_deref(), Some("https://hub.docker.com/r/crazymax/diun"));
    assert_eq!(found.created, None);
    let first = hints(read(Source::Diun, "new")).remove(0);
    assert_eq!(first.created, Some("2026-01-02T03:04:05Z".parse().expect("an instant")));
    assert_eq!(first.link, None);
}

#[test]
fn only_addresses_of_pages_are_links() {
    for link in
        ["javascript:alert(1)", "data:text/html,x", "//evil.example", "https://a b", "ftp://x", "https://\u{202e}"]
    {
        let body = serde_json::json!({"image": "a/b:1", "hub_link": link}).to_string();
        let found = hints(parse(Source::Diun, &Headers::default(), body.as_bytes(), None)).remove(0);
        assert_eq!(found.link, None, "{link}");
    }
}

#[test]
fn one_event_that_cannot_be_read_does_not_keep_the_others_back() {
    let body = br#"{"events":[{"action":"push","target":{"repository":"Acme/X","tag":"1"},"request":{"host":"h.io"}},
        {"action":"push","target":{"repository":"acme/x","tag":"1"},"request":{"host":"h.io"}}]}"#;
    assert_eq!(images(parse(Source::Distribution, &Headers::default(), body, None)), ["h.io/acme/x:1"]);
    let alone =
        br#"{"events":[{"action":"push","target":{"repository":"Acme/X","tag":"1"},"request":{"host":"h.io"}}]}"#;
    assert!(parse(Source::Distribution, &Headers::default(), alone, None).is_err());
}

#[test]
fn a_declared_registry_takes_the_place_of_the_senders() {
    for (source, name, want) in [
        (Source::Distribution, "push", "registry.acme.test/acme/shop:1.4.2@8"),
        (Source::GitLab, "pipeline", "registry.acme.test/acme/shop"),
        (Source::Harbor, "push", "registry.acme.test/acme/shop:1.4.2@1"),
        (Source::Quay, "push", "registry.acme.test/acme/shop:latest"),
        (Source::Acr, "push", "registry.acme.test/acme/shop:1.4.2@c"),
        (Source::JFrog, "pushed", "registry.acme.test/docker-local/acme/shop:1.4.2@d"),
        (Source::CloudEvents, "short", "registry.acme.test/acme/shop:1.4.2@e"),
    ] {
        let body = fixture(&format!("{source}/{name}"));
        let found = images(parse(source, &headers_of(source, name), &body, Some("registry.acme.test")));
        assert_eq!(found[0], want, "{source}");
    }
}

#[test]
fn an_event_in_binary_mode_has_its_type_in_a_header() {
    let all = headers(&[("ce-specversion", "1.0"), ("ce-type", "com.amazon.ecr.image.push"), ("ce-id", "7")]);
    let body = br#"{"repositoryName":"acme/shop","registryUrl":"registry.example.com","imageTag":"1"}"#;
    assert_eq!(images(parse(Source::CloudEvents, &all, body, None)), ["registry.example.com/acme/shop:1"]);
    assert_eq!(delivery_id(Source::CloudEvents, &all, body).as_deref(), Some("7"));
}

#[test]
fn malformed_bodies_are_told_apart_and_not_repeated() {
    for (source, body, want) in [
        (Source::Diun, "hunter2 hunter2", "not JSON at line 1"),
        (Source::Diun, "{", "not JSON"),
        (Source::Diun, "[]", "image is missing"),
        (Source::Diun, r#"{"status":"new"}"#, "image is missing"),
        (Source::Diun, r#"{"image":7}"#, "image is missing"),
        (Source::Diun, r#"{"image":"http://a/b"}"#, "image: an image name has no"),
        (Source::DockerHub, r#"{"push_data":{},"repository":{}}"#, "repository.repo_name is missing"),
        (Source::DockerHub, r#"{"push_data":"hunter2","repository":{}}"#, "not what this sender sends"),
        (Source::Harbor, r#"{"type":"PUSH_ARTIFACT"}"#, "event_data is missing"),
        (Source::Quay, r#"{"updated_tags":["1"]}"#, "docker_url is missing"),
        (Source::Acr, r#"{"action":"push"}"#, "target.repository is missing"),
        (Source::JFrog, r#"{"domain":"docker","event_type":"pushed"}"#, "data.repo_key is missing"),
        (Source::CloudEvents, "{}", "specversion is missing"),
        (Source::CloudEvents, r#"{"specversion":"1.0","type":"image"}"#, "data.repositoryName is missing"),
        (Source::GitHub, "{}", "X-GitHub-Event is missing"),
        (Source::Gitea, "{}", "X-Gitea-Event is missing"),
        (Source::Generic, r#"{"image":"A"}"#, "image: "),
    ] {
        let error = parse(source, &Headers::default(), body.as_bytes(), None).expect_err(body).to_string();
        assert!(error.contains(want), "{source} {body}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_list_has_an_end() {
    let tags = vec!["\"1\""; text::MAX_IMAGES + 1].join(",");
    let body = format!(r#"{{"docker_url":"quay.io/a/b","updated_tags":[{tags}]}}"#);
    let error = parse(Source::Quay, &Headers::default(), body.as_bytes(), None).expect_err("too many");
    assert!(error.to_string().contains("not what this sender sends"), "{error}");
}

/// A header that proves who sent the body.
fn proof(source: Source, secret: &[u8], body: &[u8]) -> (&'static str, String) {
    let text = String::from_utf8(secret.to_vec()).expect("text");
    let signed = format!("sha256={}", hex::encode(sign(secret, &[body])));
    match source {
        Source::GitHub => ("X-Hub-Signature-256", signed),
        Source::Generic => ("X-Signature", signed),
        Source::Harbor | Source::Diun => ("Authorization", text),
        Source::GitLab => ("X-Gitlab-Token", text),
        Source::Gitea => ("X-Gitea-Signature", hex::encode(sign(secret, &[body]))),
        Source::JFrog => ("X-JFrog-Event-Auth", text),
        Source::CloudEvents => ("X-Webhook-Secret", text),
        _ => ("Authorization", format!("Bearer {text}")),
    }
}

#[test]
fn either_of_two_secrets_verifies_and_no_other() {
    let body = br#"{"a":1}"#;
    for source in Source::ALL {
        let check = |headers: &[(&str, &str)], body: &[u8], secrets: &[&[u8]]| {
            verify(source, &self::headers(headers), body, secrets, now()).is_ok()
        };
        let (name, value) = proof(source, SECRET, body);
        let good = [(name, value.as_str())];
        assert!(check(&good, body, &[SECRET]), "{source}");
        assert!(check(&good, body, &[SECRET, b"the next one"]), "{source}");
        assert!(check(&good, body, &[b"the next one", SECRET]), "{source}");
        // A file that a secret was read from ends with a line break.
        assert!(check(&good, body, &[b"It's a Secret to Everybody\n"]), "{source}");
        assert!(!check(&good, body, &[b"the next one"]), "{source}");
        assert!(!check(&good, body, &[b"It's a Secret to Everybod"]), "{source}");
        assert!(!check(&[], body, &[SECRET]), "{source}: nothing is no signature");
        assert!(!check(&[(name, "")], body, &[SECRET]), "{source}");
        assert!(!check(&[(name, "")], body, &[b""]), "{source}: an empty secret is none");
        assert!(!check(&[(name, "")], body, &[b"\n"]), "{source}");
        assert!(!check(&[(name, &value[..value.len() - 1])], body, &[SECRET]), "{source}");
        assert!(!check(&[good[0], good[0]], body, &[SECRET]), "{source}: which of the two?");
        if value.starts_with("sha256=") || source == Source::Gitea {
            assert!(!check(&good, b"{\"a\":2}", &[SECRET]), "{source}: another body");
        }
    }
}

#[test]
fn without_a_secret_only_those_who_may_rely_on_the_path_are_let_through() {
    for source in Source::ALL {
        let relies_on_the_path = matches!(source, Source::Diun | Source::DockerHub | Source::Quay | Source::Generic);
        assert_eq!(verify(source, &Headers::default(), b"{}", &[], now()).is_ok(), relies_on_the_path, "{source}");
    }
}

#[test]
fn the_signature_is_that_of_the_raw_body() {
    // The example of GitHub's documentation.
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let all = headers(&[("x-hub-signature-256", signature)]);
    assert_eq!(verify(Source::GitHub, &all, b"Hello, World!", &[SECRET], now()), Ok(()));
    assert_eq!(verify(Source::GitHub, &all, b"Hello, World!\n", &[SECRET], now()), Err(Unsigned));
    assert_eq!(verify(Source::GitHub, &all, b"\"Hello, World!\"", &[SECRET], now()), Err(Unsigned));
}

#[test]
fn standard_webhooks_sign_id_time_and_body_for_five_minutes() {
    let key = b"0123456789abcdef01234567";
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    let secret = format!("whsec_{encoded}");
    let body = br#"{"image":"a/b:1"}"#;
    let at = now().as_second().to_string();
    let signature = sign(key, &[b"msg_1.", at.as_bytes(), b".", body]);
    let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature);
    let signature = format!("v1a,xx v1,AAAA v1,{signature}");
    let check = |id: &str, at: &str, then: Timestamp| {
        let all = headers(&[("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", &signature)]);
        verify(Source::Generic, &all, body, &[secret.as_bytes()], then).is_ok()
    };
    assert!(check("msg_1", &at, now()));
    assert!(check("msg_1", &at, now() + SignedDuration::from_secs(299)));
    assert!(!check("msg_1", &at, now() + SignedDuration::from_secs(301)), "a replay");
    assert!(!check("msg_1", &at, now() - SignedDuration::from_secs(301)));
    assert!(!check("msg_2", &at, now()));
    assert!(!check("msg_1", "soon", now()));
}

#[test]
fn a_bearer_and_a_plain_header_count_where_people_set_headers() {
    for source in [Source::Diun, Source::Distribution, Source::Acr, Source::JFrog, Source::Quay, Source::DockerHub] {
        for (name, value) in
            [("Authorization", "s3cret"), ("authorization", "bearer s3cret"), ("X-Webhook-Secret", "s3cret")]
        {
            let given = headers(&[(name, value)]);
            assert_eq!(verify(source, &given, b"{}", &[b"s3cret"], now()), Ok(()), "{source} {name}: {value}");
        }
        let basic = headers(&[("authorization", "Basic s3cret")]);
        assert_eq!(verify(source, &basic, b"{}", &[b"s3cret"], now()), Err(Unsigned), "{source}");
    }
    let signed = hex::encode(sign(b"s3cret", &[b"{}"]));
    let given = headers(&[("x-jfrog-event-auth", &signed)]);
    assert_eq!(verify(Source::JFrog, &given, b"{}", &[b"s3cret"], now()), Ok(()));
}

#[test]
fn deliveries_are_known_by_the_senders_name_for_them() {
    let cases: &[(Source, &[(&str, &str)], &str, Option<&str>)] = &[
        (
            Source::GitHub,
            &[("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")],
            "{}",
            Some("72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ),
        (Source::GitLab, &[("X-Gitlab-Event-UUID", "13792a34")], "{}", Some("13792a34")),
        (Source::Gitea, &[("X-Gitea-Delivery", "f6266f16")], "{}", Some("f6266f16")),
        (Source::Generic, &[("webhook-id", "msg_1")], "{}", Some("msg_1")),
        (Source::CloudEvents, &[], r#"{"specversion":"1.0","id":"9"}"#, Some("9")),
        (Source::Harbor, &[], r#"{"specversion":"1.0","id":"9"}"#, Some("9")),
        (Source::Harbor, &[], r#"{"type":"PUSH_ARTIFACT","id":"9"}"#, None),
        (Source::Diun, &[("X-GitHub-Delivery", "1")], "{}", None),
        (Source::GitHub, &[("X-GitHub-Delivery", "a b")], "{}", None),
        (Source::GitHub, &[], "{}", None),
    ];
    for (source, given, body, want) in cases {
        assert_eq!(
            delivery_id(*source, &headers(given), body.as_bytes()).as_deref(),
            *want,
            "{source} {given:?} {body}"
        );
    }
    let long = "x".repeat(MAX_ID + 1);
    assert_eq!(delivery_id(Source::GitHub, &headers(&[("x-github-delivery", &long)]), b"{}"), None);
}

#[test]
fn what_is_kept_of_the_headers_is_no_secret() {
    let given = headers(&[
        ("Authorization", "s3cret"),
        ("X-Gitlab-Token", "s3cret"),
        ("X-Hub-Signature-256", "s3cret"),
        ("X-GitHub-Event", "package"),
        ("ce-type", "t"),
    ]);
    assert_eq!(given.kept().collect::<Vec<_>>(), [("x-github-event", "package"), ("ce-type", "t")]);
    assert!(!format!("{given:?}").contains("s3cret"));
}

#[test]
fn sources_read_back_as_written() {
    for source in Source::ALL {
        assert_eq!(source.to_string().parse(), Ok(source));
    }
    assert!("".parse::<Source>().is_err() && "Diun".parse::<Source>().is_err());
}

proptest! {
    /// Whatever is sent is answered, and an event with images has at least one, none with a digest for a tag.
    #[test]
    fn any_body_is_answered(body in prop::collection::vec(any::<u8>(), 0..200), which in 0..Source::ALL.len(), event in "[a-z_]{0,8}") {
        answered(Source::ALL[which], &event, &body);
    }

    /// The same for bodies that are nearly right.
    #[test]
    fn any_changed_body_is_answered(which in 0..36usize, at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let all = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/webhooks")).unwrap();
        let mut files: Vec<_> = all.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap()).map(|file| file.unwrap().path()).collect();
        files.sort();
        let path = &files[which % files.len()];
        let source = path.parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
        let mut body = std::fs::read(path).unwrap();
        let at = at.index(body.len());
        if cut { body.remove(at); } else { body[at] = to; }
        for event in ["package", "pull_request", "Merge Request Hook"] {
            answered(source, event, &body);
        }
    }
}

fn answered(source: Source, event: &str, body: &[u8]) {
    for registry in [None, Some("registry.example.com")] {
        match parse(
            source,
            &headers(&[("x-github-event", event), ("x-gitea-event", event), ("x-gitlab-event", event)]),
            body,
            registry,
        ) {
            Ok(Event::Images(images)) => {
                assert!(!images.is_empty());
                assert!(images.iter().all(|hint| hint.tag.as_ref().is_none_or(|tag| !tag.contains(':'))));
            }
            Ok(Event::PullRequest(news)) => {
                let PullRequest { number, head, title, .. } = &news.pull_request;
                assert!(*number > 0 && matches!(head.len(), 40 | 64) && title.chars().count() <= 201, "{news:?}");
            }
            Ok(Event::Ignored { what }) => assert!(what.chars().count() <= 81),
            Err(error) => assert!(error.to_string().chars().count() < 600, "{error}"),
        }
    }
}
