//! Evidence of failures, and the output of hooks: stored in the deploy's log while it can still be read.

use super::{
    Target,
    ledger::Entry,
    observe::Planned,
    prober::Prober,
    workloads,
};
use crate::{
    cluster::{
        evidence::{self, Line},
        index::{PodView, StageChildren},
    },
    controllers::{context::Context, error::Error},
    domain::deploy::Phase,
    store::{LogLevel, LogLine},
};

/// Stores what explains the failure of `entry`: its sentence, probe answers, events and the last lines of containers
/// that are not well. Whatever cannot be fetched becomes a line that says so. Returns whether anything was done.
pub async fn collect(
    ctx: &Context,
    target: &Target<'_>,
    entry: &mut Entry,
    planned: &Planned,
    prober: Option<&Prober>,
    children: &StageChildren,
) -> Result<bool, Error> {
    let deploy = &entry.deploy;
    let mut lines = Vec::new();
    let mut say = |source: &str, text: String| lines.push(Line { source: source.to_owned(), text });
    if let Some(message) = &deploy.message {
        say("deploy", format!("failed: {message}"));
    }
    if let Some(last) = prober.filter(|prober| prober.is_for(deploy.id)).and_then(|prober| prober.health(1, 1).last_failure) {
        say("probe", last);
    }
    // What failed its probes may look well to Kubernetes, so every pod of an unhealthy instance is heard.
    let mut pods: Vec<&PodView> = workloads::unwell(&planned.expected, children).collect();
    if pods.is_empty() {
        pods = children.instance(&deploy.instance).pods().filter(|pod| pod.job.is_none()).collect();
    }
    lines.extend(evidence::of_pods(&ctx.client, &target.key.namespace, &pods).await);
    store(ctx, entry, lines, LogLevel::Error).await?;
    let now = ctx.clock.now();
    let deploy = &entry.deploy;
    let version = ctx.store.deploy_evidence_done(deploy.id, deploy.version, ctx.term.epoch, now).await?;
    entry.deploy.version = version;
    entry.deploy.evidence_at = Some(now);
    Ok(true)
}

/// Stores the output of a hook's Job.
pub async fn job_output(
    ctx: &Context,
    entry: &Entry,
    phase: Phase,
    hook: &str,
    job: &str,
    children: &StageChildren,
) -> Result<(), Error> {
    let pods: Vec<&PodView> = children.pods().filter(|pod| pod.job.as_deref() == Some(job)).collect();
    let namespace = &entry.snapshot.identity.namespace;
    let mut lines = evidence::output_of_pods(&ctx.client, namespace, &pods).await;
    for line in &mut lines {
        line.source = format!("hook/{}/{hook}", phase.word());
    }
    store(ctx, entry, lines, LogLevel::Info).await
}

async fn store(ctx: &Context, entry: &Entry, lines: Vec<Line>, level: LogLevel) -> Result<(), Error> {
    let at = ctx.clock.now();
    let lines = lines
        .into_iter()
        .zip(0i64..)
        .map(|(line, seq)| LogLine { at, source: line.source, seq, level, line: line.text })
        .collect::<Vec<_>>();
    ctx.store.logs_append(entry.deploy.id, &lines).await?;
    Ok(())
}
