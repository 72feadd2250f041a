//! Cases of Project.

use super::cases::{Case, bad, good};

/// A project of one service with a fixed image and these fields.
fn service(fields: &str) -> String {
    format!("services: [{{name: web, image: {{repository: shop, tag: '1'}}, {fields}}}]")
}

fn image(fields: &str) -> String {
    format!("services: [{{name: web, image: {{{fields}}}}}]")
}

fn policy(fields: &str) -> String {
    image(&format!("repository: shop, policy: {{{fields}}}"))
}

/// Two services `a` and `b`, with these fields.
fn pair(a: &str, b: &str) -> String {
    format!(
        "services: [{{name: a, image: {{repository: a, tag: '1'}}, {a}}}, {{name: b, image: {{repository: b, tag: '1'}}, {b}}}]"
    )
}

pub fn cases() -> Vec<Case> {
    let services = [
        service_cases(),
        image_cases(),
        volume_cases(),
        health_cases(),
        secret_cases(),
        place_cases(),
        credential_cases(),
        webhook_cases(),
        access_cases(),
    ];
    let mut cases: Vec<_> = services.into_iter().flatten().collect();
    let name = |name, object| Case { object, ..bad(name, service(""), "<nil>", "metadata.name of a Project must be") };
    cases.extend([
        name("a name that starts with a digit", "1shop"),
        name("a name with a dot", "shop.eu"),
        name("a name of 41 characters", "a2345678901234567890123456789012345678901"),
        Case { object: "a234567890123456789012345678901234567890", ..good("a name of 40 characters", service("")) },
        bad("no services", "services: []", "spec.services", "should have at least 1 items"),
        bad(
            "misspelt field",
            "services: [], suspended: true".replace(", ", "\n"),
            "",
            "unknown field \"spec.suspended\"",
        ),
    ]);
    cases
}

#[rustfmt::skip] // a case a line
fn access_cases() -> Vec<Case> {
    const ONE: &str = "exactly one of user, group and serviceAccount";
    let of = |fields: &str| format!("{}\naccess: [{{{fields}}}]", service(""));
    vec![
        good("a user with a role", of("role: owner, user: jane@acme.test")),
        good("a group with a role", of("role: admin, group: 'oidc:shop-admins'")),
        good("a service account of this namespace", of("role: member, serviceAccount: {name: ci}")),
        good("a service account of another namespace", of("role: viewer, serviceAccount: {name: ci, namespace: pipelines}")),
        bad("a role for nobody", of("role: admin"), "spec.access[0]", ONE),
        bad("a role for two", of("role: admin, user: jane, group: admins"), "spec.access[0]", ONE),
        bad("a user without a role", of("user: jane"), "spec.access[0].role", "Required value"),
        bad("an unknown role", of("role: root, user: jane"), "spec.access[0].role", "supported values"),
        bad("an empty user", of("role: admin, user: ''"), "spec.access[0].user", "at least 1 chars"),
        bad("whoever does not log in", of("role: viewer, group: 'system:unauthenticated'"), "spec.access[0]", "without saying who they are"),
        bad("nobody in particular", of("role: viewer, user: 'system:anonymous'"), "spec.access[0]", "without saying who they are"),
        bad("an account of no name", of("role: viewer, serviceAccount: {name: 'a/b'}"), "spec.access[0].serviceAccount.name", "must be the name of an object"),
    ]
}

#[rustfmt::skip] // a case a line
fn webhook_cases() -> Vec<Case> {
    let webhooks = |all: &str| format!("{}\nwebhooks: {all}", service(""));
    let one = |fields: &str| webhooks(&format!("[{{name: push, {fields}}}]"));
    let mut cases: Vec<_> = ["diun", "dockerhub", "quay", "generic"]
        .map(|source| good("a source that may rely on the path", one(&format!("source: {source}"))))
        .into();
    for source in ["github", "harbor", "distribution", "acr", "jfrog", "cloudevents", "gitlab", "gitea"] {
        let says = "name in credentials what it signs with";
        cases.push(bad("a source that proves who it is", one(&format!("source: {source}")), "spec.webhooks[0]", says));
        cases.push(bad("no credentials", one(&format!("source: {source}, credentials: []")), "spec.webhooks[0]", says));
        cases.push(good("with one", one(&format!("source: {source}, credentials: [old]"))));
    }
    cases.extend([
        good("two credentials", one("source: github, credentials: [old, new]")),
        bad("three credentials", one("source: github, credentials: [a, b, c]"), "spec.webhooks[0].credentials", "at most 2 items"),
        bad("no name of a credential", one("source: github, credentials: [A_B]"), "spec.webhooks[0].credentials", "names of credentials"),
        bad("unknown source", one("source: teleprinter"), "spec.webhooks[0].source", "Unsupported value"),
        bad("upper-case name", webhooks("[{name: Push, source: diun}]"), "spec.webhooks[0].name", "must be lower-case letters"),
        bad("one name twice", webhooks("[{name: a, source: diun}, {name: a, source: quay}]"), "spec.webhooks[1]", "Duplicate value"),
        good("registry", one("source: harbor, credentials: [a], registry: 'harbor.example.com:8443'")),
        bad("registry with a scheme", one("source: quay, registry: 'https://quay.example.com'"), "spec.webhooks[0].registry", "without scheme and path"),
        bad("registry of many", one("source: diun, registry: ghcr.io"), "spec.webhooks[0]", "for sources that are one registry"),
    ]);
    cases
}

#[rustfmt::skip] // a case a line
fn service_cases() -> Vec<Case> {
    vec![
        good("the least that is needed", service("")),
        bad("upper-case name", "services: [{name: Web, image: {repository: shop, tag: '1'}}]", "spec.services[0].name", "name must be lower-case letters"),
        bad("two services of one name", pair("", "").replace("name: b", "name: a"), "spec.services[1]", "Duplicate value"),
        good("dependsOn", pair("dependsOn: [b]", "")),
        bad("dependsOn nobody", pair("dependsOn: [c]", ""), "spec", "services[].dependsOn must name services of this project"),
        bad("dependsOn itself", pair("dependsOn: [a]", ""), "spec", "must not name the service itself"),
        bad("dependsOn twice", pair("dependsOn: [b, b]", ""), "spec.services[0].dependsOn[1]", "Duplicate value"),
        good("two ports", service("ports: [{name: http, port: 80}, {name: grpc, port: 81}]")),
        bad("one number for two ports", service("ports: [{name: http, port: 80}, {name: grpc, port: 80}]"), "spec.services[0].ports", "ports must have different numbers"),
        bad("one name for two ports", service("ports: [{name: http, port: 80}, {name: http, port: 81}]"), "spec.services[0].ports[1]", "Duplicate value"),
        bad("port 0", service("ports: [{name: http, port: 0}]"), "spec.services[0].ports[0].port", "greater than or equal to 1"),
        bad("port 65536", service("ports: [{name: http, port: 65536}]"), "spec.services[0].ports[0].port", "less than or equal to 65535"),
        bad("long port name", service("ports: [{name: a234567890123456, port: 1}]"), "spec.services[0].ports[0].name", "15"),
        bad("minus one replica", service("replicas: -1"), "spec.services[0].replicas", "greater than or equal to 0"),
        bad("unknown scope", service("scope: Cluster"), "spec.services[0].scope", "supported values: \"Instance\", \"Stage\""),
        bad("one variable twice", service("env: [{name: A, value: '1'}, {name: A, value: '2'}]"), "spec.services[0].env[1]", "Duplicate value"),
        good("variable from a Secret", service("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]")),
        good("resources", service("resources: {limits: {cpu: 1, memory: 64Mi}}")),
        good("podTemplate with any field", service("podTemplate: {spec: {nodeSelector: {disk: ssd}, anything: [1]}}")),
        bad("podTemplate that is no object", service("podTemplate: [1]"), "spec.services[0].podTemplate", "must be of type object"),
    ]
}

#[rustfmt::skip] // a case a line
fn image_cases() -> Vec<Case> {
    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const ONE_OF: &str = "image needs exactly one of policy (follow new tags), tag and digest (fixed image)";
    const ONE_POLICY: &str = "policy needs exactly one of semver, glob, regex, numeric, newest and digest";
    let repository = |name, repository: &str| good(name, image(&format!("repository: '{repository}', tag: '1'")));
    let no_repository = |name, repository: &str| {
        bad(name, image(&format!("repository: '{repository}', tag: '1'")), "spec.services[0].image.repository", "such as ghcr.io/acme/shop")
    };
    vec![
        bad("no image source", image("repository: shop"), "spec.services[0].image", ONE_OF),
        bad("tag and digest", image(&format!("repository: shop, tag: '1', digest: '{DIGEST}'")), "spec.services[0].image", ONE_OF),
        bad("tag and policy", image("repository: shop, tag: '1', policy: {semver: '*'}"), "spec.services[0].image", ONE_OF),
        good("digest", image(&format!("repository: shop, digest: '{DIGEST}'"))),
        bad("short digest", image("repository: shop, digest: 'sha256:abc'"), "spec.services[0].image.digest", "must be a digest"),
        bad("digest as tag", image("repository: shop, tag: 'sha256:abc'"), "spec.services[0].image.tag", "must be a tag"),
        good("null is like left out", image("repository: shop, tag: null, policy: {semver: '*', glob: null}")),
        repository("Docker Hub", "acme/shop_web"),
        repository("registry with port", "localhost:5000/a/b-c__d/e.f"),
        repository("registry with IPv6 address", "[::1]:5000/shop"),
        no_repository("repository with tag", "ghcr.io/acme/shop:1"),
        no_repository("short repository with tag", "postgres:16"),
        no_repository("repository with digest", "ghcr.io/acme/shop@sha256:abc"),
        no_repository("repository with scheme", "https://ghcr.io/acme/shop"),
        no_repository("upper-case repository", "ghcr.io/Acme/shop"),
        no_repository("repository with a slash at the end", "ghcr.io/acme/"),
        bad("platform without architecture", image("repository: a, tag: '1', platform: linux"), "spec.services[0].image.platform", "such as linux/amd64"),
        good("platform with variant", image("repository: a, tag: '1', platform: linux/arm/v7")),
        bad("credential with a capital", image("repository: a, tag: '1', credential: GHCR"), "spec.services[0].image.credential", "such as ghcr"),
        bad("credential with a dash at its end", image("repository: a, tag: '1', credential: ghcr-"), "spec.services[0].image.credential", "such as ghcr"),
        good("credential", image("repository: a, tag: '1', credential: ghcr-2")),
        bad("interval too short", image("repository: a, policy: {semver: '*'}, interval: 500ms"), "spec.services[0].image.interval", "between 1s and 24h"),
        bad("interval too long", image("repository: a, policy: {semver: '*'}, interval: 25h"), "spec.services[0].image.interval", "between 1s and 24h"),
        bad("interval in days", image("repository: a, policy: {semver: '*'}, interval: 1d"), "spec.services[0].image.interval", "such as 30s, 5m or 1h30m"),
        good("interval of two units", image("repository: a, policy: {semver: '*'}, interval: 1h30m")),
        good("a share of tags", image("repository: a, tag: v1, maxTagLoss: 100")),
        bad("no share of tags", image("repository: a, tag: v1, maxTagLoss: 0"), "spec.services[0].image.maxTagLoss", "greater than or equal to 1"),
        bad("empty policy", policy(""), "spec.services[0].image.policy", ONE_POLICY),
        bad("two policies", policy("semver: '*', glob: '*'"), "spec.services[0].image.policy", ONE_POLICY),
        good("glob", policy("glob: 'build-*'")),
        good("regex", policy("regex: '^(.*)-alpine$', extract: '$1', order: Semver")),
        good("numeric", policy("numeric: true")),
        good("newest", policy("newest: 'main-*'")),
        bad("newest of nothing", policy("newest: ''"), "spec.services[0].image.policy.newest", "at least 1 chars"),
        bad("newest and numeric", policy("newest: '*', numeric: true"), "spec.services[0].image.policy", ONE_POLICY),
        bad("numeric: false", policy("numeric: false"), "spec.services[0].image.policy.numeric", "numeric is true or left out"),
        good("digest of a tag", policy("digest: latest")),
        bad("extract without regex", policy("glob: '*', extract: '$1'"), "spec.services[0].image.policy", "extract takes a part of what regex matched"),
        bad("order without regex", policy("glob: '*', order: Numeric"), "spec.services[0].image.policy", "order sorts what regex matched"),
        bad("unknown order", policy("regex: a, order: Random"), "spec.services[0].image.policy.order", "supported values"),
    ]
}

#[rustfmt::skip] // a case a line
fn volume_cases() -> Vec<Case> {
    const OWN: &str = "{name: a, mountPath: /a, perInstanceClaim: {size: 1Gi}}";
    const SHARED: &str = "{name: b, mountPath: /b, sharedClaim: {size: 1Gi}}";
    const SCOPE: &str = "volumes[].perInstanceClaim needs a service of scope Instance";
    let volumes = |list: &str| service(&format!("volumes: [{list}]"));
    let watched = |list: &str| format!("services: [{{name: web, image: {{repository: shop, policy: {{semver: '*'}}}}, volumes: [{list}]}}]");
    vec![
        good("shared claim", volumes(SHARED)),
        good("files", volumes("{name: a, mountPath: /etc/a, files: {a.conf: '1', conf.d/b.conf: '2'}}")),
        good("emptyDir", volumes("{name: a, mountPath: /tmp, emptyDir: {}}, {name: b, mountPath: /run, emptyDir: {memory: true, sizeLimit: 1Mi}}")),
        bad("volume of nothing", volumes("{name: a, mountPath: /a}"), "spec.services[0].volumes[0]", "volume needs exactly one of"),
        bad("volume of two things", volumes("{name: a, mountPath: /a, emptyDir: {}, files: {a: b}}"), "spec.services[0].volumes[0]", "volume needs exactly one of"),
        bad("relative mountPath", volumes("{name: a, mountPath: data, emptyDir: {}}"), "spec.services[0].volumes[0].mountPath", "must be an absolute path"),
        bad("mountPath that climbs", volumes("{name: a, mountPath: /a/../b, emptyDir: {}}"), "spec.services[0].volumes[0].mountPath", "must be an absolute path"),
        bad("one mountPath twice", volumes("{name: a, mountPath: /a, emptyDir: {}}, {name: b, mountPath: /a, emptyDir: {}}"), "spec.services[0].volumes", "different values of mountPath"),
        bad("file that climbs", volumes("{name: a, mountPath: /a, files: {../b: c}}"), "spec.services[0].volumes[0].files", "without '..'"),
        bad("file with absolute path", volumes("{name: a, mountPath: /a, files: {/b: c}}"), "spec.services[0].volumes[0].files", "without '..'"),
        bad("size without meaning", volumes("{name: a, mountPath: /a, sharedClaim: {size: big}}"), "spec.services[0].volumes[0].sharedClaim.size", "such as 10Gi"),
        bad("size zero", volumes("{name: a, mountPath: /a, sharedClaim: {size: '0'}}"), "spec.services[0].volumes[0].sharedClaim.size", "above zero"),
        bad("unknown access mode", volumes("{name: a, mountPath: /a, sharedClaim: {size: 1Gi, accessModes: [RWO]}}"), "spec.services[0].volumes[0].sharedClaim.accessModes", "ReadWriteOnce, ReadOnlyMany"),
        good("own claim of a watched image", watched(OWN)),
        good("own and shared claim with scope Instance", service(&format!("scope: Instance, volumes: [{OWN}, {SHARED}]"))),
        bad("own claim of a fixed image", volumes(OWN), "spec.services[0]", SCOPE),
        bad("own claim beside a shared one", watched(&format!("{OWN}, {SHARED}")), "spec.services[0]", SCOPE),
        bad("own claim with scope Stage", service(&format!("scope: Stage, volumes: [{OWN}]")), "spec.services[0]", SCOPE),
    ]
}

#[rustfmt::skip] // a case a line
fn health_cases() -> Vec<Case> {
    let health = |fields: &str| service(&format!("ports: [{{name: http, port: 80}}], health: {{{fields}}}"));
    vec![
        good("http", health("http: {path: '/healthz?full=1', port: http, expect: '200,204,300-399'}")),
        good("http with every default", health("http: {}")),
        good("tcp", health("tcp: {port: http}")),
        good("tcp with every default", health("tcp: {}")),
        bad("neither http nor tcp", health(""), "spec.services[0].health", "health needs exactly one of http and tcp"),
        bad("both http and tcp", health("http: {}, tcp: {}"), "spec.services[0].health", "health needs exactly one of http and tcp"),
        bad("unknown http port", health("http: {port: web}"), "spec.services[0]", "health.http.port must be the name of one of the service's ports"),
        bad("unknown tcp port", health("tcp: {port: web}"), "spec.services[0]", "health.tcp.port must be the name of one of the service's ports"),
        bad("health without ports", service("health: {tcp: {}}"), "spec.services[0]", "health needs a port to probe"),
        bad("relative path", health("http: {path: healthz}"), "spec.services[0].health.http.path", "path must start with '/'"),
        bad("status class", health("http: {expect: 2xx}"), "spec.services[0].health.http.expect", "such as 200-399"),
        bad("threshold 0", health("tcp: {}, successThreshold: 0"), "spec.services[0].health.successThreshold", "greater than or equal to 1"),
        bad("timeout without unit", health("tcp: {}, timeout: '5'"), "spec.services[0].health.timeout", "between 10ms and 5m"),
    ]
}

/// A project of two services, `web` and `db`, with these secrets.
fn secrets(list: &str) -> String {
    let service = |name: &str| format!("{{name: {name}, image: {{repository: shop, tag: '1'}}}}");
    format!("services: [{}, {}]\nsecrets: [{list}]", service("web"), service("db"))
}

fn credentials(list: &str) -> String {
    format!("{}\ncredentials: [{list}]", service(""))
}

/// This many secrets with names as long as they may be, `same`: the last once more the first.
fn many_secrets(number: usize, same: bool) -> String {
    let list = (0..number).map(|at| {
        let at = if same && at + 1 == number { 0 } else { at };
        format!("{{name: {}{at:03}, service: web}}", "A".repeat(125))
    });
    secrets(&list.collect::<Vec<_>>().join(", "))
}

#[rustfmt::skip] // a case a line
fn secret_cases() -> Vec<Case> {
    const TWICE: &str = "secrets must differ in name or service";
    const NAME: &str = "such as STRIPE_KEY";
    let name = |name, secret: &str| bad(name, secrets(&format!("{{name: '{secret}'}}")), "spec.secrets[0].name", NAME);
    vec![
        good("the least that a secret needs", secrets("{name: STRIPE_KEY}")),
        good("a secret of one service", secrets("{name: STRIPE_KEY, service: web}")),
        good("one name for all services and for two of them", secrets("{name: KEY}, {name: KEY, service: web}, {name: KEY, service: db}")),
        good("128 secrets", many_secrets(128, false)),
        bad("129 secrets", many_secrets(129, false), "spec.secrets", "must have at most 128 items"),
        bad("one of 128 secrets twice", many_secrets(128, true), "spec.secrets", TWICE),
        bad("one secret twice", secrets("{name: KEY}, {name: KEY}"), "spec.secrets", TWICE),
        bad("one secret of a service twice", secrets("{name: KEY, service: db}, {name: KEY, service: db, as: file, path: /a}"), "spec.secrets", TWICE),
        bad("secret of an unknown service", secrets("{name: KEY, service: wbe}"), "spec", "secrets[].service must name a service of this project"),
        bad("misspelt field of a secret", secrets("{name: KEY, value: x}"), "", "unknown field \"spec.secrets[0].value\""),
        name("secret that begins with a digit", "1A"),
        name("secret that begins with a dot", ".env"),
        name("secret with a space", "A B"),
        name("secret with a slash", "a/b"),
        bad("secret with a long name", secrets(&format!("{{name: {}}}", "A".repeat(129))), "spec.secrets[0].name", "128"),
        bad("secret without a name", secrets("{name: ''}"), "spec.secrets[0].name", NAME),
        bad("variable with our prefix", secrets("{name: STAGEKEEPER_KEY}"), "spec.secrets[0]", "must not begin with STAGEKEEPER_"),
        good("file with our prefix", secrets("{name: STAGEKEEPER_KEY, as: file, path: /etc/key}")),
        good("secret from a Secret", secrets("{name: KEY, secretRef: {name: shop.keys}}")),
        good("secret from a key of a Secret", secrets("{name: KEY, secretRef: {name: shop-keys, key: tls.key}}")),
        bad("Secret in capitals", secrets("{name: KEY, secretRef: {name: SHOP}}"), "spec.secrets[0].secretRef.name", "such as shop-keys"),
        bad("Secret without a name", secrets("{name: KEY, secretRef: {key: a}}"), "spec.secrets[0].secretRef.name", "Required value"),
        bad("key with a slash", secrets("{name: KEY, secretRef: {name: shop, key: a/b}}"), "spec.secrets[0].secretRef.key", "such as password"),
    ]
}

#[rustfmt::skip] // a case a line
fn place_cases() -> Vec<Case> {
    const PATH: &str = "path must be the absolute path of a file";
    let file = |fields: &str| secrets(&format!("{{name: KEY, as: file, {fields}}}"));
    let path = |name, path: &str| bad(name, file(&format!("path: \"{path}\"")), "spec.secrets[0].path", PATH);
    vec![
        good("secret as a variable", secrets("{name: KEY, as: env}")),
        good("secret as a file", file("path: /etc/shop/tls.key")),
        good("secret as a file with its mode", file("path: /key, mode: '0400'")),
        bad("secret as something else", secrets("{name: KEY, as: volume}"), "spec.secrets[0].as", "supported values: \"env\", \"file\""),
        bad("file without a path", secrets("{name: KEY, as: file}"), "spec.secrets[0]", "as: file needs a path"),
        bad("variable with a path", secrets("{name: KEY, path: /etc/key}"), "spec.secrets[0]", "path is where a file stands"),
        bad("variable with a mode", secrets("{name: KEY, mode: '0400'}"), "spec.secrets[0]", "mode says who may read a file"),
        path("relative path of a secret", "etc/key"),
        path("path of a secret that climbs", "/etc/../key"),
        path("path of a secret that stays", "/etc/./key"),
        path("path of a secret with a colon", "/etc/a:b"),
        path("path of a secret that is a folder", "/etc/"),
        path("path of a secret with an empty part", "/etc//key"),
        path("path of a secret with a line break", "/etc/a\\nb"),
        bad("the root as a secret", file("path: /"), "spec.secrets[0].path", "2"),
        bad("mode of three digits", file("path: /a, mode: '444'"), "spec.secrets[0].mode", "such as 0440"),
        bad("mode with special bits", file("path: /a, mode: '4755'"), "spec.secrets[0].mode", "such as 0440"),
        bad("mode with an 8", file("path: /a, mode: '0844'"), "spec.secrets[0].mode", "such as 0440"),
        bad("mode that is a number", file("path: /a, mode: 292"), "spec.secrets[0].mode", "must be of type string"),
    ]
}

#[rustfmt::skip] // a case a line
fn credential_cases() -> Vec<Case> {
    const HOSTS: &str = "hosts must be hosts of registries";
    let of = |fields: &str| credentials(&format!("{{name: ghcr, secretRef: {{name: pull}}, {fields}}}"));
    let host = |name, host: &str| bad(name, of(&format!("type: registry, hosts: ['{host}']")), "spec.credentials[0].hosts", HOSTS);
    vec![
        good("the least that a credential needs", of("type: registry")),
        good("every field of a credential", of("type: registry, hosts: [ghcr.io, 'localhost:5000', '[::1]:5000'], user: shop-bot, expires: '2027-01-31T00:00:00Z'")),
        good("credentials of every type", credentials("{name: a, type: webhook, secretRef: {name: s, key: k}}, {name: b, type: git, secretRef: {name: s}}, {name: c, type: cluster, secretRef: {name: s}}, {name: d, type: generic, secretRef: {name: s}}")),
        bad("two credentials of one name", credentials("{name: a, type: git, secretRef: {name: s}}, {name: a, type: webhook, secretRef: {name: s}}"), "spec.credentials[1]", "Duplicate value"),
        bad("declared credential with a capital", credentials("{name: GHCR, type: git, secretRef: {name: s}}"), "spec.credentials[0].name", "such as ghcr"),
        bad("credential without a type", of("user: a"), "spec.credentials[0].type", "Required value"),
        bad("credential without a Secret", credentials("{name: a, type: git}"), "spec.credentials[0].secretRef", "Required value"),
        bad("credential of an unknown type", of("type: docker"), "spec.credentials[0].type", "supported values"),
        bad("hosts of no registry", of("type: git, hosts: [github.com]"), "spec.credentials[0]", "hosts are those of registries"),
        bad("one host twice", of("type: registry, hosts: [ghcr.io, ghcr.io]"), "spec.credentials[0].hosts[1]", "Duplicate value"),
        host("host with a scheme", "https://ghcr.io"),
        host("host with a path", "ghcr.io/acme"),
        host("host with a user", "bot@ghcr.io"),
        host("host with half a port", "ghcr.io:"),
        bad("empty user", of("type: registry, user: ''"), "spec.credentials[0].user", "at least 1 chars"),
        bad("a day as the end", of("type: registry, expires: '2027-01-31'"), "spec.credentials[0].expires", "must be of type date-time"),
    ]
}
