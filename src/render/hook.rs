//! Jobs that run once per deploy, made from a service's image, environment, files and secrets.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{ConfigMap, PersistentVolumeClaim, PodSpec},
};

use super::{
    discovery,
    meta::{self, Context, Copy},
    names, pod,
    problem::{Problem, Problems},
    pull::{self, PullSecret},
    resolve,
    secret::{self, SecretManifest},
    snapshot::{Hook, Scope, ServiceSpec, Snapshot, VolumeSource},
    volumes,
};
use crate::{api::labels, domain::deploy::Phase};

/// Seconds that a Job has beyond its pod's own deadline. The pod's deadline leaves the pod, and with it the hook's last
/// words; the Job's removes it. So the Job's is for a pod that no node takes, or whose node is away.
const UNSTARTED: i64 = 30;

/// The objects of one hook, to be applied in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct HookManifests {
    /// Shared claims that it mounts; the same objects as the service's.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Files that it mounts; the same object as the service's.
    pub config: Option<ConfigMap>,
    /// Values that it gets; the same object as the service's.
    pub secret: Option<SecretManifest>,
    /// Logins with which nodes pull its service's image; the same object as the instance's or the stage's.
    pub pull: Option<PullSecret>,
    /// The job. It has no time to live: it is removed when its output is stored.
    pub job: Job,
    /// Names of the Service objects whose addresses it is told.
    pub addresses: Vec<String>,
}

/// Renders a hook of `phase`: its service's image, environment, files, secrets, scratch space and pod template, but neither
/// sidecars, which would keep the job from ending, nor claims that another node may hold.
///
/// Before the start there is no instance to talk to: hooks of that phase are told only the services that the stage's
/// instances share. All others are told every service, their own included.
///
/// # Errors
/// What is wrong with the snapshot; never for one that [`Snapshot::build`] made with this version of the program.
pub fn hook(
    snapshot: &Snapshot,
    instance: &str,
    hook: &Hook,
    phase: Phase,
    ctx: &Context,
) -> Result<HookManifests, Problems> {
    let declared = snapshot.service(&hook.service).ok_or_else(|| {
        Problem::new(
            format!("Stage spec.hooks.{}[{}].service", phase.word(), hook.name),
            format!("the snapshot has no service `{}`", hook.service),
            "name a service of the project",
        )
    })?;
    let service = once(declared, hook);
    let copy = Copy::new(snapshot, &service, instance);
    let known =
        discovery::addresses(snapshot, instance, |other| phase != Phase::BeforeStart || other.scope == Scope::Stage);

    let limit = i64::try_from(hook.timeout.as_std().as_millis().div_ceil(1000).max(1)).unwrap_or(i64::MAX);
    let mut template = pod::template(&copy, &known, &ctx.service_ips)?;
    let mut all = meta::shared_labels(snapshot);
    let release = snapshot.release.id();
    all.extend(
        [
            (labels::NAME, hook.name.as_str()),
            (labels::INSTANCE, instance),
            (labels::RELEASE, release.short()),
            (labels::HOOK, moment(phase)),
            (labels::HOOK_NAME, hook.name.as_str()),
            (labels::DEPLOY, &ctx.deploy.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let pod_labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    // What the selectors of Services and workloads look for: a job must not get traffic.
    pod_labels.retain(|key, _| *key != labels::SERVICE && *key != labels::SCOPE);
    pod_labels.extend(all.clone());
    if let Some(pod) = &mut template.spec {
        let mut env = discovery::env(snapshot, Some(instance), &known);
        env.push(discovery::variable("DEPLOY", &ctx.deploy.to_string()));
        env.push(discovery::variable("HOOK", &hook.name));
        run_once(pod, &service.name, hook, &env);
        pod.active_deadline_seconds = Some(limit);
    }

    let deploy = ctx.deploy.to_string();
    let name = names::job(&snapshot.identity.stage, &hook.name, phase.word(), &deploy);
    let job = Job {
        metadata: meta::meta(snapshot, name, all, ctx),
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(limit.saturating_add(UNSTARTED)),
            template,
            ..JobSpec::default()
        }),
        status: None,
    };
    Ok(HookManifests {
        claims: volumes::claims(&copy, ctx),
        config: volumes::config(&copy, ctx),
        secret: secret::values(&copy, ctx),
        pull: service.pull_credential.as_ref().map(|_| pull::secret(snapshot, copy.instance(), ctx)),
        job: meta::marked(job, ctx),
        addresses: known.into_iter().map(|address| address.object).collect(),
    })
}

/// The value of the label that names the moment.
const fn moment(phase: Phase) -> &'static str {
    match phase {
        Phase::BeforeStart => "before-start",
        Phase::BeforeTraffic => "before-traffic",
        Phase::Verify => "verify",
        Phase::AfterSuccess => "after-success",
    }
}

/// The service as the hook runs it.
fn once(declared: &ServiceSpec, hook: &Hook) -> ServiceSpec {
    let reachable = declared.volumes.iter().filter(|volume| match &volume.source {
        VolumeSource::SharedClaim(claim) => claim.takes_many(volume.read_only),
        VolumeSource::PerInstanceClaim(_) => false,
        VolumeSource::Files(_) | VolumeSource::EmptyDir { .. } => true,
    });
    ServiceSpec {
        command: hook.command.clone(),
        args: hook.args.clone(),
        env: resolve::merge_env(&declared.env, &hook.env),
        volumes: reachable.cloned().collect(),
        ports: Vec::new(),
        health: None,
        ..declared.clone()
    }
}

/// Leaves of the pod what a job needs.
fn run_once(pod: &mut PodSpec, service: &str, hook: &Hook, env: &[k8s_openapi::api::core::v1::EnvVar]) {
    pod.restart_policy = Some("Never".into());
    pod.containers.retain(|container| container.name == service);
    for container in &mut pod.containers {
        if let Some(image) = &hook.image {
            container.image = Some(image.clone());
        }
        container.command = pod::some(&hook.command);
        container.args = pod::some(&hook.args);
        container.ports = None;
        container.lifecycle = None;
        container.readiness_probe = None;
        container.liveness_probe = None;
        container.startup_probe = None;
        let given = container.env.get_or_insert_default();
        let missing = env.iter().filter(|ours| !given.iter().any(|it| it.name == ours.name));
        let missing: Vec<_> = missing.cloned().collect();
        given.splice(0..0, missing);
    }
    // An overlay may mention mounts of claims that the job does not have.
    let volumes: Vec<String> = pod.volumes.iter().flatten().map(|it| it.name.clone()).collect();
    let init = pod.init_containers.iter_mut().flatten();
    for container in pod.containers.iter_mut().chain(init) {
        if let Some(mounts) = &mut container.volume_mounts {
            mounts.retain(|mount| volumes.contains(&mount.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::render::{
        fixture::{self, Fixture},
        names,
    };

    #[test]
    fn hooks_mount_the_same_files_and_no_claim_that_another_node_may_hold() {
        let fixture = Fixture::read(include_str!("fixtures/volumes.yaml"));
        let snapshot = fixture.snapshot();
        let (manifests, ctx) = fixture::instance(&snapshot, &snapshot.instance());
        let app = manifests.service("app").expect("app");
        let hooks = fixture::hooks(&snapshot, &snapshot.instance(), &ctx);
        assert_eq!(hooks.len(), 1);
        assert_eq!(hooks[0].config, app.config);
        assert!(hooks[0].claims.iter().all(|claim| app.claims.contains(claim)));
        let text = serde_json::to_string(&hooks[0].job).expect("JSON");
        assert!(!text.contains("\"index\""), "{text}");
    }

    #[test]
    fn before_the_start_hooks_are_told_of_shared_services_only() {
        let snapshot = Fixture::read(include_str!("fixtures/hooks.yaml")).snapshot();
        let (_, ctx) = fixture::instance(&snapshot, &snapshot.instance());
        let hooks = fixture::hooks(&snapshot, &snapshot.instance(), &ctx);
        let web = names::instance_service("production", "web", &snapshot.instance());
        let addresses: Vec<&[String]> = hooks.iter().map(|hook| hook.addresses.as_slice()).collect();
        let db = "production-db".to_owned();
        let all = [db.clone(), web];
        assert_eq!(addresses, [&all[..1], &all, &all, &all]);
    }
}
