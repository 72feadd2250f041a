//! When an image was created.

use super::resolving::{index, manifest, serves};
use super::*;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A single image with this configuration, and its digest.
async fn image(server: &MockServer, config: &str) -> Digest {
    let body = super::resolving::image(config);
    let digest = Digest::of(body.as_bytes());
    serves(server, &format!("/v2/shop/web/manifests/{digest}"), manifest(&body, OCI_MANIFEST)).await;
    let blob = format!("/v2/shop/web/blobs/{}", Digest::of(config.as_bytes()));
    answers(server, &blob, ResponseTemplate::new(200).set_body_string(config)).await;
    digest
}

async fn built(
    server: &MockServer,
    digest: Digest,
    platform: Option<&str>,
) -> Result<Option<Timestamp>, RegistryError> {
    let platform = platform.map(|text| text.parse().unwrap());
    client().built(&shop(server), digest, platform.as_ref(), &anonymous()).await
}

#[tokio::test]
async fn the_date_is_in_the_configuration() {
    let at = "2026-01-02T03:04:05.123456789Z";
    let cases = [
        (format!(r#"{{"created":"{at}"}}"#), Some(at)),
        (r#"{"created":"2026-01-02T04:04:05+01:00"}"#.into(), Some("2026-01-02T03:04:05Z")),
        ("{}".into(), None),
        (r#"{"created":null}"#.into(), None),
        (r#"{"created":"yesterday"}"#.into(), None),
        (r#"{"created":"1970-01-01T00:00:00Z"}"#.into(), None),
        (r#"{"created":"0001-01-01T00:00:00Z"}"#.into(), None),
    ];
    for (config, want) in cases {
        let server = MockServer::start().await;
        let digest = image(&server, &config).await;
        assert_eq!(built(&server, digest, None).await.unwrap(), want.map(|at| at.parse().unwrap()), "{config}");
        assert_eq!(asked(&server).await, 2);
    }
}

#[tokio::test]
async fn the_date_of_an_index_is_that_of_its_image() {
    let server = MockServer::start().await;
    let amd = image(&server, r#"{"created":"2026-01-02T00:00:00Z","architecture":"amd64"}"#).await;
    let arm = image(&server, r#"{"created":"2026-01-03T00:00:00Z","architecture":"arm64"}"#).await;
    let body = index(&[("linux/amd64", amd), ("linux/arm64", arm)]);
    let digest = Digest::of(body.as_bytes());
    let media_type = "application/vnd.oci.image.index.v1+json";
    serves(&server, &format!("/v2/shop/web/manifests/{digest}"), manifest(&body, media_type)).await;
    for (platform, day) in [(None, 2), (Some("linux/amd64"), 2), (Some("linux/arm64"), 3)] {
        let want = format!("2026-01-0{day}T00:00:00Z").parse().unwrap();
        assert_eq!(built(&server, digest, platform).await.unwrap(), Some(want));
    }
    let error = built(&server, digest, Some("linux/s390x")).await.unwrap_err();
    assert_eq!(error.reason(), "PlatformMissing", "{error}");
}

#[tokio::test]
async fn what_cannot_run_has_no_date() {
    let server = MockServer::start().await;
    let body = super::resolving::image("{}")
        .replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    let digest = Digest::of(body.as_bytes());
    serves(&server, &format!("/v2/shop/web/manifests/{digest}"), manifest(&body, OCI_MANIFEST)).await;
    assert_eq!(built(&server, digest, None).await.unwrap_err().reason(), "ImageUnsupported");
    assert_eq!(built(&server, Digest::of(b"nothing"), None).await.unwrap_err().reason(), "TagNotFound");
}
