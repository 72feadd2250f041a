//! Project and stage become a snapshot: overrides are merged in, defaults resolved, rules across objects checked.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;

use super::{
    check,
    problem::{Problem, Problems},
    snapshot::{
        Claim, Health, Hook, Hooks, Identity, Port, Probe, Scope, Secret, SecretPlace, ServiceSpec, Snapshot, VERSION,
        Volume, VolumeSource,
    },
};
use crate::{
    api::{self, ProjectSpec, SecretDeclaration, SecretForm, ServiceOverride, StageSpec, StrategyType},
    domain::{
        deploy::Strategy,
        release::Release,
        secret::{self, SecretId, SecretVersions},
    },
};

impl Snapshot {
    /// Merges what the project declares and the stage overrides, and resolves every default.
    ///
    /// An override replaces command, arguments, replicas and resources as a whole, adds environment variables or
    /// replaces them by name, and merges its pod template over the project's. The scope follows from the project
    /// alone, so that a stage that pins an image does not move its service into another scope.
    ///
    /// `secrets`: which of the project's secrets have a value, and at which version.
    ///
    /// # Errors
    /// Everything that is wrong, found in one go.
    pub fn build(
        identity: Identity,
        project: &ProjectSpec,
        stage: &StageSpec,
        release: Release,
        secrets: &SecretVersions,
    ) -> Result<Self, Problems> {
        let known = |name: &str, service: &str| secret::effective(name, service, secrets);
        let snapshot = merge(identity, project, stage, release, &known);
        let mut problems = check::objects(&snapshot, project, stage);
        problems.extend(check::release(&snapshot));
        problems.extend(check::values(&missing_secrets(project, secrets)));
        Problems::none_or(problems, snapshot)
    }

    /// What [`Snapshot::build`] would find wrong whatever the release and the values of secrets: for a project and a
    /// stage whose images are not known yet.
    pub fn problems(identity: Identity, project: &ProjectSpec, stage: &StageSpec) -> Vec<Problem> {
        let any = |name: &str, _: &str| Some((SecretId::for_all(name), 0));
        let snapshot = merge(identity, project, stage, Release::default(), &any);
        check::objects(&snapshot, project, stage)
    }
}

/// Declared secrets that have no value, each with a service that would get it: a snapshot cannot be built without them.
pub fn missing_secrets(project: &ProjectSpec, known: &SecretVersions) -> Vec<(String, String)> {
    let services = project.services.iter().map(|service| service.name.as_str());
    let missing = services.flat_map(|service| {
        let declared = declared_for(project, service).into_iter();
        let without = declared.filter(move |it| secret::effective(&it.name, service, known).is_none());
        without.map(move |declared| (declared.name.clone(), service.to_owned()))
    });
    missing.collect()
}

/// The declarations that hold for a service, by name: of two with one name, its own.
fn declared_for<'a>(project: &'a ProjectSpec, service: &str) -> Vec<&'a SecretDeclaration> {
    let own = |declared: &SecretDeclaration| declared.service.as_deref() == Some(service);
    let mut chosen: BTreeMap<&str, &SecretDeclaration> = BTreeMap::new();
    for declared in &project.secrets {
        if own(declared) || declared.service.is_none() && !chosen.contains_key(declared.name.as_str()) {
            chosen.insert(&declared.name, declared);
        }
    }
    chosen.into_values().collect()
}

/// The value that a service gets under a name.
type Effective<'a> = dyn Fn(&str, &str) -> Option<(SecretId, i64)> + 'a;

fn merge(
    identity: Identity,
    project: &ProjectSpec,
    stage: &StageSpec,
    release: Release,
    value: &Effective<'_>,
) -> Snapshot {
    let nothing = ServiceOverride::default();
    let services = project.services.iter().map(|declared| {
        let over = stage.services.get(&declared.name).map_or(&nothing, |over| over);
        let secrets = declared_for(project, &declared.name).into_iter();
        let secrets = secrets.filter_map(|it| Some(resolve_secret(it, value(&it.name, &declared.name)?)));
        ServiceSpec { secrets: secrets.collect(), ..service(declared, over) }
    });
    let first = project.services.first().map_or("", |first| &first.name);
    Snapshot {
        version: VERSION,
        identity,
        strategy: match stage.strategy.type_ {
            StrategyType::BlueGreen => Strategy::BlueGreen,
            StrategyType::Rolling => Strategy::Rolling,
            StrategyType::Recreate => Strategy::Recreate,
        },
        release,
        services: services.collect(),
        hooks: stage.hooks.as_ref().map(|declared| hooks(declared, first)).unwrap_or_default(),
    }
}

fn service(declared: &api::Service, over: &ServiceOverride) -> ServiceSpec {
    let overlays = [&declared.pod_template, &over.pod_template];
    let resources = over.resources.as_ref().or(declared.resources.as_ref());
    ServiceSpec {
        name: declared.name.clone(),
        scope: match declared.effective_scope() {
            api::Scope::Instance => Scope::Instance,
            api::Scope::Stage => Scope::Stage,
        },
        command: over.command.as_ref().unwrap_or(&declared.command).clone(),
        args: over.args.as_ref().unwrap_or(&declared.args).clone(),
        ports: declared.ports.iter().map(port).collect(),
        env: merge_env(&declared.env, &over.env),
        volumes: declared.volumes.iter().filter_map(volume).collect(),
        replicas: over.replicas.unwrap_or(declared.replicas),
        resources: resources.cloned(),
        depends_on: declared.depends_on.clone(),
        health: declared.health.as_ref().and_then(|health| resolve_health(declared, health)),
        pod_template: overlays.into_iter().flatten().cloned().collect(),
        secrets: Vec::new(),
        pull_credential: declared.image.credential.clone(),
    }
}

fn resolve_secret(declared: &SecretDeclaration, (id, version): (SecretId, i64)) -> Secret {
    let place = match (declared.as_, &declared.path) {
        (SecretForm::File, Some(path)) => SecretPlace::File { path: path.clone(), mode: declared.file_mode() },
        _ => SecretPlace::Env,
    };
    Secret { name: id.name, service: id.service, version, place }
}

fn port(declared: &api::Port) -> Port {
    Port { name: declared.name.clone(), port: declared.port }
}

/// `over` replaces by name, where the variable stands, so that references to earlier ones still hold; what is new
/// comes last.
pub(super) fn merge_env(base: &[EnvVar], over: &[EnvVar]) -> Vec<EnvVar> {
    let replaced = base.iter().map(|variable| {
        let same = over.iter().find(|other| other.name == variable.name);
        same.unwrap_or(variable).clone()
    });
    let is_new = |variable: &&EnvVar| !base.iter().any(|other| other.name == variable.name);
    replaced.chain(over.iter().filter(is_new).cloned()).collect()
}

fn volume(declared: &api::Volume) -> Option<Volume> {
    let source = match declared.source()? {
        api::VolumeSource::SharedClaim(it) => VolumeSource::SharedClaim(claim(it)),
        api::VolumeSource::PerInstanceClaim(it) => VolumeSource::PerInstanceClaim(claim(it)),
        api::VolumeSource::Files(files) => VolumeSource::Files(files.clone()),
        api::VolumeSource::EmptyDir(dir) => {
            VolumeSource::EmptyDir { size_limit: dir.size_limit.clone(), memory: dir.memory }
        }
    };
    Some(Volume {
        name: declared.name.clone(),
        mount_path: declared.mount_path.clone(),
        read_only: declared.read_only || matches!(source, VolumeSource::Files(_)),
        source,
    })
}

fn claim(declared: &api::Claim) -> Claim {
    Claim {
        size: declared.size.clone(),
        storage_class_name: declared.storage_class_name.clone(),
        access_modes: declared.access_modes.clone(),
    }
}

/// `None` where the probe or its port is missing, which is reported by the checks.
fn resolve_health(service: &api::Service, declared: &api::Health) -> Option<Health> {
    let probe = match (&declared.http, &declared.tcp) {
        (Some(http), None) => Probe::Http { path: http.path.clone(), expect: http.expect.clone() },
        (None, Some(_)) => Probe::Tcp {},
        _ => return None,
    };
    Some(Health {
        probe,
        port: service.port(declared.port_name())?.name.clone(),
        interval: declared.interval,
        timeout: declared.timeout,
        success_threshold: declared.success_threshold,
        failure_threshold: declared.failure_threshold,
    })
}

/// A hook as a snapshot has it; `first_service` is the one that it runs in when it names none.
pub fn resolved_hook(hook: &api::Hook, first_service: &str) -> Hook {
    Hook {
        name: hook.name.clone(),
        service: hook.service.clone().unwrap_or(first_service.to_owned()),
        image: hook.image.clone(),
        command: hook.command.clone(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: hook.timeout,
    }
}

fn hooks(declared: &api::Hooks, first_service: &str) -> Hooks {
    let phase =
        |hooks: &[api::Hook]| -> Vec<Hook> { hooks.iter().map(|hook| resolved_hook(hook, first_service)).collect() };
    Hooks {
        before_start: phase(&declared.before_start),
        before_traffic: phase(&declared.before_traffic),
        verify: phase(&declared.verify),
        after_success: phase(&declared.after_success),
    }
}
