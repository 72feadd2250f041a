//! What holds for the logins of nodes.

use crate::render::{
    Manifests, PullSecret, Scope, SecretContent,
    fixture::{self, Fixture},
    registry_of,
};

fn secrets() -> Fixture {
    Fixture::read(include_str!("../fixtures/secrets.yaml"))
}

fn logins(pull: &PullSecret) -> Vec<(&str, &str)> {
    let SecretContent::Logins(logins) = &pull.manifest.content else { panic!("logins") };
    logins.iter().map(|(place, credential)| (place.as_str(), credential.as_str())).collect()
}

fn told(manifests: &Manifests) -> Vec<(Scope, Vec<(&str, &str)>)> {
    manifests.pull.iter().map(|pull| (pull.scope, logins(pull))).collect()
}

#[test]
fn each_scope_has_the_logins_of_its_own_images() {
    let snapshot = secrets().snapshot();
    let (manifests, ctx) = fixture::instance(&snapshot, &snapshot.instance());
    assert_eq!(
        told(&manifests),
        [(Scope::Stage, vec![("docker.io", "hub")]), (Scope::Instance, vec![("ghcr.io", "ghcr")])]
    );
    assert_eq!(manifests.missing_credentials(&ctx), [""; 0]);
}

#[test]
fn a_credential_that_nobody_stored_is_named_and_changes_no_pod() {
    let snapshot = secrets().snapshot();
    let (before, mut ctx) = fixture::instance(&snapshot, &snapshot.instance());
    ctx.credentials.remove("hub");
    let after = crate::render::instance(&snapshot, &snapshot.instance(), &ctx).expect("rendered");
    assert_eq!(told(&after), [(Scope::Stage, vec![]), (Scope::Instance, vec![("ghcr.io", "ghcr")])]);
    assert_eq!(after.missing_credentials(&ctx), ["hub"]);
    assert_eq!(after.waves, before.waves);
    assert_ne!(after.pull[0].manifest.rendered(), before.pull[0].manifest.rendered());
    assert_eq!(after.pull[1], before.pull[1]);
}

#[test]
fn another_password_is_applied_and_restarts_nothing() {
    let snapshot = secrets().snapshot();
    let (before, mut ctx) = fixture::instance(&snapshot, &snapshot.instance());
    ctx.credentials.insert("ghcr".into(), 4);
    ctx.credentials.insert("of another project's service".into(), 1);
    let after = crate::render::instance(&snapshot, &snapshot.instance(), &ctx).expect("rendered");
    assert_eq!(after.waves, before.waves);
    assert_eq!(after.pull[0], before.pull[0], "that of the other registry is not touched");
    let (before, after) = (&before.pull[1].manifest, &after.pull[1].manifest);
    assert_eq!(after.name(), before.name());
    assert_ne!(after.rendered(), before.rendered());
}

#[test]
fn two_credentials_of_one_registry_are_told_apart_by_repository() {
    let mut fixture = secrets();
    fixture.project.spec.services[1].image.credential = Some("other".into());
    let snapshot = fixture.snapshot();
    let (_, mut ctx) = fixture::instance(&snapshot, &snapshot.instance());
    ctx.credentials.insert("other".into(), 1);
    let manifests = crate::render::instance(&snapshot, &snapshot.instance(), &ctx).expect("rendered");
    let logins = logins(&manifests.pull[1]);
    assert_eq!(logins, [("ghcr.io/acme/shop", "ghcr"), ("ghcr.io/acme/worker", "other")]);
    assert!(logins.iter().all(|(place, _)| registry_of(place) == "ghcr.io"));
    assert_eq!(registry_of("localhost:5000"), "localhost:5000");
}

#[test]
fn without_a_credential_no_pod_names_one() {
    let snapshot = Fixture::read(include_str!("../fixtures/hooks.yaml")).snapshot();
    let (manifests, ctx) = fixture::instance(&snapshot, &snapshot.instance());
    assert_eq!(manifests.pull, []);
    assert!(fixture::hooks(&snapshot, &snapshot.instance(), &ctx).iter().all(|hook| hook.pull.is_none()));
    assert!(
        !serde_json::to_string(&manifests.waves[0].services[0].workload).expect("JSON").contains("imagePullSecrets")
    );
}
