//! What holds for everything that is rendered.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use kube::ResourceExt as _;
use serde_json::json;
use uuid::Uuid;

use super::{
    Manifests, RENDERED, Scope, ServiceManifests, Snapshot,
    fixture::{self, Fixture},
    rendered, stage_services,
};
use crate::{
    api::{StrategyType, labels},
    render::names,
};

fn database() -> Fixture {
    Fixture::read(include_str!("fixtures/database.yaml"))
}

fn hooks() -> Fixture {
    Fixture::read(include_str!("fixtures/hooks.yaml"))
}

fn secrets() -> Fixture {
    Fixture::read(include_str!("fixtures/secrets.yaml"))
}

fn template(service: &ServiceManifests) -> &PodTemplateSpec {
    &service.workload.spec.as_ref().expect("a spec").template
}

fn pod_labels(template: &PodTemplateSpec) -> &BTreeMap<String, String> {
    let metadata = template.metadata.as_ref().expect("metadata");
    metadata.labels.as_ref().expect("labels")
}

fn marks(manifests: &Manifests) -> BTreeMap<String, String> {
    let mut marks = BTreeMap::new();
    let mut add = |kind: &str, name: String, mark: Option<&str>| {
        marks.insert(format!("{kind}/{name}"), mark.expect("a mark").to_owned());
    };
    for service in manifests.services() {
        for claim in &service.claims {
            add("claim", claim.name_any(), rendered(claim));
        }
        if let Some(config) = &service.config {
            add("config", config.name_any(), rendered(config));
        }
        if let Some(secret) = &service.secret {
            add("secret", secret.name().to_owned(), secret.rendered());
        }
        if let Some(address) = &service.service {
            add("service", address.name_any(), rendered(address));
        }
        add("workload", service.workload.name_any(), rendered(&service.workload));
    }
    for pull in &manifests.pull {
        add("pull", pull.manifest.name().to_owned(), pull.manifest.rendered());
    }
    marks
}

#[test]
fn another_deploy_of_the_same_snapshot_changes_nothing() {
    for fixture in [database(), secrets()] {
        let snapshot = fixture.snapshot();
        let (first, mut ctx) = fixture::instance(&snapshot, &snapshot.instance());
        ctx.deploy = Uuid::from_u128(8);
        let second = super::instance(&snapshot, &snapshot.instance(), &ctx).expect("rendered");
        assert_eq!(marks(&first), marks(&second));
        for (one, other) in first.services().zip(second.services()) {
            assert_eq!(template(one), template(other));
            assert_eq!(one.revision, other.revision);
            let deploy = |service: &ServiceManifests| service.workload.annotations()[labels::DEPLOY].clone();
            assert_ne!(deploy(one), deploy(other));
        }
    }
}

#[test]
fn the_mark_follows_what_the_object_is() {
    let snapshot = database().snapshot();
    let (manifests, ctx) = fixture::instance(&snapshot, &snapshot.instance());
    let mut more = snapshot.clone();
    more.services[0].replicas += 1;
    let changed = super::instance(&more, &snapshot.instance(), &ctx).expect("rendered");
    let web = |manifests: &Manifests| {
        let workload = &manifests.service("web").expect("web").workload;
        workload.annotations()[RENDERED].clone()
    };
    assert_ne!(web(&manifests), web(&changed));
}

/// What two snapshots render for the services that their instances share.
fn shared(snapshot: &Snapshot) -> Vec<(String, BTreeMap<String, String>)> {
    let (manifests, _) = fixture::instance(snapshot, &snapshot.instance());
    let shared = manifests.waves.into_iter().flat_map(|wave| wave.services);
    let shared = shared.filter(|service| service.scope == Scope::Stage);
    shared
        .map(|service| {
            let revision = service.revision.clone();
            let wave = super::Wave { services: vec![service] };
            (revision, marks(&Manifests { instance: "any".into(), waves: vec![wave], pull: vec![] }))
        })
        .collect()
}

#[test]
fn a_shared_service_is_not_touched_by_what_happens_to_others() {
    let fixture = database();
    let before = shared(&fixture.snapshot());
    assert_eq!(before.len(), 1, "the database is shared");

    let mut release = fixture.release('b');
    release.0.insert("db".into(), fixture.release('a').0.get("db").unwrap().clone());
    let other_images = fixture.build_with(release).expect("right");
    assert_eq!(shared(&other_images), before, "other images");

    let mut fixture = database();
    let mut another = fixture.project.spec.services[1].clone();
    another.name = "another".into();
    fixture.project.spec.services.push(another);
    fixture.project.spec.services[0].replicas = 9;
    assert_eq!(shared(&fixture.snapshot()), before, "another service");

    let new_database = fixture.build_with(fixture.release('c')).expect("right");
    assert_ne!(shared(&new_database), before, "its own image");
}

#[test]
fn readiness_of_another_release_is_told_apart() {
    let fixture = database();
    for strategy in [StrategyType::BlueGreen, StrategyType::Rolling, StrategyType::Recreate] {
        let mut fixture = database();
        fixture.stage.spec.strategy.type_ = strategy;
        let one = fixture.snapshot();
        let other = fixture.build_with(fixture.release('b')).expect("right");
        let (one, _) = fixture::instance(&one, &one.instance());
        let (other, _) = fixture::instance(&other, &other.instance());
        for (one, other) in one.services().zip(other.services()) {
            assert_ne!(one.revision, other.revision);
            assert_eq!(pod_labels(template(one))[labels::SNAPSHOT], one.revision);
        }
    }
    let snapshot = fixture.snapshot();
    let (manifests, _) = fixture::instance(&snapshot, &snapshot.instance());
    let web = manifests.service("web").expect("web");
    assert_eq!(web.revision, names::revision(&snapshot.hash()));
}

/// Every pod template that two instances side by side and their hooks render, with where it belongs.
fn all_pods(fixture: &Fixture) -> Vec<(String, BTreeMap<String, String>)> {
    let mut pods = Vec::new();
    for digit in ['a', 'b'] {
        let snapshot = fixture.build_with(fixture.release(digit)).expect("right");
        let instance = snapshot.instance();
        let (manifests, ctx) = fixture::instance(&snapshot, &instance);
        for service in manifests.services() {
            let copy = if service.scope == Scope::Stage { "shared" } else { instance.as_str() };
            pods.push((format!("{copy}/{}", service.name), pod_labels(template(service)).clone()));
        }
        for hook in fixture::hooks(&snapshot, &instance, &ctx) {
            let template = hook.job.spec.expect("a spec").template;
            pods.push(("hook".into(), pod_labels(&template).clone()));
        }
    }
    pods
}

fn selected(service: &Service, pods: &[(String, BTreeMap<String, String>)]) -> BTreeSet<String> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.expect("a selector");
    let matching = pods.iter().filter(|(_, labels)| selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
    matching.map(|(place, _)| place.clone()).collect()
}

#[test]
fn a_service_selects_its_own_pods_and_no_others() {
    for fixture in [database(), hooks(), secrets()] {
        let pods = all_pods(&fixture);
        for digit in ['a', 'b'] {
            let snapshot = fixture.build_with(fixture.release(digit)).expect("right");
            let instance = snapshot.instance();
            let (manifests, ctx) = fixture::instance(&snapshot, &instance);
            for service in manifests.services() {
                let copy = if service.scope == Scope::Stage { "shared" } else { instance.as_str() };
                let own = BTreeSet::from([format!("{copy}/{}", service.name)]);
                if let Some(address) = &service.service {
                    assert_eq!(selected(address, &pods), own);
                }
                let spec = service.workload.spec.as_ref().expect("a spec");
                let selector = spec.selector.match_labels.as_ref().expect("labels");
                let labels = pod_labels(&spec.template);
                assert!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
            }
            for stable in stage_services(&snapshot, Some(&instance), &ctx) {
                let service = &stable.labels()[labels::SERVICE];
                let own = BTreeSet::from([format!("{instance}/{service}")]);
                assert_eq!(selected(&stable, &pods), own);
            }
            for stable in stage_services(&snapshot, None, &ctx) {
                assert_eq!(selected(&stable, &pods), BTreeSet::new());
            }
        }
    }
}

#[test]
fn the_switch_changes_nothing_but_the_selector() {
    let snapshot = database().snapshot();
    let ctx = fixture::context();
    let before = stage_services(&snapshot, Some("0blue"), &ctx);
    let after = stage_services(&snapshot, Some("0green"), &ctx);
    for (before, mut after) in before.into_iter().zip(after) {
        assert_ne!(rendered(&before), rendered(&after));
        let spec = after.spec.as_mut().expect("a spec");
        spec.selector.as_mut().expect("a selector").insert(labels::INSTANCE.into(), "0blue".into());
        assert_eq!(before.spec, after.spec);
        assert_eq!(before.name_any(), after.name_any());
    }
}

#[test]
fn blue_is_never_told_of_green() {
    let fixture = database();
    let side = |digit: char| {
        let snapshot = fixture.build_with(fixture.release(digit)).expect("right");
        fixture::instance(&snapshot, &snapshot.instance()).0
    };
    let (blue, green) = (side('a'), side('b'));
    let own = |manifests: &Manifests| -> BTreeSet<String> {
        let own = manifests.services().filter(|service| service.scope == Scope::Instance);
        own.map(|service| service.workload.name_any()).collect()
    };
    assert!(own(&blue).is_disjoint(&own(&green)));
    for service in blue.services() {
        let text = serde_json::to_string(template(service)).expect("JSON");
        for name in own(&green) {
            assert!(!text.contains(&name), "{} is told of {name}", service.name);
        }
    }
    let told = |service: &str| {
        let text = serde_json::to_string(template(blue.service(service).expect("a service")));
        text.expect("JSON").contains(&blue.service("web").expect("web").workload.name_any())
    };
    assert!(told("mailer"), "an instance's service is told of its own web");
    assert!(!told("db"), "the shared copy is not");
}

#[test]
fn until_addresses_are_known_they_are_named() {
    let snapshot = database().snapshot();
    let ctx = fixture::context();
    let manifests = super::instance(&snapshot, &snapshot.instance(), &ctx).expect("rendered");
    let services = manifests.services().filter_map(|service| service.service.as_ref());
    let mut names: Vec<String> = services.map(kube::ResourceExt::name_any).collect();
    names.sort();
    assert_eq!(manifests.missing_addresses(&ctx), names);
}

#[test]
fn changed_files_get_another_name_and_leave_the_old_ones_alone() {
    let fixture = Fixture::read(include_str!("fixtures/volumes.yaml"));
    let mut snapshot = fixture.snapshot();
    let config = |snapshot: &Snapshot| {
        let (manifests, _) = fixture::instance(snapshot, "main");
        let app = manifests.service("app").expect("app").clone();
        let config = app.config.clone().expect("files");
        let text = serde_json::to_string(template(&app)).expect("JSON");
        assert!(text.contains(&config.name_any()), "the pod mounts it");
        config
    };
    let before = config(&snapshot);
    snapshot.services[0].replicas += 1;
    assert_eq!(config(&snapshot), before, "the same files");
    let files = &mut snapshot.services[0].volumes[2].source;
    let super::snapshot::VolumeSource::Files(files) = files else {
        panic!("files");
    };
    files.insert("wiki.conf".into(), "color = blue\n".into());
    assert_ne!(config(&snapshot).name_any(), before.name_any(), "other files");
}

#[test]
fn shared_claims_are_not_found_by_the_labels_of_an_instance() {
    let fixture = Fixture::read(include_str!("fixtures/volumes.yaml"));
    let snapshot = fixture.snapshot();
    let (manifests, _) = fixture::instance(&snapshot, &snapshot.instance());
    let claims = manifests.services().flat_map(|service| &service.claims);
    let (own, shared): (Vec<_>, Vec<_>) = claims.partition(|claim| claim.labels().contains_key(labels::INSTANCE));
    let names = |claims: Vec<&k8s_openapi::api::core::v1::PersistentVolumeClaim>| -> Vec<String> {
        claims.iter().map(|claim| claim.name_any()).collect()
    };
    assert_eq!(names(own), [names::instance_claim("dev", "app", "index", &snapshot.instance())]);
    assert_eq!(
        names(shared),
        [
            names::shared_claim("dev", "app", "uploads"),
            names::shared_claim("dev", "app", "fonts"),
            names::shared_claim("dev", "search", "data"),
        ]
    );
}

#[test]
fn a_pod_template_cannot_take_our_labels_away() {
    let fixture = Fixture::read(include_str!("fixtures/single.yaml"));
    let plain = fixture.snapshot();
    for overlay in [
        json!({"metadata": {"labels": null}}),
        json!({"metadata": null}),
        json!({"metadata": {"$patch": "replace", "annotations": {"a": "b"}}}),
    ] {
        let mut over = fixture.snapshot();
        over.services[0].pod_template = vec![overlay.as_object().expect("an object").clone()];
        let own = |snapshot: &Snapshot| {
            let (manifests, _) = fixture::instance(snapshot, "main");
            let mut own = pod_labels(template(&manifests.waves[0].services[0])).clone();
            own.remove(labels::SNAPSHOT);
            own
        };
        assert_eq!(own(&over), own(&plain), "{overlay}");
    }
}
