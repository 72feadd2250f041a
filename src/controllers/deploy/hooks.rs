//! Hooks: Jobs that run once per deploy. What has begun and ended is stored, so that no crash runs a migration twice.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{
    evidence,
    ledger::{Entry, HookRun},
};
use crate::{
    cluster::{
        apply::Doomed,
        index::{JobView, PodPhase, StageChildren},
    },
    controllers::{context::Context, error::Error},
    domain::deploy::Phase,
    render::{self, HookManifests, names},
    store::HookStart,
};

/// Moves the hooks of a phase on, one after the other. Returns whether anything changed.
pub async fn run(
    ctx: &Context,
    entry: &mut Entry,
    phase: Phase,
    owner: &OwnerReference,
    children: &StageChildren,
) -> Result<bool, Error> {
    let snapshot = entry.snapshot.clone();
    for hook in snapshot.hooks.of(phase) {
        let key = (phase, hook.name.clone());
        match entry.hooks.get(&key) {
            Some(HookRun::Succeeded) => continue,
            Some(HookRun::Failed(_)) => return Ok(false),
            Some(HookRun::Running) => {}
            None => {
                let begun = ctx.store.hook_begin(entry.deploy.id, phase, &hook.name, ctx.clock.now()).await?;
                let run = match begun {
                    HookStart::Started | HookStart::AlreadyRunning => HookRun::Running,
                    HookStart::Finished { ok: true } => HookRun::Succeeded,
                    HookStart::Finished { ok: false } => HookRun::Failed("it failed before".into()),
                };
                entry.hooks.insert(key, run);
                return Ok(true);
            }
        }
        let name = names::job(&snapshot.identity.stage, &hook.name, phase.word(), &entry.deploy.id.to_string());
        let Some(job) = children.job(&name) else {
            let at = entry.context(owner, children);
            let HookManifests { claims, config, secret: _, pull: _, job, addresses } =
                render::hook(&snapshot, &entry.deploy.instance, hook, phase, &at).map_err(|problems| {
                    Error::Snapshot { snapshot: entry.deploy.snapshot.clone(), message: problems.to_string() }
                })?;
            // A Job is never changed, so it has to know all addresses from the start.
            if addresses.iter().any(|name| !at.service_ips.contains_key(name)) {
                return Ok(false);
            }
            for claim in &claims {
                ctx.writer.apply(claim).await?;
            }
            if let Some(config) = &config {
                ctx.writer.apply(config).await?;
            }
            ctx.writer.apply(&job).await?;
            return Ok(true);
        };
        let Some(ended) = ended(job, children) else {
            return Ok(false);
        };
        evidence::job_output(ctx, entry, phase, &hook.name, &name, children).await?;
        let (ok, message) = match &ended {
            HookRun::Failed(message) => (false, message.clone()),
            _ => (true, String::new()),
        };
        ctx.store.hook_finish(entry.deploy.id, phase, &hook.name, ok, &message, ctx.clock.now()).await?;
        entry.hooks.insert(key, ended);
        let doomed = Doomed { namespace: &snapshot.identity.namespace, name: &name, uid: Some(&job.meta.uid) };
        ctx.writer.delete::<Job>(doomed).await?;
        return Ok(true);
    }
    Ok(false)
}

/// How the hook ended, if it has. What its container ended with says more than what the Job makes of it, so a Job that
/// failed by it is believed only when its pod's end is seen too, or the pod is gone.
fn ended(job: &JobView, children: &StageChildren) -> Option<HookRun> {
    if job.complete {
        return Some(HookRun::Succeeded);
    }
    let failure = job.failure.as_ref()?;
    let pods: Vec<_> = children.pods().filter(|pod| pod.job.as_deref() == Some(&*job.meta.name)).collect();
    let mut failures = pods.iter().filter_map(|pod| pod.failure.as_ref()).chain([failure]);
    if failures.any(|failure| &*failure.reason == "DeadlineExceeded") {
        return Some(HookRun::Failed("did not end within its timeout (DeadlineExceeded)".into()));
    }
    let exits = pods.iter().flat_map(|pod| pod.containers.iter().filter_map(|container| container.exit.as_ref()));
    let exit = exits.filter(|exit| exit.code != 0).map(|exit| (exit.code, &exit.reason)).next();
    match exit {
        Some((code, reason)) => Some(HookRun::Failed(format!("exited with code {code} ({reason})"))),
        None if pods.iter().any(|pod| matches!(pod.phase, PodPhase::Pending | PodPhase::Running)) => None,
        None => Some(HookRun::Failed(format!("{}: {}", failure.reason, failure.message))),
    }
}
