//! The registry client against a real registry: what is pushed over plain HTTP is listed, resolved and chosen.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it cannot reach")]

use std::sync::Arc;

use reqwest::{Client, Response, Url};
use stagekeeper::domain::clock::{Ids as _, SystemClock, SystemIds};
use stagekeeper::domain::image::{Digest, Platform, Repository};
use stagekeeper::domain::policy::{PolicySpec, TagPolicy};
use stagekeeper::registry::{Access, Credential, Registry, RegistryError, RegistryOptions, Selector, Tags};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A repository of the test's own in the test registry, and the means to push to it.
struct Pusher {
    http: Client,
    base: Url,
    repository: Repository,
}

fn pusher() -> Pusher {
    let registry = std::env::var("STAGEKEEPER_TEST_REGISTRY").expect(
        "STAGEKEEPER_TEST_REGISTRY is not set: run this through `make test`, which starts a registry and sets it",
    );
    let path = format!("client-test/{}", SystemIds.next());
    Pusher {
        http: Client::builder().no_proxy().build().unwrap(),
        base: format!("http://{registry}/v2/{path}/").parse().unwrap(),
        repository: format!("{registry}/{path}").parse().unwrap(),
    }
}

impl Pusher {
    async fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let started = self.http.post(self.base.join("blobs/uploads/").unwrap()).send().await.unwrap();
        let location = started.headers()["location"].to_str().unwrap();
        let mut upload = self.base.join(location).unwrap();
        upload.query_pairs_mut().append_pair("digest", &digest.to_string());
        created(self.http.put(upload).body(bytes.to_vec()).send().await.unwrap());
        digest
    }

    /// An image without content. Its manifest's digest, as the registry computed it.
    async fn image(&self, tag: &str, platform: &str, docker: bool) -> Digest {
        let (os, architecture) = platform.split_once('/').unwrap();
        let (manifest_type, config_type, layer_type) =
            if docker { (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER) } else { (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER) };
        let config = format!(
            r#"{{"os":"{os}","architecture":"{architecture}","created":"2026-01-02T03:04:05Z","config":{{"Env":["TAG={tag}"]}}}}"#
        );
        let layer = b"no files";
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {"mediaType": config_type, "digest": self.blob(config.as_bytes()).await, "size": config.len()},
            "layers": [{"mediaType": layer_type, "digest": self.blob(layer).await, "size": layer.len()}],
        });
        self.manifest(tag, manifest_type, &manifest.to_string()).await
    }

    async fn manifest(&self, tag: &str, media_type: &str, body: &str) -> Digest {
        let url = self.base.join(&format!("manifests/{tag}")).unwrap();
        let request = self.http.put(url).header("content-type", media_type).body(body.to_owned());
        let response = created(request.send().await.unwrap());
        response.headers()["docker-content-digest"].to_str().unwrap().parse().unwrap()
    }

    async fn index(&self, tag: &str, images: &[(&str, Digest)]) -> Digest {
        let mut entries = Vec::new();
        for (platform, digest) in images {
            let (os, architecture) = platform.split_once('/').unwrap();
            let size = self.http.get(self.base.join(&format!("manifests/{digest}")).unwrap());
            let size = size.header("accept", OCI_MANIFEST).send().await.unwrap().bytes().await.unwrap().len();
            entries.push(serde_json::json!({
                "mediaType": OCI_MANIFEST, "digest": digest, "size": size,
                "platform": {"os": os, "architecture": architecture},
            }));
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        self.manifest(tag, OCI_INDEX, &index.to_string()).await
    }
}

#[track_caller]
fn created(response: Response) -> Response {
    assert_eq!(response.status(), 201, "{}", response.url());
    response
}

fn client() -> Registry {
    Registry::new(RegistryOptions::default(), Arc::new(SystemClock)).unwrap()
}

async fn tags(client: &Registry, repository: &Repository) -> Result<Tags, RegistryError> {
    client.list_tags(repository, &access(), None).await.map(|listing| listing.tags().unwrap())
}

fn access() -> Access {
    Access { credential: Credential::Anonymous, insecure: true }
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_is_pushed_is_listed_and_resolved() {
    let (pusher, client) = (pusher(), client());
    let repository = &pusher.repository;
    client.ping(repository, &access()).await.unwrap();

    let oci = pusher.image("1.0.0", "linux/amd64", false).await;
    let docker = pusher.image("1.1.0", "linux/amd64", true).await;
    let arm = pusher.image("1.2.0-arm64", "linux/arm64", false).await;
    let index = pusher.index("1.2.0", &[("linux/amd64", oci), ("linux/arm64", arm)]).await;

    let tags = tags(&client, repository).await.unwrap();
    assert_eq!(tags.names, ["1.0.0", "1.1.0", "1.2.0", "1.2.0-arm64"]);

    let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
    for (tag, digest, wanted, manifest, media_type) in [
        ("1.0.0", oci, None, None, OCI_MANIFEST),
        ("1.0.0", oci, Some(&amd64), Some(oci), OCI_MANIFEST),
        ("1.1.0", docker, None, None, DOCKER_MANIFEST),
        ("1.1.0", docker, Some(&amd64), Some(docker), DOCKER_MANIFEST),
        ("1.2.0", index, None, None, OCI_INDEX),
        ("1.2.0", index, Some(&amd64), Some(oci), OCI_INDEX),
        ("1.2.0", index, Some(&arm64), Some(arm), OCI_INDEX),
    ] {
        for selector in [Selector::Tag(tag), Selector::Digest(digest)] {
            let resolved = client.resolve(repository, selector, wanted, &access()).await.unwrap();
            assert_eq!(resolved.digest, digest, "{tag} as {selector}");
            assert_eq!(resolved.platform_manifest_digest, manifest, "{tag} as {selector}");
            assert_eq!(resolved.media_type, media_type, "{tag} as {selector}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let (pusher, client) = (pusher(), client());
    let repository = &pusher.repository;
    let error = tags(&client, repository).await.unwrap_err();
    assert!(matches!(error, RegistryError::RepositoryNotFound { .. }), "{error}");
    let digest = pusher.image("1.0.0", "linux/arm64", false).await;

    let amd64 = platform("linux/amd64");
    for wanted in [None, Some(&amd64)] {
        for selector in [Selector::Tag("9.9.9"), Selector::Digest(Digest::of(b"nothing"))] {
            let error = client.resolve(repository, selector, wanted, &access()).await.unwrap_err();
            assert!(matches!(error, RegistryError::TagNotFound { .. }), "{error}");
        }
    }
    let error = client.resolve(repository, Selector::Digest(digest), Some(&amd64), &access()).await.unwrap_err();
    let RegistryError::PlatformMissing { offered, .. } = error else { panic!("{error}") };
    assert_eq!(offered, [platform("linux/arm64")]);
}

#[tokio::test]
async fn a_tag_that_moves_resolves_to_its_new_digest() {
    let (pusher, client) = (pusher(), client());
    let first = pusher.image("latest", "linux/amd64", false).await;
    let access = access();
    let resolve = || client.resolve(&pusher.repository, Selector::Tag("latest"), None, &access);
    assert_eq!(resolve().await.unwrap().digest, first);
    let second = pusher.image("latest", "linux/arm64", false).await;
    assert_ne!(first, second);
    assert_eq!(resolve().await.unwrap().digest, second);
}

#[tokio::test]
async fn the_policy_chooses_from_what_the_registry_lists() {
    let (pusher, client) = (pusher(), client());
    pusher.image("latest", "linux/amd64", false).await;
    let url = pusher.base.join("manifests/latest").unwrap();
    let manifest = pusher.http.get(url).header("accept", OCI_MANIFEST).send().await.unwrap().text().await.unwrap();
    for patch in 0..=100 {
        pusher.manifest(&format!("1.0.{patch}"), OCI_MANIFEST, &manifest).await;
    }
    let tags = tags(&client, &pusher.repository).await.unwrap();
    assert_eq!(tags.names.len(), 102);

    let policy = PolicySpec { semver: Some("1.0.x".into()), ..PolicySpec::default() };
    let policy = TagPolicy::parse(&policy).unwrap();
    let verdict = policy.choose(&tags.names, Some("1.0.99"));
    assert_eq!(verdict.newer(), Some("1.0.100"), "{}", verdict.reason());
    assert!(verdict.reason().contains("101 acceptable tags of 102"), "{}", verdict.reason());
}

#[tokio::test]
async fn a_thousand_tags_cost_one_request_once_the_registry_is_known() {
    let (pusher, client) = (pusher(), client());
    pusher.image("t0", "linux/amd64", false).await;
    let url = pusher.base.join("manifests/t0").unwrap();
    let manifest = pusher.http.get(url).header("accept", OCI_MANIFEST).send().await.unwrap().text().await.unwrap();
    for number in 1..1000 {
        pusher.manifest(&format!("t{number}"), OCI_MANIFEST, &manifest).await;
    }
    for pages in [2, 1, 1] {
        let tags = tags(&client, &pusher.repository).await.unwrap();
        assert_eq!((tags.names.len(), tags.pages), (1000, pages));
    }
}

#[tokio::test]
async fn the_date_of_an_image_is_read_from_its_configuration() {
    let (pusher, client) = (pusher(), client());
    let created = Some("2026-01-02T03:04:05Z".parse().unwrap());
    let oci = pusher.image("1.0.0", "linux/amd64", false).await;
    let docker = pusher.image("1.1.0", "linux/amd64", true).await;
    let index = pusher.index("1.2.0", &[("linux/amd64", oci)]).await;
    let amd64 = platform("linux/amd64");
    for digest in [oci, docker, index] {
        for wanted in [None, Some(&amd64)] {
            assert_eq!(client.built(&pusher.repository, digest, wanted, &access()).await.unwrap(), created);
        }
    }
}

#[tokio::test]
async fn a_signature_that_looks_like_an_image_does_not_resolve() {
    let (pusher, client) = (pusher(), client());
    let config = b"{}";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": pusher.blob(config).await, "size": config.len()},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": pusher.blob(b"signed").await,
            "size": 6,
        }],
    });
    pusher.manifest("signed", OCI_MANIFEST, &manifest.to_string()).await;
    for _ in 0..2 {
        let error = client.resolve(&pusher.repository, Selector::Tag("signed"), None, &access()).await.unwrap_err();
        assert!(
            matches!(&error, RegistryError::Unsupported { media_type, .. } if media_type.contains("cosign")),
            "{error}"
        );
    }
}
