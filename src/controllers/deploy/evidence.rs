//! Evidence of failures, and the output of hooks: stored in the deploy's log while it can still be read.

use super::{Target, ledger::Entry, observe::Planned, prober::Prober, workloads};
use crate::{
    cluster::{
        evidence::{self, Limits, Run, Source, Subject},
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
    let mut said = Vec::new();
    if let Some(message) = &deploy.message {
        said.push(("deploy".to_owned(), format!("failed: {message}")));
    }
    let last = prober.filter(|prober| prober.is_for(deploy.id)).and_then(|prober| prober.health(1, 1).last_failure);
    said.extend(last.map(|last| ("probe".to_owned(), last)));
    // What failed its probes may look well to Kubernetes, so every pod of an unhealthy instance is heard.
    let mut pods: Vec<&PodView> = workloads::unwell(&planned.expected, children).collect();
    if pods.is_empty() {
        pods = children.instance(&deploy.instance).pods().filter(|pod| pod.job.is_none()).collect();
    }
    let subjects: Vec<Subject> = pods.iter().map(|pod| subject(&target.key.namespace, pod)).collect();
    let found = evidence::collect(&ctx.client, &subjects, &Limits::default()).await;
    let lines = said.into_iter().chain(found.into_iter().map(|line| (line.source.to_string(), line.text))).collect();
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
    let pods = children.pods().filter(|pod| pod.job.as_deref() == Some(job));
    let namespace = &entry.snapshot.identity.namespace;
    let subjects: Vec<Subject> = pods.map(|pod| subject(namespace, pod)).collect();
    let found = evidence::collect(&ctx.client, &subjects, &Limits::default()).await;
    let source = format!("hook/{}/{hook}", phase.word());
    let lines = found
        .into_iter()
        .map(|line| match line.source {
            Source::Log { .. } => (source.clone(), line.text),
            other => (format!("{source} {other}"), line.text),
        })
        .collect();
    store(ctx, entry, lines, LogLevel::Info).await
}

/// A pod with the runs of its containers that have something to say: the failing ones, or else the current ones.
fn subject(namespace: &str, pod: &PodView) -> Subject {
    let mut subject = Subject::failing_pod(namespace, pod);
    if subject.runs.is_empty() {
        let begun = pod.containers.iter().filter(|container| container.running || container.exit.is_some());
        subject.runs = begun.map(|container| Run { container: container.name.to_string(), previous: false }).collect();
    }
    subject
}

async fn store(ctx: &Context, entry: &Entry, lines: Vec<(String, String)>, level: LogLevel) -> Result<(), Error> {
    let at = ctx.clock.now();
    let line = |((source, text), seq)| LogLine { at, source, seq, level, text };
    let lines: Vec<LogLine> = lines.into_iter().zip(0i64..).map(line).collect();
    ctx.store.logs_append(entry.deploy.id, &lines).await?;
    Ok(())
}
