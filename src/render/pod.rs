//! The pod template of a service: rendered, overlaid, checked.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec,
        Probe as PodProbe, SleepAction, TCPSocketAction,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::{
    discovery::{self, Address},
    meta::Copy,
    overlay,
    problem::{Problem, Problems},
    pull, secret, security,
    snapshot::{Health, Probe, ServiceSpec},
    volumes,
};
use crate::api::{Duration, labels};

/// Seconds that a pod goes on serving after it was told to stop: longer than the news takes to reach every proxy.
const DRAIN: i64 = 3;

/// Seconds after which a pod that was told to stop is killed, draining included.
const GRACE: i64 = 30;

/// The pod template of a copy, without the label that tags its revision.
pub(super) fn template(
    copy: &Copy<'_>,
    known: &[Address],
    service_ips: &BTreeMap<String, String>,
) -> Result<PodTemplateSpec, Problems> {
    let service = copy.service;
    let mut pod = PodSpec {
        containers: vec![container(copy, known)?],
        volumes: volumes::pod_volumes(copy),
        image_pull_secrets: pull::reference(copy),
        host_aliases: discovery::host_aliases(known, service_ips),
        // The variables of every Service in the namespace would show green to blue.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE),
        ..PodSpec::default()
    };
    security::fill(&mut pod);
    let rendered = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(copy.workload_labels()), ..ObjectMeta::default() }),
        spec: Some(pod),
    };
    if service.pod_template.is_empty() {
        return Ok(rendered);
    }
    overlaid(service, &rendered)
}

fn container(copy: &Copy<'_>, known: &[Address]) -> Result<Container, Problem> {
    let service = copy.service;
    let image = copy.snapshot.release.0.get(&service.name).ok_or_else(|| {
        Problem::new(
            format!("release.{}", service.name),
            "the release has no image for this service",
            "resolve its image before rendering",
        )
    })?;
    let mut env = discovery::env(copy.snapshot, copy.instance(), known);
    env.extend(secret::variables(copy));
    // The project's own come last, so that they may refer to ours and to secrets: $(STAGEKEEPER_SERVICE_DB_HOST).
    env.extend(service.env.iter().cloned());
    let ports: Vec<ContainerPort> = service
        .ports
        .iter()
        .map(|port| ContainerPort {
            name: Some(port.name.clone()),
            container_port: port.port,
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        })
        .collect();
    let drain = || Lifecycle {
        pre_stop: Some(LifecycleHandler { sleep: Some(SleepAction { seconds: DRAIN }), ..LifecycleHandler::default() }),
        ..Lifecycle::default()
    };
    Ok(Container {
        name: service.name.clone(),
        image: Some(image.reference()),
        command: some(&service.command),
        args: some(&service.args),
        env: Some(env),
        lifecycle: (!ports.is_empty()).then(drain),
        ports: (!ports.is_empty()).then_some(ports),
        readiness_probe: service.health.as_ref().map(readiness),
        resources: service.resources.clone(),
        volume_mounts: volumes::mounts(service),
        ..Container::default()
    })
}

pub(super) fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The kubelet's probe, as near to the operator's as it can be. One success is enough: how many the instance needs is
/// the operator's to count.
fn readiness(health: &Health) -> PodProbe {
    let port = IntOrString::String(health.port.clone());
    let seconds = |span: Duration| {
        let seconds = span.as_std().as_millis().div_ceil(1000).max(1);
        Some(i32::try_from(seconds).unwrap_or(i32::MAX))
    };
    let probe = PodProbe {
        period_seconds: seconds(health.interval),
        timeout_seconds: seconds(health.timeout),
        failure_threshold: Some(health.failure_threshold),
        success_threshold: Some(1),
        ..PodProbe::default()
    };
    match &health.probe {
        Probe::Http { path, expect } if kubelet_agrees(expect) => PodProbe {
            http_get: Some(HTTPGetAction { path: Some(path.clone()), port, ..HTTPGetAction::default() }),
            ..probe
        },
        Probe::Http { .. } | Probe::Tcp {} => {
            PodProbe { tcp_socket: Some(TCPSocketAction { host: None, port }), ..probe }
        }
    }
}

/// Whether every expected status code is one that the kubelet takes for success, 200 to 399. Otherwise it would keep
/// a pod unready whose answer is the expected one, and it may only look whether the port is open.
fn kubelet_agrees(expect: &str) -> bool {
    expect.split(',').all(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let inside = |code: &str| {
            let code = code.trim().parse::<u16>();
            code.is_ok_and(|code| (200..400).contains(&code))
        };
        inside(from) && inside(to)
    })
}

/// Merges the service's pod templates over the rendered one and checks what comes out.
fn overlaid(service: &ServiceSpec, rendered: &PodTemplateSpec) -> Result<PodTemplateSpec, Problems> {
    let field = |path: &str| match path {
        "" => format!("services[{}].podTemplate", service.name),
        path => format!("services[{}].podTemplate.{path}", service.name),
    };
    let unreadable = |error: serde_json::Error| {
        Problem::new(field(""), error.to_string(), "correct it to what a Kubernetes pod template takes")
    };
    let mut merged = serde_json::to_value(rendered).map_err(unreadable)?;
    for over in &service.pod_template {
        refuse_own_labels(over, &field)?;
        overlay::merge(&mut merged, over).map_err(|error| {
            Problem::new(
                field(&error.path),
                error.message,
                "correct it; the rules are those of kubectl patch --type strategic",
            )
        })?;
    }
    let mut template = PodTemplateSpec::deserialize(&merged).map_err(unreadable)?;
    let read = serde_json::to_value(&template).map_err(unreadable)?;
    let mut problems: Vec<Problem> = overlay::lost_fields(&merged, &read)
        .into_iter()
        .map(|path| Problem::new(field(&path), "is not a field of a pod template", "correct its name or remove it"))
        .collect();
    problems.extend(changed_image(service, rendered, &template, &field));
    problems.extend(doubled_variables(&template, &field));
    if let Some(pod) = &mut template.spec {
        security::fill(pod);
    }
    problems.extend(security::violations(&template).into_iter().map(|(path, what)| {
        Problem::new(field(&path), what, "remove it; pods stay within the baseline Pod Security level")
    }));
    // Whatever the overlay did to them: Services, claims and cleanup rely on our labels.
    let metadata = template.metadata.get_or_insert_default();
    let ours = rendered.metadata.iter().flat_map(|meta| meta.labels.iter().flatten());
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(ours.map(|(key, value)| (key.clone(), value.clone())));
    Problems::none_or(problems, template)
}

/// Labels with our prefix say what an object is, and are not to be chosen.
fn refuse_own_labels(over: &Map<String, Value>, field: &impl Fn(&str) -> String) -> Result<(), Problem> {
    for list in ["labels", "annotations"] {
        let given = over.get("metadata").and_then(|meta| meta.get(list)?.as_object());
        let reserved = given.into_iter().flatten().find(|(key, _)| key.starts_with(labels::PREFIX));
        if let Some((key, _)) = reserved {
            return Err(Problem::new(
                field(&format!("metadata.{list}[{key}]")),
                format!("begins with {}, which is Stagekeeper's own", labels::PREFIX),
                "choose another key",
            ));
        }
    }
    Ok(())
}

/// A variable that the project sets or that is a secret may be replaced, but merging leaves what it was before in place.
fn doubled_variables(merged: &PodTemplateSpec, field: &impl Fn(&str) -> String) -> Vec<Problem> {
    let containers = merged.spec.iter().flat_map(|pod| &pod.containers);
    let variables = containers.flat_map(|container| {
        let doubled = container.env.iter().flatten();
        let doubled =
            doubled.filter(|it| it.value_from.is_some() && it.value.as_ref().is_some_and(|it| !it.is_empty()));
        doubled.map(move |variable| format!("spec.containers[{}].env[{}]", container.name, variable.name))
    });
    let problems = variables.map(|path| {
        Problem::new(
            field(&path),
            "has both value and valueFrom, one of them from before the merge",
            "remove it, or take the other away with null, such as valueFrom: null",
        )
    });
    problems.collect()
}

/// The image comes from the release: what a deploy says that it runs is what runs.
fn changed_image(
    service: &ServiceSpec,
    rendered: &PodTemplateSpec,
    merged: &PodTemplateSpec,
    field: &impl Fn(&str) -> String,
) -> Option<Problem> {
    let image = |template: &PodTemplateSpec| {
        let containers = template.spec.as_ref().map(|pod| pod.containers.as_slice());
        let own = containers?.iter().find(|container| container.name == service.name);
        own.map(|container| container.image.clone())
    };
    let path = format!("spec.containers[{}]", service.name);
    match image(merged) {
        None => Some(Problem::new(
            field(&path),
            "removes the service's own container",
            "keep the container with the service's name",
        )),
        Some(merged) if Some(&merged) != image(rendered).as_ref() => Some(Problem::new(
            field(&format!("{path}.image")),
            "changes the image, which comes from the release",
            "remove it and set the service's image in the Project, or pin it in the Stage",
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_asks_http_only_where_it_judges_alike() {
        let cases = [
            ("200-399", true),
            ("200,204", true),
            ("301", true),
            ("200-499", false),
            ("401", false),
            ("200,404", false),
            ("100-200", false),
        ];
        for (expect, want) in cases {
            assert_eq!(kubelet_agrees(expect), want, "{expect}");
        }
    }
}
