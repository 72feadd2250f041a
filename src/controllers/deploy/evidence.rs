//! Evidence of failures, and the output of hooks: stored in the deploy's log while it can still be read.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Target, ledger::Entry, plan::Planned, prober::Prober, workloads};
use crate::{
    cluster::{
        evidence::{self, Limits, Line, Run, Source, Subject},
        index::{PodView, StageChildren},
    },
    controllers::{context::Context, error::Error},
    domain::deploy::Phase,
    store::{LogLevel, LogLine},
};

/// Stores what explains the failure of `entry`: what is wrong with its pods, probe answers, events, the last lines of
/// containers that are not well, and the sentence that decided. Whatever cannot be fetched becomes a line that says so.
/// Returns whether anything was done.
pub async fn collect(
    ctx: &Context,
    target: &Target<'_>,
    entry: &mut Entry,
    planned: &Planned,
    prober: Option<&Prober>,
    children: &StageChildren,
) -> Result<bool, Error> {
    // What failed its probes may look well to Kubernetes, so every pod of an unhealthy instance is heard.
    let mut pods: Vec<&PodView> = workloads::unwell(&planned.expected, children).collect();
    if pods.is_empty() {
        pods = children.instance(&entry.deploy.instance).pods().filter(|pod| pod.job.is_none()).collect();
    }
    let subjects: Vec<Subject> = pods.iter().map(|pod| subject(&target.place.namespace, pod)).collect();
    let found = evidence::collect(&ctx.client, &subjects, &Limits::default()).await;
    let probing = prober.filter(|prober| prober.is_for(entry.deploy.id));
    let mut said = sentences(entry, probing.and_then(|prober| prober.health(1, 1).last_failure));
    said.extend(workloads::problems(&planned.expected, children).map(|text| Said::now("pods", LogLevel::Warn, text)));
    said.extend(found.into_iter().map(Said::from));
    let now = ctx.clock.now();
    ctx.store.logs_append(entry.deploy.id, &numbered(screened(entry, said), now)).await?;
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
    let lines = found.into_iter().map(|line| {
        let own = matches!(line.source, Source::Log { .. });
        let said = Said::from(line);
        Said { source: if own { source.clone() } else { format!("{source} {}", said.source) }, ..said }
    });
    let said = screened(entry, lines.collect());
    ctx.store.logs_append(entry.deploy.id, &numbered(said, ctx.clock.now())).await?;
    Ok(())
}

/// What is stored has nothing of the deploy's values in it, whoever said it.
fn screened(entry: &Entry, mut said: Vec<Said>) -> Vec<Said> {
    for one in &mut said {
        entry.screen.pass(&mut one.text);
    }
    said
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

/// A line on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    at: Option<Timestamp>,
    source: String,
    level: LogLevel,
    text: String,
}

impl Said {
    fn now(source: &str, level: LogLevel, text: String) -> Self {
        Self { at: None, source: source.to_owned(), level, text }
    }
}

impl From<Line> for Said {
    /// What a container wrote is its own affair; what Kubernetes warns of, and what could not be had, is odd.
    fn from(line: Line) -> Self {
        let level = match line.source {
            Source::Event { warning: true, .. } | Source::Collector => LogLevel::Warn,
            Source::Event { .. } | Source::Log { .. } => LogLevel::Info,
        };
        Self { at: line.at, source: line.source.to_string(), level, text: line.text }
    }
}

/// Why it failed, and what the last bad probe answered: the only errors of a log.
fn sentences(entry: &Entry, last_answer: Option<String>) -> Vec<Said> {
    let decided = entry.deploy.message.iter().map(|message| {
        let text = format!("failed: {message}");
        Said::now("deploy", LogLevel::Error, text)
    });
    let answered = last_answer.map(|answer| Said::now("probe", LogLevel::Error, answer));
    decided.chain(answered).collect()
}

/// Lines as they are stored: none from the future, and numbered by source, so that collecting once more after a crash
/// adds only what is new.
fn numbered(said: Vec<Said>, now: Timestamp) -> Vec<LogLine> {
    let mut numbers: BTreeMap<String, i64> = BTreeMap::new();
    let lines = said.into_iter().map(|Said { at, source, level, text }| {
        let number = numbers.entry(source.clone()).or_default();
        *number += 1;
        LogLine { at: at.map_or(now, |at| at.min(now)), source, seq: *number - 1, level, text }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::fixture::{SHOP, at, entry, snapshot},
        domain::deploy::State,
    };

    fn event(second: i64, warning: bool, text: &str) -> Line {
        let source = Source::Event { object: "Pod/web-1".into(), warning };
        Line { at: Some(at(second)), source, text: text.into() }
    }

    #[test]
    fn the_sentence_that_decided_and_the_probe_are_errors_and_the_rest_is_not() {
        let mut failed = entry(snapshot(SHOP, 1), 1, State::Failed);
        failed.deploy.message = Some("CrashLoopBackOff: pod web-1".into());
        let run = Run { container: "web".into(), previous: true };
        let log = Line { at: Some(at(3)), source: Source::Log { pod: "web-1".into(), run }, text: "panic".into() };
        let missing = Line { at: None, source: Source::Collector, text: "no log".into() };
        let mut said = sentences(&failed, Some("service web: 503".into()));
        said.extend([event(1, false, "Pulled"), event(2, true, "BackOff"), log, missing].map(Said::from));
        let lines = numbered(said, at(9));
        let told: Vec<_> = lines.iter().map(|line| (line.level, line.text.as_str(), line.at, line.seq)).collect();
        let want = [
            (LogLevel::Error, "failed: CrashLoopBackOff: pod web-1", at(9), 0),
            (LogLevel::Error, "service web: 503", at(9), 0),
            (LogLevel::Info, "Pulled", at(1), 0),
            (LogLevel::Warn, "BackOff", at(2), 1),
            (LogLevel::Info, "panic", at(3), 0),
            (LogLevel::Warn, "no log", at(9), 0),
        ];
        assert_eq!(told, want);
        let sources: Vec<&str> = lines.iter().map(|line| line.source.as_str()).collect();
        let pod = "event Pod/web-1";
        assert_eq!(sources, ["deploy", "probe", pod, pod, "log web-1/web (previous run)", "evidence"]);
    }

    #[test]
    fn no_line_is_from_the_future() {
        let line = numbered(vec![event(99, true, "a fast clock").into()], at(9)).remove(0);
        assert_eq!(line.at, at(9));
    }
}
