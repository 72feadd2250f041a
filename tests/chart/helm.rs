//! Helm itself, from the pinned tools, and what it renders.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde::Deserialize as _;
use serde_json::Value;

/// The namespace that is rendered for.
pub const NAMESPACE: &str = "stagekeeper";

/// Renderings that every test of what is rendered looks at: a name, and values.
pub const MATRIX: &[(&str, &str)] = &[
    ("as it comes", "{}"),
    ("one pod with everything", "{mode: all, edge: {enabled: true}}"),
    (
        "split, with the edge",
        "{edge: {enabled: true, tlsSecret: tls, passwordSecret: password, service: {type: LoadBalancer}}}",
    ),
    (
        "one pod with TLS",
        "{mode: all, edge: {enabled: true, tlsSecret: tls, passwordSecret: password}, controller: {replicas: 1}}",
    ),
    ("single namespaces", "{rbac: {scope: namespaces, namespaces: [NAMESPACE]}, edge: {enabled: true}}"),
    (
        "single namespaces, nothing for the cluster",
        "{mode: all, rbac: {scope: namespaces, namespaces: [NAMESPACE]}, crds: {install: false}, policies: {install: false}}",
    ),
    ("roles by Projects", "{mode: all, rbac: {access: true}, policies: {requestUser: true}}"),
    ("no rights", "{rbac: {create: false}, crds: {keep: false}}"),
    ("few rights", "{rbac: {secrets: false, environments: false, roles: false}}"),
    (
        "a database by URL",
        "{database: {type: external, external: {existingSecret: history, caSecret: authority}}, encryption: {existingSecret: keys}}",
    ),
    (
        "a database by parts",
        "{edge: {enabled: true}, database: {type: external, external: {existingSecret: history, urlKey: '', caSecret: authority}}}",
    ),
    (
        "CloudNativePG",
        "{database: {type: cloudnativepg, cloudnativepg: {spec: {instances: 2, storage: {storageClass: fast}}}}}",
    ),
    (
        "watched",
        "{edge: {enabled: true}, monitoring: {serviceMonitor: {enabled: true, labels: {release: p}}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}}",
    ),
    (
        "everything that people add",
        "{commonLabels: {team: platform}, commonAnnotations: {note: ours}, imagePullSecrets: [{name: pull}], \
          pods: {priorityClassName: system-cluster-critical, hostAliases: [{ip: 10.0.0.1, hostnames: [db]}], dnsConfig: {options: [{name: ndots, value: '1'}]}}, \
          controller: {extraEnv: [{name: HTTPS_PROXY, value: 'http://proxy'}], extraEnvFrom: [{configMapRef: {name: more}}], \
            extraVolumes: [{name: more, emptyDir: {}}], extraVolumeMounts: [{name: more, mountPath: /more}], podLabels: {a: b}, podAnnotations: {c: d}, \
            nodeSelector: {disk: ssd}, tolerations: [{operator: Exists}], affinity: {nodeAffinity: {}}, serviceAccount: {annotations: {e: f}}}, \
          config: {publicUrl: 'https://s.example.com', previewUrl: 'https://p.example.com', oidc: {issuer: 'https://i.example.com', clientId: x}}, \
          api: {ingress: {enabled: true, host: s.example.com, className: nginx, tlsSecret: tls}, service: {annotations: {g: h}}}, \
          networkPolicy: {from: [{namespaceSelector: {}}], extraEgress: [{ports: [{port: 587}]}]}}",
    ),
    ("no network policies", "{networkPolicy: {enabled: false}, api: {replicas: 1}, test: {deploy: false}}"),
    ("by digest", "{image: {digest: 'sha256:DIGEST'}, database: {embedded: {image: {digest: 'sha256:DIGEST'}}}}"),
];

/// The folder of the chart.
pub fn chart() -> PathBuf {
    root().join("charts/stagekeeper")
}

/// The folder of this checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program of that name among the pinned tools, which are built if they are not there.
pub fn tool(name: &str) -> PathBuf {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let home = HOME.get_or_init(|| {
        let built =
            Command::new(root().join("hack/tools/build")).stdin(Stdio::null()).output().expect("hack/tools/build");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        String::from_utf8(built.stdout).unwrap().trim().into()
    });
    home.join(name)
}

/// Runs helm.
pub fn helm(arguments: &[&str]) -> Output {
    Command::new(tool("helm")).args(arguments).stdin(Stdio::null()).output().expect("helm starts")
}

/// What the chart renders for values, or what helm says against them.
pub fn rendered(namespace: &str, values: &str) -> Result<String, String> {
    let values = values.replace("NAMESPACE", namespace).replace("DIGEST", &"0".repeat(64));
    let name = format!("values-{}.yaml", name_of(&format!("{namespace}{values}")));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, values).unwrap();
    let (chart, file) = (chart(), file.to_string_lossy().into_owned());
    let output = helm(&[
        "template",
        "stagekeeper",
        &chart.to_string_lossy(),
        "--namespace",
        namespace,
        "--values",
        &file,
        "--kube-version",
        "1.36.3",
    ]);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

/// A name for values: two tests that render the same write the same file.
fn name_of(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

/// The objects that the chart renders for values.
pub fn objects(namespace: &str, values: &str) -> Vec<Value> {
    let text = rendered(namespace, values).unwrap_or_else(|said| panic!("{values}: {said}"));
    documents(&text)
}

/// The documents of a text that are not empty.
pub fn documents(text: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(text);
    let all = all.map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{error}:\n{text}")));
    all.filter(|document| !document.is_null()).collect()
}

/// Objects of a kind, by name.
pub fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("there is no {kind} {name}"))
}
