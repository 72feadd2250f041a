//! What holds for secrets: who gets which, and what another value changes.

use k8s_openapi::{ByteString, api::core::v1::PodSpec};
use proptest::prelude::*;

use crate::{
    domain::secret::{SecretId, SecretVersions},
    render::{
        Manifests, Scope, SecretContent, SecretManifest, ServiceManifests, Snapshot,
        fixture::{self, Fixture},
        missing_secrets,
        snapshot::SecretPlace,
    },
};

fn secrets() -> Fixture {
    Fixture::read(include_str!("../fixtures/secrets.yaml"))
}

fn built(fixture: &Fixture, secrets: &SecretVersions) -> Snapshot {
    fixture.build_from(fixture.release('a'), secrets).unwrap_or_else(|problems| panic!("{problems}"))
}

fn pod(service: &ServiceManifests) -> &PodSpec {
    let spec = service.workload.spec.as_ref().expect("a spec");
    spec.template.spec.as_ref().expect("a pod")
}

fn held(manifest: &SecretManifest) -> Vec<(String, String, i64)> {
    let SecretContent::Values(values) = &manifest.content else { panic!("values") };
    values.iter().map(|(key, (id, version))| (key.clone(), id.to_string(), *version)).collect()
}

/// What changes when a secret is written again: the services whose pods are other pods.
fn restarted(fixture: &Fixture, secret: SecretId) -> Vec<String> {
    let mut known = fixture.secrets();
    let render = |known: &SecretVersions| -> Manifests {
        let snapshot = built(fixture, known);
        fixture::instance(&snapshot, "0same").0
    };
    let before = render(&known);
    *known.entry(secret).or_default() += 100;
    let after = render(&known);
    let mut changed = Vec::new();
    for (one, other) in before.services().zip(after.services()) {
        let name = |service: &ServiceManifests| service.secret.as_ref().map(|it| it.name().to_owned());
        assert_eq!(name(one) == name(other), pod(one) == pod(other), "{}", one.name);
        if one.revision != other.revision && one.scope == Scope::Stage || pod(one) != pod(other) {
            changed.push(one.name.clone());
        }
    }
    changed
}

#[test]
fn another_value_restarts_those_who_get_it() {
    let fixture = secrets();
    assert_eq!(restarted(&fixture, SecretId::for_all("DB_PASSWORD")), ["worker", "db", "web"]);
    assert_eq!(restarted(&fixture, SecretId::for_service("STRIPE_KEY", "web")), ["web"]);
    assert_eq!(restarted(&fixture, SecretId::for_service("LICENSE", "db")), ["db"]);
    assert_eq!(restarted(&fixture, SecretId::for_service("DB_PASSWORD", "worker")), ["worker"], "a value of its own");
    assert_eq!(restarted(&fixture, SecretId::for_all("STRIPE_KEY")), [""; 0], "web has its own");
    assert_eq!(restarted(&fixture, SecretId::for_all("OTHER")), [""; 0], "nobody declares it");
}

#[test]
fn a_service_gets_what_is_declared_for_it_and_for_all() {
    let fixture = secrets();
    let snapshot = fixture.snapshot();
    let (manifests, _) = fixture::instance(&snapshot, &snapshot.instance());
    let of = |service: &str| {
        let manifest = manifests.service(service).and_then(|it| it.secret.as_ref()).expect("secrets");
        held(manifest).into_iter().map(|(_, id, version)| format!("{id}: {version}")).collect::<Vec<_>>()
    };
    assert_eq!(of("worker"), ["DB_PASSWORD: 1", "LICENSE: 4"]);
    assert_eq!(of("db"), ["DB_PASSWORD: 1", "LICENSE of service db: 5"]);
    assert_eq!(
        of("web"),
        ["DB_PASSWORD: 1", "LICENSE: 4", "STRIPE_KEY of service web: 2", "tls.key of service web: 3"]
    );
    let db = &snapshot.service("db").expect("db").secrets[1];
    assert_eq!(db.place, SecretPlace::Env, "its own declaration counts");
}

#[test]
fn the_same_secrets_have_one_name_and_one_mark() {
    let fixture = secrets();
    let snapshot = fixture.snapshot();
    let (one, mut ctx) = fixture::instance(&snapshot, "0same");
    ctx.credentials.clear();
    let mut more = snapshot.clone();
    more.services[0].replicas += 1;
    let other = crate::render::instance(&more, "0same", &ctx).expect("rendered");
    for (one, other) in one.services().zip(other.services()) {
        assert_eq!(one.secret, other.secret);
    }
    let elsewhere = fixture::instance(&snapshot, "0other").0;
    let name = |manifests: &Manifests, service: &str| {
        manifests.service(service).and_then(|it| it.secret.as_ref()).expect("secrets").name().to_owned()
    };
    assert_ne!(name(&one, "web"), name(&elsewhere, "web"), "each instance has its own, and removes its own");
    assert_eq!(name(&one, "db"), name(&elsewhere, "db"), "what is shared is shared");
}

#[test]
fn hooks_get_the_same_objects_as_their_service() {
    let snapshot = secrets().snapshot();
    let (manifests, ctx) = fixture::instance(&snapshot, &snapshot.instance());
    let hooks = fixture::hooks(&snapshot, &snapshot.instance(), &ctx);
    for (hook, service) in hooks.iter().zip(["web", "web", "db"]) {
        let service = manifests.service(service).expect("a service");
        assert_eq!(hook.secret, service.secret);
        let pull = hook.pull.as_ref().expect("logins");
        assert!(manifests.pull.contains(pull) && pull.scope == service.scope);
        let template = &hook.job.spec.as_ref().expect("a spec").template;
        let job = template.spec.as_ref().expect("a pod");
        assert_eq!(job.image_pull_secrets, pod(service).image_pull_secrets);
    }
}

#[test]
fn without_a_value_nothing_is_built() {
    let fixture = secrets();
    let mut known = fixture.secrets();
    known.remove(&SecretId::for_all("DB_PASSWORD"));
    known.remove(&SecretId::for_service("LICENSE", "db"));
    known.insert(SecretId::for_service("DB_PASSWORD", "db"), 1);
    let missing = missing_secrets(&fixture.project.spec, &known);
    let pair = |secret: &str, service: &str| (secret.to_owned(), service.to_owned());
    assert_eq!(missing, [pair("DB_PASSWORD", "web"), pair("DB_PASSWORD", "worker")], "db has the license of all");
    let problem = fixture.build_from(fixture.release('a'), &known).expect_err("no value").to_string();
    assert_eq!(
        problem,
        "Project spec.secrets[DB_PASSWORD]: has no value for web, worker: store one with `stagekeeper secret set`, or see that the Kubernetes Secret of its secretRef has one"
    );
    assert_eq!(missing_secrets(&fixture.project.spec, &fixture.secrets()), []);
}

#[test]
fn a_snapshot_with_secrets_keeps_its_hash() {
    let snapshot = secrets().snapshot();
    let web = serde_json::to_value(snapshot.service("web").expect("web")).expect("JSON");
    assert_eq!(web["pullCredential"], "ghcr");
    assert_eq!(
        web["secrets"],
        serde_json::json!([
            {"name": "DB_PASSWORD", "version": 1, "place": "env"},
            {"name": "LICENSE", "version": 4, "place": {"file": {"path": "/run/license", "mode": 0o444}}},
            {"name": "STRIPE_KEY", "service": "web", "version": 2, "place": "env"},
            {"name": "tls.key", "service": "web", "version": 3, "place": {"file": {"path": "/etc/shop/tls.key", "mode": 0o400}}},
        ])
    );
    // Written into databases: another one would give every stage with such a snapshot a new instance.
    assert_eq!(snapshot.hash(), "e87e24956c1a5184336166770800d5361a64ca04a8c6633475db041716e4570f");
}

#[test]
fn objects_carry_the_type_of_what_they_hold() {
    let snapshot = secrets().snapshot();
    let (manifests, _) = fixture::instance(&snapshot, &snapshot.instance());
    let values = manifests.service("db").and_then(|it| it.secret.as_ref()).expect("secrets");
    let opaque = values.with_values([("LICENSE".to_owned(), ByteString(b"abc".to_vec()))].into());
    assert_eq!((opaque.type_.as_deref(), opaque.immutable), (Some("Opaque"), Some(true)));
    assert_eq!(opaque.data.expect("data")["LICENSE"].0, b"abc");
    assert_eq!(opaque.metadata.name.as_deref(), Some(values.name()));
    let logins = &manifests.pull[0].manifest;
    let config = logins.with_docker_config(ByteString(b"{}".to_vec()));
    assert_eq!((config.type_.as_deref(), config.immutable), (Some("kubernetes.io/dockerconfigjson"), None));
    assert_eq!(config.data.expect("data")[".dockerconfigjson"].0, b"{}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever is stored: every pod reads keys that its object has, and each declared secret that has a value arrives.
    #[test]
    fn pods_read_what_their_objects_hold(versions in prop::collection::vec(prop::option::of(1..5_i64), 15)) {
        let fixture = secrets();
        let mut known = SecretVersions::new();
        let names = ["DB_PASSWORD", "STRIPE_KEY", "tls.key", "LICENSE", "OTHER"];
        let ids = names.iter().flat_map(|name| {
            [SecretId::for_all(*name), SecretId::for_service(*name, "web"), SecretId::for_service(*name, "db")]
        });
        for (id, version) in ids.zip(&versions) {
            known.extend(version.map(|version| (id, version)));
        }
        let missing = missing_secrets(&fixture.project.spec, &known);
        let snapshot = fixture.build_from(fixture.release('a'), &known);
        prop_assert_eq!(snapshot.is_ok(), missing.is_empty());
        let Ok(snapshot) = snapshot else { return Ok(()) };
        let (manifests, _) = fixture::instance(&snapshot, &snapshot.instance());
        for service in manifests.services() {
            let object = service.secret.as_ref().expect("everyone has one");
            let held: Vec<String> = held(object).into_iter().map(|(key, ..)| key).collect();
            let pod = pod(service);
            let env = pod.containers[0].env.iter().flatten();
            let by_env = env.filter_map(|it| it.value_from.as_ref()?.secret_key_ref.as_ref());
            let mut read: Vec<String> = by_env.map(|key| { assert_eq!(key.name, object.name()); key.key.clone() }).collect();
            for source in pod.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()) {
                prop_assert_eq!(source.secret_name.as_deref(), Some(object.name()));
                let items = source.items.as_ref().expect("items");
                let mounts = pod.containers[0].volume_mounts.iter().flatten().filter_map(|it| it.sub_path.as_deref());
                prop_assert_eq!(items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), mounts.collect::<Vec<_>>());
                read.extend(items.iter().map(|item| item.key.clone()));
            }
            read.sort();
            prop_assert_eq!(read, held);
        }
    }
}
