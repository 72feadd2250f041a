//! What the tests render: projects and stages as people write them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize as _;
use uuid::Uuid;

use super::{Context, HookManifests, Identity, Manifests, Problems, Snapshot};
use crate::{
    api::{Project, Stage},
    domain::{
        deploy::Phase,
        release::{Release, ReleaseImage},
        secret::{SecretId, SecretVersions},
    },
};

/// A project and a stage of it.
pub(super) struct Fixture {
    pub(super) project: Project,
    pub(super) stage: Stage,
}

impl Fixture {
    /// Reads both from YAML.
    pub(super) fn read(text: &str) -> Self {
        let mut documents = serde_yaml::Deserializer::from_str(text);
        let project = Project::deserialize(documents.next().expect("a project"));
        let stage = Stage::deserialize(documents.next().expect("a stage"));
        Self { project: project.expect("a valid project"), stage: stage.expect("a valid stage") }
    }

    pub(super) fn identity(&self) -> Identity {
        let name = |name: &Option<String>| name.clone().expect("a name");
        Identity {
            home: None,
            namespace: name(&self.stage.metadata.namespace),
            project: name(&self.project.metadata.name),
            stage: name(&self.stage.metadata.name),
        }
    }

    /// A release whose digests all repeat one hexadecimal digit.
    pub(super) fn release(&self, digit: char) -> Release {
        let services = self.project.spec.services.iter();
        let images = services.map(|service| {
            let image = ReleaseImage {
                repository: service.image.repository.clone(),
                tag: Some("1.0.0".into()),
                digest: format!("sha256:{}", digit.to_string().repeat(64)),
            };
            (service.name.clone(), image)
        });
        Release(images.collect())
    }

    pub(super) fn build(&self) -> Result<Snapshot, Problems> {
        self.build_with(self.release('a'))
    }

    pub(super) fn build_with(&self, release: Release) -> Result<Snapshot, Problems> {
        self.build_from(release, &self.secrets())
    }

    pub(super) fn build_from(&self, release: Release, secrets: &SecretVersions) -> Result<Snapshot, Problems> {
        Snapshot::build(self.identity(), &self.project.spec, &self.stage.spec, release, secrets)
    }

    /// Values for everything that is declared: the first was written once, the second twice, and so on.
    pub(super) fn secrets(&self) -> SecretVersions {
        let declared = self
            .project
            .spec
            .secrets
            .iter()
            .map(|declared| SecretId { name: declared.name.clone(), service: declared.service.clone() });
        declared.zip(1..).collect()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.build().unwrap_or_else(|problems| panic!("{problems}"))
    }
}

/// A context in which no address is known, and two credentials are.
pub(super) fn context() -> Context {
    Context {
        owner: OwnerReference {
            api_version: "stagekeeper.dev/v1alpha1".into(),
            kind: "Stage".into(),
            name: "the-stage".into(),
            uid: "11111111-2222-3333-4444-555555555555".into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        deploy: Uuid::from_u128(7),
        service_ips: BTreeMap::new(),
        credentials: BTreeMap::from([("ghcr".to_owned(), 3), ("hub".to_owned(), 1)]).into(),
        edge: BTreeMap::new(),
        fallback: None,
    }
}

/// Renders as a deploy does: Services first, then everything with their addresses.
pub(super) fn instance(snapshot: &Snapshot, instance: &str) -> (Manifests, Context) {
    let mut ctx = context();
    let first = super::instance(snapshot, instance, &ctx).expect("rendered");
    let applied = first.services().filter_map(|service| service.service.as_ref());
    for (at, service) in applied.enumerate() {
        let name = service.metadata.name.clone().expect("a name");
        ctx.service_ips.insert(name, format!("10.96.0.{}", at + 1));
    }
    let second = super::instance(snapshot, instance, &ctx).expect("rendered");
    assert_eq!(second.missing_addresses(&ctx), Vec::<&str>::new());
    (second, ctx)
}

/// Renders every hook of the snapshot.
pub(super) fn hooks(snapshot: &Snapshot, instance: &str, ctx: &Context) -> Vec<HookManifests> {
    let phases = [Phase::BeforeStart, Phase::BeforeTraffic, Phase::Verify, Phase::AfterSuccess];
    let hooks = phases.into_iter().flat_map(|phase| {
        let hooks = snapshot.hooks(phase).iter();
        hooks.map(move |hook| super::hook(snapshot, instance, hook, phase, ctx).expect("rendered"))
    });
    hooks.collect()
}
