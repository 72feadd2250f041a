//! Hooks: Jobs that run once per deploy. What has begun and ended is stored, so that no crash runs a migration twice.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{
    evidence,
    ledger::{Entry, HookRun},
};
use crate::{
    cluster::index::{JobView, Kind, StageChildren},
    controllers::{context::Context, error::Error},
    domain::deploy::Phase,
    render::{self, names},
    store::HookBegun,
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
                    HookBegun::Started | HookBegun::Running => HookRun::Running,
                    HookBegun::Finished { ok: true, .. } => HookRun::Succeeded,
                    HookBegun::Finished { ok: false, message } => HookRun::Failed(message),
                };
                entry.hooks.insert(key, run);
                return Ok(true);
            }
        }
        let name = names::job(&snapshot.identity.stage, &hook.name, phase.word(), &entry.deploy.id.to_string());
        let Some(job) = children.job(&name) else {
            let service_ips = children
                .services()
                .filter_map(|view| Some((view.meta.name.to_string(), view.cluster_ip?.to_string())))
                .collect();
            let at = render::Context { owner: owner.clone(), deploy: entry.deploy.id, service_ips };
            let object = render::hook(&snapshot, hook, phase, &entry.deploy.instance, &at)
                .map_err(|problems| Error::Snapshot { snapshot: entry.deploy.snapshot.clone(), message: problems.to_string() })?;
            ctx.writer.apply(&object).await?;
            return Ok(true);
        };
        let Some(ended) = ended(job) else { return Ok(false) };
        evidence::job_output(ctx, entry, phase, &hook.name, &name, children).await?;
        let (ok, message) = match &ended {
            HookRun::Failed(message) => (false, message.clone()),
            _ => (true, String::new()),
        };
        ctx.store.hook_finish(entry.deploy.id, phase, &hook.name, ok, &message, ctx.clock.now()).await?;
        entry.hooks.insert(key, ended);
        ctx.writer.delete(Kind::Job, &snapshot.identity.namespace, &name, &job.meta.uid).await?;
        return Ok(true);
    }
    Ok(false)
}

fn ended(job: &JobView) -> Option<HookRun> {
    if job.complete {
        return Some(HookRun::Succeeded);
    }
    let failure = job.failure.as_ref()?;
    Some(HookRun::Failed(format!("{}: {}", failure.reason, failure.message)))
}
