//! Deliveries from bytes that no sender sent: read or refused in bounded words, and believed only with a signature.
//!
//! The first byte says who is said to have sent it, and in which way.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::{Corpus, fuzz_target};
use stagekeeper_fuzz::webhook::{Event, Headers, Source, delivery_id, parse, verify};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&which, body)) = data.split_first() else { return Corpus::Reject };
    let source = Source::ALL[usize::from(which & 0x0f) % Source::ALL.len()];
    let event = match (which & 0x10 == 0, which & 0x80 == 0) {
        (true, true) => "package",
        (false, true) => "registry_package",
        (_, false) => "pull_request",
    };
    let mut headers = vec![("X-GitHub-Event", event), ("X-Gitea-Event", event)];
    if which & 0x20 != 0 {
        headers.extend([("ce-specversion", "1.0"), ("ce-type", "com.amazon.ecr.image.push")]);
        headers.push(("X-Gitlab-Event", if which & 0x80 == 0 { "Pipeline Hook" } else { "Merge Request Hook" }));
    }
    let headers: Headers = headers.into_iter().collect();
    let registry = (which & 0x40 != 0).then_some("registry.example.com:5000");
    match parse(source, &headers, body, registry) {
        Ok(Event::Images(images)) => {
            assert!(!images.is_empty());
            for hint in images {
                assert!(hint.tag.is_none_or(|tag| !tag.contains(':') && tag.len() <= 128));
                assert!(hint.link.is_none_or(|link| link.starts_with("http://") || link.starts_with("https://")));
            }
        }
        Ok(Event::PullRequest(news)) => {
            assert!(news.pull_request.number > 0 && !news.repository.is_empty() && !news.pull_request.head.is_empty());
            assert!(news.pull_request.title.chars().count() <= 201 && news.pull_request.labels.len() <= 100);
        }
        Ok(Event::Ignored { what }) => assert!(what.chars().count() <= 81),
        Err(malformed) => assert!(malformed.to_string().chars().count() < 600),
    }
    if let Some(id) = delivery_id(source, &headers, body) {
        assert!(!id.is_empty() && id.len() <= 200);
    }
    // What stands in the body, a signature for example, is no header.
    let text = String::from_utf8_lossy(body).into_owned();
    let claimed: Headers =
        ["authorization", "x-hub-signature-256", "x-signature", "x-gitlab-token", "x-gitea-signature", "x-webhook-secret", "x-jfrog-event-auth"]
            .into_iter()
            .map(|name| (name, text.clone()))
            .collect();
    assert!(verify(source, &claimed, body, &[b"a secret that nobody knows"], Timestamp::UNIX_EPOCH).is_err());
    Corpus::Keep
});
