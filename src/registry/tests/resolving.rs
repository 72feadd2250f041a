//! Tags and digests: what they point at, for which platform, and whether the bytes agree.

use wiremock::matchers::header_exists;

use super::*;
use crate::domain::image::{Digest, Platform};

const MANIFEST: &str = "/v2/shop/web/manifests/1.0.0";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn config(architecture: &str) -> String {
    format!(r#"{{"os":"linux","architecture":"{architecture}"}}"#)
}

pub(super) fn image(config: &str) -> String {
    let digest = Digest::of(config.as_bytes());
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":1}},"layers":[]}}"#
    )
}

pub(super) fn index(platforms: &[(&str, Digest)]) -> String {
    let entry = |(platform, digest): &(&str, Digest)| {
        let (os, architecture) = platform.split_once('/').unwrap();
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
        )
    };
    let entries: Vec<String> = platforms.iter().map(entry).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","))
}

pub(super) fn manifest(body: &str, media_type: &str) -> ResponseTemplate {
    let digest = Digest::of(body.as_bytes()).to_string();
    ResponseTemplate::new(200)
        .append_header("Docker-Content-Digest", digest.as_str())
        .set_body_raw(body.as_bytes().to_vec(), media_type)
}

/// To HEAD and GET.
pub(super) async fn serves(server: &MockServer, at: &str, response: ResponseTemplate) {
    Mock::given(path(at)).respond_with(response).mount(server).await;
}

async fn resolve(
    server: &MockServer,
    selector: Selector<'_>,
    platform: Option<&str>,
) -> Result<Resolved, RegistryError> {
    let repository = shop(server);
    let platform = platform.map(|text| text.parse::<Platform>().unwrap());
    let result = client().resolve(&repository, selector, platform.as_ref(), &anonymous()).await;
    if let Err(error) = &result {
        well_said(error, &repository);
    }
    result
}

const TAG: Selector<'_> = Selector::Tag("1.0.0");

#[tokio::test]
async fn a_new_digest_costs_one_get_and_from_then_on_one_head() {
    let server = MockServer::start().await;
    let body = index(&[("linux/amd64", Digest::of(b"amd"))]);
    serves(&server, MANIFEST, manifest(&body, OCI_INDEX)).await;
    let registry = client();
    let (repository, access, amd64) = (shop(&server), anonymous(), "linux/amd64".parse().unwrap());
    for platform in [None, None, Some(&amd64), None] {
        let resolved = registry.resolve(&repository, TAG, platform, &access).await.unwrap();
        assert_eq!(resolved.digest, Digest::of(body.as_bytes()));
        assert_eq!(resolved.media_type, OCI_INDEX);
        assert_eq!(resolved.platform_manifest_digest.is_some(), platform.is_some());
    }
    let requests = server.received_requests().await.unwrap();
    let said: Vec<String> = requests.iter().map(|request| request.method.to_string()).collect();
    assert_eq!(said, ["HEAD", "GET", "HEAD", "HEAD", "HEAD"]);
    let accept = requests[0].headers["accept"].to_str().unwrap();
    assert!(accept.contains(OCI_INDEX) && accept.contains("docker.distribution.manifest.list.v2+json"), "{accept}");
}

#[tokio::test]
async fn a_tag_that_moves_between_head_and_get_is_what_was_read_last() {
    let server = MockServer::start().await;
    let (before, after) = (index(&[("linux/amd64", Digest::of(b"1"))]), index(&[("linux/amd64", Digest::of(b"2"))]));
    Mock::given(method("HEAD")).respond_with(manifest(&before, OCI_INDEX)).mount(&server).await;
    answers(&server, MANIFEST, manifest(&after, OCI_INDEX)).await;
    for platform in [None, Some("linux/amd64")] {
        let resolved = resolve(&server, TAG, platform).await.unwrap();
        assert_eq!(resolved.digest, Digest::of(after.as_bytes()));
        assert_eq!(resolved.platform_manifest_digest, platform.map(|_| Digest::of(b"2")), "of one and the same image");
    }
}

#[tokio::test]
async fn where_head_does_not_tell_get_does() {
    let body = image(&config("amd64"));
    let heads = [
        ResponseTemplate::new(405),
        ResponseTemplate::new(404),
        ResponseTemplate::new(200),
        ResponseTemplate::new(200).set_body_raw("", OCI_MANIFEST),
        ResponseTemplate::new(200).append_header("Docker-Content-Digest", Digest::of(b"x").to_string().as_str()),
    ];
    for head in heads {
        let server = MockServer::start().await;
        Mock::given(method("HEAD")).respond_with(head).mount(&server).await;
        answers(&server, MANIFEST, ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), OCI_MANIFEST))
            .await;
        let resolved = resolve(&server, TAG, None).await.unwrap();
        assert_eq!(resolved.digest, Digest::of(body.as_bytes()), "computed from the bytes");
    }
}

#[tokio::test]
async fn the_platform_is_found_in_an_index() {
    let server = MockServer::start().await;
    let (amd, arm) = (Digest::of(b"amd"), Digest::of(b"arm"));
    let body = index(&[("linux/amd64", amd), ("linux/arm64", arm), ("unknown/unknown", amd)]);
    serves(&server, MANIFEST, manifest(&body, OCI_INDEX)).await;
    let resolved = resolve(&server, TAG, Some("linux/arm64")).await.unwrap();
    assert_eq!((resolved.digest, resolved.platform_manifest_digest), (Digest::of(body.as_bytes()), Some(arm)));
    assert_eq!(resolved.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);

    let error = resolve(&server, TAG, Some("linux/s390x")).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("PlatformMissing", false));
    assert!(error.to_string().contains("not made for linux/s390x, only for linux/amd64, linux/arm64;"), "{error}");
}

#[tokio::test]
async fn the_platform_of_a_single_image_is_in_its_configuration() {
    let server = MockServer::start().await;
    let (config, storage) = (config("amd64"), MockServer::start().await);
    let body = image(&config);
    serves(&server, MANIFEST, manifest(&body, OCI_MANIFEST)).await;
    let away = format!("http://localhost:{}/blob", storage.address().port());
    let blob = format!("/v2/shop/web/blobs/{}", Digest::of(config.as_bytes()));
    answers(&server, &blob, ResponseTemplate::new(307).append_header("Location", away.as_str())).await;
    answers(&storage, "/blob", ResponseTemplate::new(200).set_body_string(config)).await;

    let error = resolve(&server, TAG, Some("linux/amd64")).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAddressRefused", "{error}");
    let registry = client();
    let host = format!("localhost:{}", storage.address().port());
    registry.configure([(host, HostSettings::default())].into());
    let (repository, access) = (shop(&server), anonymous());
    let resolve = async |platform: Option<&str>| {
        let platform = platform.map(|text| text.parse::<Platform>().unwrap());
        registry.resolve(&repository, TAG, platform.as_ref(), &access).await
    };
    let read = asked(&server).await;
    let resolved = resolve(None).await.unwrap();
    assert_eq!((asked(&server).await, asked(&storage).await), (read + 2, 0), "no configuration unless it matters");
    assert_eq!(resolve(Some("linux/amd64")).await.unwrap().platform_manifest_digest, Some(resolved.digest));
    let error = resolve(Some("linux/arm64")).await.unwrap_err();
    assert!(error.to_string().contains("only for linux/amd64;"), "{error}");
    assert_eq!(asked(&storage).await, 1, "it is read once");
}

#[tokio::test]
async fn a_digest_is_checked_against_the_bytes() {
    let body = image(&config("amd64"));
    let (right, wrong) = (Digest::of(body.as_bytes()), Digest::of(b"something else"));
    let announcing = |digest: Digest| {
        let response = ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), OCI_MANIFEST);
        response.append_header("Docker-Content-Digest", digest.to_string().as_str())
    };
    let plain = ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), OCI_MANIFEST);
    // What is asked for, what the answer is, and whether it is believed, with a GET and with a HEAD.
    let cases = [
        (TAG, announcing(right), Some("linux/amd64"), true),
        (TAG, announcing(wrong), Some("linux/amd64"), false),
        (TAG, plain.clone(), Some("linux/amd64"), true),
        (Selector::Digest(right), announcing(right), Some("linux/amd64"), true),
        (Selector::Digest(right), announcing(right), None, true),
        (Selector::Digest(wrong), announcing(right), Some("linux/amd64"), false),
        (Selector::Digest(wrong), announcing(right), None, false),
        (Selector::Digest(wrong), announcing(wrong), Some("linux/amd64"), false),
        (Selector::Digest(wrong), plain.clone(), None, false),
    ];
    for (selector, answer, platform, believed) in cases {
        let server = MockServer::start().await;
        serves(&server, &format!("/v2/shop/web/manifests/{selector}"), answer).await;
        let blob = format!("/v2/shop/web/blobs/{}", Digest::of(config("amd64").as_bytes()));
        answers(&server, &blob, ResponseTemplate::new(200).set_body_string(config("amd64"))).await;
        match resolve(&server, selector, platform).await {
            Ok(resolved) => assert!(believed && resolved.digest == right, "{selector} {platform:?}"),
            Err(error) => assert!(!believed && error.reason() == "DigestMismatch", "{selector} {platform:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_configuration_is_checked_too() {
    let server = MockServer::start().await;
    serves(&server, MANIFEST, manifest(&image(&config("amd64")), OCI_MANIFEST)).await;
    let blob = format!("/v2/shop/web/blobs/{}", Digest::of(config("amd64").as_bytes()));
    answers(&server, &blob, ResponseTemplate::new(200).set_body_string(config("arm64"))).await;
    let error = resolve(&server, TAG, Some("linux/amd64")).await.unwrap_err();
    assert_eq!(error.reason(), "DigestMismatch", "{error}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let cases = [
        ("MANIFEST_UNKNOWN", "TagNotFound", "has no image `1.0.0`"),
        ("NAME_UNKNOWN", "RepositoryNotFound", "there is no repository"),
        ("", "TagNotFound", "has no image `1.0.0`"),
    ];
    for (code, reason, says) in cases {
        let server = MockServer::start().await;
        let body = serde_json::json!({ "errors": [{ "code": code }] });
        serves(&server, MANIFEST, ResponseTemplate::new(404).set_body_json(body)).await;
        for platform in [None, Some("linux/amd64")] {
            let error = resolve(&server, TAG, platform).await.unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), (reason, false), "{code}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

#[tokio::test]
async fn a_text_that_is_no_tag_is_not_asked_for() {
    let server = MockServer::start().await;
    for tag in ["../../_catalog", "a b", "", "1.0.0?x=y", "1.0.0\n"] {
        let error = resolve(&server, Selector::Tag(tag), None).await.unwrap_err();
        assert_eq!(error.reason(), "TagNotFound", "{tag:?}");
    }
    assert_eq!(asked(&server).await, 0);
}

#[tokio::test]
async fn statuses_keep_their_class() {
    let cases =
        [(429, "RegistryRateLimited"), (503, "RegistryUnavailable"), (403, "RegistryDenied"), (401, "RegistryDenied")];
    for (status, reason) in cases {
        let server = MockServer::start().await;
        serves(&server, MANIFEST, ResponseTemplate::new(status)).await;
        for platform in [None, Some("linux/amd64")] {
            assert_eq!(resolve(&server, TAG, platform).await.unwrap_err().reason(), reason, "{status}");
        }
    }
}

#[tokio::test]
async fn manifests_are_bounded() {
    let server = MockServer::start().await;
    let body = image(&config("amd64"));
    serves(&server, MANIFEST, manifest(&body, OCI_MANIFEST)).await;
    let registry = small(Limits { manifest_bytes: body.len() - 1, ..Limits::default() });
    let platform = "linux/amd64".parse().unwrap();
    let error = registry.resolve(&shop(&server), TAG, Some(&platform), &anonymous()).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerTooLarge", "{error}");
    assert_eq!(Limits::default().manifest_bytes, 4 << 20);
}

#[tokio::test]
async fn what_is_no_runnable_image_is_said() {
    let chart =
        image("{}").replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    let cases = [
        (manifest(&chart, OCI_MANIFEST), "ImageUnsupported"),
        (manifest("{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"), "ImageUnsupported"),
        (manifest("<html>", "text/html"), "RegistryAnswerMalformed"),
        (manifest(&image("{}")[..40], OCI_MANIFEST), "RegistryAnswerMalformed"),
        (manifest(&image("{}"), OCI_INDEX), "RegistryAnswerMalformed"),
    ];
    for (answer, reason) in cases {
        let server = MockServer::start().await;
        serves(&server, MANIFEST, answer).await;
        for platform in [None, Some("linux/amd64")] {
            let error = resolve(&server, TAG, platform).await.unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
        }
    }
}

#[tokio::test]
async fn a_token_serves_head_and_get_of_a_repository() {
    let server = MockServer::start().await;
    let body = image(&config("amd64"));
    Mock::given(path(MANIFEST))
        .and(header_exists("authorization"))
        .respond_with(manifest(&body, OCI_MANIFEST))
        .mount(&server)
        .await;
    let text = format!(r#"Bearer realm="{}/token""#, server.uri());
    let wants = ResponseTemplate::new(401).append_header("WWW-Authenticate", text.as_str());
    Mock::given(path(MANIFEST)).respond_with(wants).with_priority(9).mount(&server).await;
    let token = ResponseTemplate::new(200).set_body_string(r#"{"token":"t1","expires_in":300}"#);
    Mock::given(path("/token")).respond_with(token).expect(1).mount(&server).await;
    let registry = client();
    for _ in 0..2 {
        registry.resolve(&shop(&server), TAG, None, &anonymous()).await.unwrap();
    }
    assert_eq!(asked(&server).await, 5, "a 401, HEAD, GET, and HEAD; and the token");
}

#[tokio::test]
async fn what_is_known_not_to_run_is_not_read_again() {
    let server = MockServer::start().await;
    let chart =
        image("{}").replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    serves(&server, MANIFEST, manifest(&chart, OCI_MANIFEST)).await;
    let registry = client();
    for requests in [2, 3, 4] {
        let error = registry.resolve(&shop(&server), TAG, None, &anonymous()).await.unwrap_err();
        assert_eq!((error.reason(), asked(&server).await), ("ImageUnsupported", requests));
    }
}
