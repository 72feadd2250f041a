//! Hooks: Jobs that run once per deploy. What has begun and ended is stored, so that no crash runs a migration twice.

use k8s_openapi::api::batch::v1::Job;

use super::{
    Target, apply, evidence,
    ledger::{Entry, HookRun},
    plan::Planned,
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
    target: &Target<'_>,
    entry: &mut Entry,
    planned: &Planned,
    phase: Phase,
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
                begin(ctx, entry, key).await?;
                return Ok(true);
            }
        }
        let name = names::job(&snapshot.identity.stage, &hook.name, phase.word(), &entry.deploy.id.to_string());
        let Some(job) = children.job(&name) else {
            let at = entry.context(target, children);
            let HookManifests { claims, config, secret, pull, job, addresses } =
                render::hook(&snapshot, &entry.deploy.instance, hook, phase, &at).map_err(|problems| {
                    Error::Snapshot { snapshot: entry.deploy.snapshot.clone(), message: problems.to_string() }
                })?;
            // A Job is never changed, so it has to know all addresses from the start.
            if addresses.iter().any(|name| !at.service_ips.contains_key(name)) {
                return Ok(false);
            }
            let secrets = secret.iter().chain(pull.iter().map(|pull| &pull.manifest));
            apply::secrets(ctx, target, entry, planned, secrets, children).await?;
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
        finish(ctx, entry, key, ended, &name, children).await?;
        let doomed = Doomed { namespace: &snapshot.identity.namespace, name: &name, uid: Some(&job.meta.uid) };
        ctx.writer.delete::<Job>(doomed).await?;
        return Ok(true);
    }
    Ok(false)
}

/// Writes down that a hook begins, or learns that it has ended before.
pub async fn begin(ctx: &Context, entry: &mut Entry, key: (Phase, String)) -> Result<(), Error> {
    let run = match ctx.store.hook_begin(entry.deploy.id, key.0, &key.1, ctx.clock.now()).await? {
        HookStart::Started | HookStart::AlreadyRunning => HookRun::Running,
        HookStart::Finished { ok: true } => HookRun::Succeeded,
        HookStart::Finished { ok: false } => HookRun::Failed("it failed before".into()),
    };
    entry.hooks.insert(key, run);
    Ok(())
}

/// Keeps what the Job of a hook has said, and writes down how it ended.
pub async fn finish(
    ctx: &Context,
    entry: &mut Entry,
    key: (Phase, String),
    ended: HookRun,
    job: &str,
    children: &StageChildren,
) -> Result<(), Error> {
    evidence::job_output(ctx, entry, key.0, &key.1, job, children).await?;
    let (ok, message) = match &ended {
        HookRun::Failed(message) => (false, entry.screen.text(message).into_owned()),
        _ => (true, String::new()),
    };
    ctx.store.hook_finish(entry.deploy.id, key.0, &key.1, ok, &message, ctx.clock.now()).await?;
    entry.hooks.insert(key, ended);
    Ok(())
}

/// How the hook ended, if it has. What its container ended with says more than what the Job makes of it, so a Job that
/// failed by it is believed only when its pod's end is seen too, or the pod is gone.
pub fn ended(job: &JobView, children: &StageChildren) -> Option<HookRun> {
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
