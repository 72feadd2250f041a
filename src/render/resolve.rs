//! Project and stage become a snapshot: overrides are merged in, defaults resolved, rules across objects checked.

use k8s_openapi::api::core::v1::EnvVar;

use super::{
    check,
    problem::{Problem, Problems},
    snapshot::{
        Claim, Health, Hook, Hooks, Identity, Port, Probe, Scope, ServiceSpec, Snapshot, VERSION, Volume, VolumeSource,
    },
};
use crate::{
    api::{self, ProjectSpec, ServiceOverride, StageSpec, StrategyType},
    domain::{deploy::Strategy, release::Release},
};

impl Snapshot {
    /// Merges what the project declares and the stage overrides, and resolves every default.
    ///
    /// An override replaces command, arguments, replicas and resources as a whole, adds environment variables or
    /// replaces them by name, and merges its pod template over the project's. The scope follows from the project
    /// alone, so that a stage that pins an image does not move its service into another scope.
    ///
    /// # Errors
    /// Everything that is wrong, found in one go.
    pub fn build(
        identity: Identity,
        project: &ProjectSpec,
        stage: &StageSpec,
        release: Release,
    ) -> Result<Self, Problems> {
        let snapshot = merge(identity, project, stage, release);
        let mut problems = check::objects(&snapshot, project, stage);
        problems.extend(check::release(&snapshot));
        Problems::none_or(problems, snapshot)
    }

    /// What [`Snapshot::build`] would find wrong whatever the release: for a project and a stage whose images are
    /// not known yet.
    pub fn problems(identity: Identity, project: &ProjectSpec, stage: &StageSpec) -> Vec<Problem> {
        let snapshot = merge(identity, project, stage, Release::default());
        check::objects(&snapshot, project, stage)
    }
}

fn merge(identity: Identity, project: &ProjectSpec, stage: &StageSpec, release: Release) -> Snapshot {
    let nothing = ServiceOverride::default();
    let services = project.services.iter().map(|declared| {
        let over = stage.services.get(&declared.name).unwrap_or(&nothing);
        service(declared, over)
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
    }
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

fn hooks(declared: &api::Hooks, first_service: &str) -> Hooks {
    let phase = |hooks: &[api::Hook]| -> Vec<Hook> {
        let hooks = hooks.iter().map(|hook| Hook {
            name: hook.name.clone(),
            service: hook.service.clone().unwrap_or(first_service.to_owned()),
            image: hook.image.clone(),
            command: hook.command.clone(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout,
        });
        hooks.collect()
    };
    Hooks {
        before_start: phase(&declared.before_start),
        before_traffic: phase(&declared.before_traffic),
        verify: phase(&declared.verify),
        after_success: phase(&declared.after_success),
    }
}
