//! Rules that the schema cannot hold, because they look at project and stage together or at what is rendered.

use std::collections::BTreeMap;

use super::{
    discovery,
    meta::Copy,
    names, order, pod,
    problem::Problem,
    secret,
    snapshot::{Scope, Secret, SecretPlace, ServiceSpec, Snapshot, VolumeSource},
    volumes,
};
use crate::{
    api::{self, ProjectSpec, StageSpec},
    domain::{
        deploy::{Phase, Strategy},
        release::{Release, ReleaseImage},
    },
};

/// Most bytes of files that one service may have: what one `ConfigMap` holds, less room for its metadata.
const FILES: usize = 1_000_000;

const PHASES: [Phase; 4] = [Phase::BeforeStart, Phase::BeforeTraffic, Phase::Verify, Phase::AfterSuccess];

/// What is wrong with project and stage, whatever the release.
pub(super) fn objects(snapshot: &Snapshot, project: &ProjectSpec, stage: &StageSpec) -> Vec<Problem> {
    let mut found = unknown_services(snapshot, stage);
    found.extend(dependencies(snapshot));
    for declared in &project.services {
        found.extend(health(declared));
        found.extend(reserved_variables(declared, stage));
        found.extend(secret_variables(snapshot, declared, stage));
    }
    for service in &snapshot.services {
        found.extend(storage(snapshot, service));
        found.extend(secret_files(service));
    }
    found.extend(route(snapshot, stage));
    found.extend(reserved_annotations(stage));
    found.extend(pod_templates(snapshot, project, stage));
    found
}

/// What is wrong with the release: it must have exactly one image for each service.
pub(super) fn release(snapshot: &Snapshot) -> Vec<Problem> {
    let images = &snapshot.release.0;
    let missing = snapshot.services.iter().filter(|service| !images.contains_key(&service.name));
    let missing = missing.map(|service| {
        let what = "the release has no image for this service";
        Problem::new(format!("release.{}", service.name), what, "resolve its image first")
    });
    let unknown = images.keys().filter(|name| snapshot.service(name).is_none());
    let unknown = unknown.map(|name| {
        let what = "the release has an image for a service that the project does not have";
        Problem::new(format!("release.{name}"), what, "resolve the images of the project as it is")
    });
    missing.chain(unknown).collect()
}

/// Which secrets have no value, each with a service that would get it.
pub(super) fn values(missing: &[(String, String)]) -> Vec<Problem> {
    let mut of_secret: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in missing {
        of_secret.entry(name).or_default().push(service);
    }
    let problems = of_secret.into_iter().map(|(name, services)| {
        Problem::new(
            format!("Project spec.secrets[{name}]"),
            format!("has no value for {}", services.join(", ")),
            "store one with `stagekeeper secret set`, or see that the Kubernetes Secret of its secretRef has one",
        )
    });
    problems.collect()
}

fn names_of(snapshot: &Snapshot) -> String {
    let names: Vec<&str> = snapshot.services.iter().map(|s| s.name.as_str()).collect();
    names.join(", ")
}

fn unknown_services(snapshot: &Snapshot, stage: &StageSpec) -> Vec<Problem> {
    let mut named: Vec<(String, &str)> = Vec::new();
    named.extend(stage.services.keys().map(|name| (format!("services.{name}"), name.as_str())));
    named.extend(stage.pin.keys().map(|name| (format!("pin.{name}"), name.as_str())));
    for phase in PHASES {
        let hooks = snapshot.hooks(phase).iter();
        named.extend(hooks.map(|hook| {
            let field = format!("hooks.{}[{}].service", phase.word(), hook.name);
            (field, hook.service.as_str())
        }));
    }
    if let Some(service) = stage.route.as_ref().and_then(|route| route.service.as_deref()) {
        named.push(("route.service".to_owned(), service));
    }
    let unknown = named.into_iter().filter(|(_, name)| snapshot.service(name).is_none());
    unknown
        .map(|(field, name)| {
            Problem::new(
                format!("Stage spec.{field}"),
                format!("project {} has no service `{name}`; it has {}", snapshot.identity.project, names_of(snapshot)),
                "correct the name, add the service to the Project, or remove this entry",
            )
        })
        .collect()
}

fn dependencies(snapshot: &Snapshot) -> Vec<Problem> {
    let mut found = Vec::new();
    for service in &snapshot.services {
        let field = || format!("Project spec.services[{}].dependsOn", service.name);
        for name in &service.depends_on {
            match snapshot.service(name) {
                None => found.push(Problem::new(
                    field(),
                    format!("there is no service `{name}`; there are {}", names_of(snapshot)),
                    "correct the name or add the service",
                )),
                Some(other) if service.scope == Scope::Stage && other.scope == Scope::Instance => {
                    found.push(Problem::new(
                        field(),
                        format!(
                            "{} exists once per stage and cannot depend on {name}, of which every instance has its own",
                            service.name
                        ),
                        format!("set scope: Instance for {}, or scope: Stage for {name}", service.name),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    if let Err(circle) = order::waves(&snapshot.services) {
        found.push(order::problem(&circle));
    }
    found
}

fn health(declared: &api::Service) -> Option<Problem> {
    let health = declared.health.as_ref()?;
    let kind = if health.http.is_some() { "http" } else { "tcp" };
    let field = format!("Project spec.services[{}].health.{kind}.port", declared.name);
    match (health.port_name(), declared.port(health.port_name())) {
        (_, Some(_)) => None,
        (Some(name), None) => Some(Problem::new(
            field,
            format!("service {} has no port `{name}`", declared.name),
            "give the name of one of its ports, or add the port",
        )),
        (None, None) => Some(Problem::new(
            field,
            format!("service {} has no port to probe", declared.name),
            "add one to ports, or remove health",
        )),
    }
}

/// The variables that project and stage set for a service, each with its field.
fn variables<'a>(declared: &'a api::Service, stage: &'a StageSpec) -> impl Iterator<Item = (String, &'a str)> {
    let of_project = declared
        .env
        .iter()
        .map(|variable| (format!("Project spec.services[{}].env[{}]", declared.name, variable.name), &*variable.name));
    let over = stage.services.get(&declared.name).into_iter().flat_map(|over| &over.env);
    let of_stage =
        over.map(|variable| (format!("Stage spec.services.{}.env[{}]", declared.name, variable.name), &*variable.name));
    of_project.chain(of_stage)
}

fn reserved_variables(declared: &api::Service, stage: &StageSpec) -> Vec<Problem> {
    variables(declared, stage)
        .filter(|(_, name)| name.starts_with(discovery::PREFIX))
        .map(|(field, _)| {
            let what = format!("variables that begin with {} are set by Stagekeeper", discovery::PREFIX);
            Problem::new(field, what, "choose another name")
        })
        .collect()
}

/// A variable and a secret of one name would be two variables of one name.
fn secret_variables(snapshot: &Snapshot, declared: &api::Service, stage: &StageSpec) -> Vec<Problem> {
    let service = snapshot.service(&declared.name);
    let secrets: Vec<&str> = service
        .into_iter()
        .flat_map(|service| &service.secrets)
        .filter(|secret| secret.place == SecretPlace::Env)
        .map(|secret| secret.name.as_str())
        .collect();
    let of_hooks = PHASES.into_iter().flat_map(|phase| {
        let hooks = snapshot.hooks(phase).iter().filter(|hook| hook.service == declared.name);
        hooks.flat_map(move |hook| {
            let field = format!("Stage spec.hooks.{}[{}]", phase.word(), hook.name);
            hook.env.iter().map(move |variable| (format!("{field}.env[{}]", variable.name), &*variable.name))
        })
    });
    variables(declared, stage)
        .chain(of_hooks)
        .filter(|(_, name)| secrets.contains(name))
        .map(|(field, name)| {
            let what = format!("service {} gets the secret {name} as this variable", declared.name);
            Problem::new(field, what, "remove the variable, or give the secret another name")
        })
        .collect()
}

/// Whether one path is the other, or lies below it.
fn is_within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every file needs a place of its own, into which it can be mounted.
fn secret_files(service: &ServiceSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    let files: Vec<(&Secret, &str)> =
        service.secrets.iter().filter_map(|secret| Some((secret, secret.path()?))).collect();
    for (at, (secret, path)) in files.iter().enumerate() {
        let mut refuse = |what: String| {
            let field = format!("Project spec.secrets[{}].path", secret.name);
            found.push(Problem::new(field, what, "choose another path"));
        };
        for (other, taken) in &files[..at] {
            if is_within(path, taken) || is_within(taken, path) {
                refuse(format!("is in the way of the secret {} in service {}: {taken}", other.name, service.name));
            }
        }
        for volume in &service.volumes {
            if is_within(&volume.mount_path, path) {
                refuse(format!(
                    "is in the way of volume {} in service {}: {}",
                    volume.name, service.name, volume.mount_path
                ));
            } else if volume.read_only && is_within(path, &volume.mount_path) {
                refuse(format!(
                    "lies in volume {} of service {}, which is read-only, so that nothing can be mounted there",
                    volume.name, service.name
                ));
            }
        }
    }
    if !files.is_empty() && service.volumes.iter().any(|volume| volume.name == secret::VOLUME) {
        found.push(Problem::new(
            format!("Project spec.services[{}].volumes[{}]", service.name, secret::VOLUME),
            "is the name of the volume with the service's secrets",
            "choose another name",
        ));
    }
    found
}

/// A shared claim survives instances and may be mounted by a service that every instance has its own of, if nodes may
/// mount it together: a new instance starts while the old one runs. With a strategy that changes one instance in
/// place there never are two, and a workload whose claim is not for many is stopped before it is started again.
fn storage(snapshot: &Snapshot, service: &ServiceSpec) -> Vec<Problem> {
    let mut found = Vec::new();
    for volume in &service.volumes {
        let field = |rest: &str| format!("Project spec.services[{}].volumes[{}].{rest}", service.name, volume.name);
        match &volume.source {
            VolumeSource::SharedClaim(claim)
                if service.scope == Scope::Instance
                    && snapshot.strategy == Strategy::BlueGreen
                    && !claim.takes_many(volume.read_only) =>
            {
                found.push(Problem::new(
                    field("sharedClaim.accessModes"),
                    format!(
                        "service {} has scope Instance and strategy BlueGreen runs two instances during a deploy, but {} lets only one mount the claim",
                        service.name,
                        claim.access_modes.join(", ")
                    ),
                    "use ReadWriteMany where the storage class has it, perInstanceClaim, scope: Stage for the service, or strategy.type Rolling or Recreate in the Stage",
                ));
            }
            VolumeSource::PerInstanceClaim(_) if service.scope == Scope::Stage => {
                found.push(Problem::new(
                    field("perInstanceClaim"),
                    format!("service {} has scope Stage and belongs to no instance", service.name),
                    "use sharedClaim, or set scope: Instance for the service",
                ));
            }
            _ => {}
        }
        let once = volumes::claim_of(volume)
            .is_some_and(|claim| claim.access_modes.iter().all(|mode| mode == "ReadWriteOncePod"));
        if once && service.replicas > 1 {
            found.push(Problem::new(
                field("accessModes"),
                format!("{} pods cannot mount a claim that is ReadWriteOncePod", service.replicas),
                "set replicas to 1, or use ReadWriteMany",
            ));
        }
    }
    let files = service.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Files(files) => Some(files.values().map(String::len).sum::<usize>()),
        _ => None,
    });
    let bytes: usize = files.sum();
    if bytes > FILES {
        found.push(Problem::new(
            format!("Project spec.services[{}].volumes", service.name),
            format!("the files of all its volumes have {bytes} bytes together, and {FILES} is the most"),
            "put large files into the image",
        ));
    }
    found
}

fn route(snapshot: &Snapshot, stage: &StageSpec) -> Option<Problem> {
    let route = stage.route.as_ref()?;
    let Some(name) = &route.service else {
        let candidate =
            snapshot.services.iter().any(|service| service.scope == Scope::Instance && !service.ports.is_empty());
        let what = format!("no service of project {} has scope Instance and a port", snapshot.identity.project);
        return (!candidate).then(|| {
            Problem::new(
                "Stage spec.route.service",
                what,
                "name the service that gets the traffic, or add a port to one",
            )
        });
    };
    let service = snapshot.service(name)?;
    match &route.port {
        _ if service.ports.is_empty() => Some(Problem::new(
            "Stage spec.route.service",
            format!("service {name} has no port"),
            "add one to it in the Project, or name another service",
        )),
        Some(port) if !service.ports.iter().any(|it| it.name == *port) => Some(Problem::new(
            "Stage spec.route.port",
            format!("service {name} has no port `{port}`"),
            "give the name of one of its ports, or leave it out for the first",
        )),
        _ => None,
    }
}

fn reserved_annotations(stage: &StageSpec) -> Vec<Problem> {
    let given = stage.route.iter().flat_map(|route| route.annotations.keys());
    given
        .filter(|key| key.starts_with(api::labels::PREFIX))
        .map(|key| {
            let what = format!("begins with {}, which is Stagekeeper's own", api::labels::PREFIX);
            let field = format!("Stage spec.route.annotations[{key}]");
            Problem::new(field, what, "choose another key")
        })
        .collect()
}

/// Renders each pod that has an overlay, to see whether it can be.
fn pod_templates(snapshot: &Snapshot, project: &ProjectSpec, stage: &StageSpec) -> Vec<Problem> {
    let image = ReleaseImage { repository: "any".into(), tag: None, digest: "sha256:any".into() };
    let any = snapshot.services.iter().map(|it| (it.name.clone(), image.clone()));
    let trial = Snapshot { release: Release(any.collect()), ..snapshot.clone() };
    let mut found = Vec::new();
    for service in trial.services.iter().filter(|it| !it.pod_template.is_empty()) {
        let copy = Copy::new(&trial, service, names::IN_PLACE);
        let Err(problems) = pod::template(&copy, &[], &BTreeMap::new()) else {
            continue;
        };
        let of_project = project.service(&service.name).is_some_and(|it| it.pod_template.is_some());
        let of_stage = stage.services.get(&service.name).is_some_and(|it| it.pod_template.is_some());
        let kind = match (of_project, of_stage) {
            (_, false) => "Project",
            (false, true) => "Stage",
            (true, true) => "Project or Stage",
        };
        found.extend(
            problems
                .0
                .into_iter()
                .map(|problem| Problem { field: format!("{kind} spec.{}", problem.field), ..problem }),
        );
    }
    found
}

#[cfg(test)]
mod tests;
