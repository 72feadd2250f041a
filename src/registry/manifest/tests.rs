//! Manifests of every kind that registries send, and of kinds that they should not.

use super::*;
use proptest::prelude::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

fn image(config_type: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{A}","size":2}},"layers":[]}}"#)
}

#[test]
fn an_index_lists_its_images_and_nothing_else() {
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[
            {{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1,"platform":{{"os":"linux","architecture":"amd64"}}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"{B}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}},
            {{"mediaType":"application/vnd.example","digest":"{A}","size":1,"platform":{{"os":"linux","architecture":"s390x"}}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"sha512:00","size":1,"platform":{{"os":"linux","architecture":"ppc64le"}}}},
            {{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1,"platform":null}}
        ]}}"#
    );
    let want = vec![("linux/amd64".parse().unwrap(), digest(A)), ("linux/arm64".parse().unwrap(), digest(B))];
    let manifest = parse(index.as_bytes(), Some(OCI_INDEX)).unwrap();
    assert_eq!(manifest, Manifest { media_type: OCI_INDEX, content: Content::Index(want) });
}

#[test]
fn the_type_is_what_header_and_content_agree_on() {
    let bare = image(OCI_CONFIG);
    let docker = image(DOCKER_CONFIG);
    let declared = docker.replacen('{', &format!(r#"{{"mediaType":"{DOCKER_MANIFEST}","#), 1);
    let index = r#"{"schemaVersion":2,"manifests":[{"digest":""}]}"#;
    let cases = [
        (&*bare, Some(OCI_MANIFEST), Ok(OCI_MANIFEST)),
        (&*bare, Some("application/json"), Ok(OCI_MANIFEST)),
        (&*bare, None, Ok(OCI_MANIFEST)),
        (&*declared, Some(DOCKER_MANIFEST), Ok(DOCKER_MANIFEST)),
        (&*declared, Some("text/plain"), Ok(DOCKER_MANIFEST)),
        (&*declared, Some(OCI_INDEX), Err("different media types")),
        (index, Some(DOCKER_LIST), Ok(DOCKER_LIST)),
        (index, None, Ok(OCI_INDEX)),
        (index, Some(OCI_MANIFEST), Err("names no configuration")),
        (&*bare, Some(OCI_INDEX), Err("lists no manifests")),
    ];
    for (body, header, want) in cases {
        match (parse(body.as_bytes(), header), want) {
            (Ok(manifest), Ok(want)) => assert_eq!(manifest.media_type, want, "{header:?} {body}"),
            (Err(ManifestError::Malformed(why)), Err(want)) => {
                assert!(why.contains(want), "{header:?} {body}: {why}");
            }
            (got, want) => panic!("{header:?} {body}: {got:?}, wanted {want:?}"),
        }
    }
}

#[test]
fn what_no_node_can_run_is_named() {
    let chart = image("application/vnd.cncf.helm.config.v1+json");
    let artifact = image("application/vnd.oci.empty.v1+json").replacen(
        '{',
        r#"{"artifactType":"application/vnd.dev.cosign.artifact.sig.v1+json","#,
        1,
    );
    let cases = [
        (&*chart, "application/vnd.cncf.helm.config.v1+json"),
        (&*artifact, "application/vnd.dev.cosign.artifact.sig.v1+json"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
        (r#"{"mediaType":"application/vnd.example+json"}"#, "application/vnd.example+json"),
        ("{}", "unknown"),
    ];
    for (body, want) in cases {
        let Err(ManifestError::Unsupported(media_type)) = parse(body.as_bytes(), None) else { panic!("{body}") };
        assert!(media_type.contains(want), "{body}: {media_type}");
    }
}

#[test]
fn what_is_not_a_manifest_is_malformed() {
    let whole = image(OCI_CONFIG);
    let both = whole.replacen('{', r#"{"manifests":[],"#, 1);
    let no_digest = whole.replace(A, "sha512:00");
    for body in ["", "[]", "null", "<html>", &whole[..whole.len() - 1], &both, &no_digest, r#"{"manifests":[{}]}"#] {
        let got = parse(body.as_bytes(), None);
        assert!(matches!(got, Err(ManifestError::Malformed(_))), "{body}: {got:?}");
    }
}

#[test]
fn a_configuration_names_the_platform() {
    let read = |text: &str| config_platform(text.as_bytes()).map(|platform| platform.to_string());
    assert_eq!(read(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#).as_deref(), Some("linux/arm/v7"));
    for text in [
        r#"{"os":"linux"}"#,
        r#"{"os":null,"architecture":"amd64"}"#,
        "{}",
        "",
        r#"{"os":"unknown","architecture":"unknown"}"#,
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn what_only_looks_like_an_image_is_said() {
    let layered = |layers: &[&str]| {
        let layers: Vec<_> = layers.iter().map(|it| format!(r#"{{"mediaType":"{it}"}}"#)).collect();
        image(OCI_CONFIG).replace(r#""layers":[]"#, &format!(r#""layers":[{}]"#, layers.join(",")))
    };
    let (oci, docker) =
        ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let entry = |rest: &str| format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[{{"digest":"{A}"{rest}}}]}}"#);
    let cases = [
        ("image", layered(&[oci, docker]), None),
        ("image with a layer of another kind", layered(&["application/vnd.example", oci]), None),
        ("image without layers", layered(&[]), None),
        ("signature of cosign", layered(&["application/vnd.dev.cosign.simplesigning.v1+json"]), Some("cosign")),
        ("attestation of cosign", layered(&["application/vnd.dsse.envelope.v1+json"]), Some("dsse")),
        ("attestation of buildkit", layered(&["application/vnd.in-toto+json"]), Some("in-toto")),
        ("SBOM", layered(&["text/spdx+json"]), Some("spdx")),
        ("chart", image("application/vnd.cncf.helm.config.v1+json"), Some("helm")),
        ("artifact", image("application/vnd.oci.empty.v1+json"), Some("empty")),
        ("index", entry(r#","platform":{"os":"linux","architecture":"amd64"}"#), None),
        ("index without platforms", entry(""), None),
        (
            "index of attestations",
            entry(r#","platform":{"os":"unknown","architecture":"unknown"}"#),
            Some("index without"),
        ),
        ("index of artifacts", entry(r#","artifactType":"application/spdx+json""#), Some("index without")),
        ("index of something else", entry(r#","mediaType":"application/vnd.example""#), Some("index without")),
        ("empty index", format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#), Some("index without")),
    ];
    for (name, body, unsupported) in cases {
        let found = match parse(body.as_bytes(), None) {
            Ok(_) => None,
            Err(ManifestError::Unsupported(media_type)) => Some(media_type),
            Err(ManifestError::Malformed(what)) => panic!("{name}: {what}"),
        };
        assert_eq!(found.is_some(), unsupported.is_some(), "{name}: {found:?}");
        assert!(found.unwrap_or_default().contains(unsupported.unwrap_or_default()), "{name}");
    }
}

#[test]
fn a_small_body_cannot_describe_a_large_memory() {
    let entries = vec![r#"{"digest":""}"#; MAX_ENTRIES + 1].join(",");
    let index = format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#);
    assert!(matches!(parse(index.as_bytes(), None), Err(ManifestError::Malformed(_))));
    let layers = image(OCI_CONFIG).replace("[]", &format!("[{}]", vec!["{}"; MAX_ENTRIES + 1].join(",")));
    assert!(matches!(parse(layers.as_bytes(), None), Err(ManifestError::Malformed(_))));
}

proptest! {
    #[test]
    fn any_body_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in proptest::option::of(".*")) {
        let _read = (parse(&bytes, header.as_deref()).is_ok(), config_platform(&bytes).is_some());
    }
}
