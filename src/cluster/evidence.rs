//! What a failure left behind: events and container logs, as plain lines.
//!
//! Asked for only when a deploy has failed, so it may cost a few calls. What cannot be had becomes a line that says
//! so: evidence is never a reason for another failure.

mod text;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncReadExt, FutureExt, StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};

use super::error::{ApiError, Target};
use super::index::PodView;

/// Bounds of what is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Objects that are looked at; the rest is named as left out.
    pub subjects: usize,
    /// Events per object, the newest.
    pub events: usize,
    /// Log lines per container run, the last.
    pub log_lines: usize,
    /// Bytes of log kept per container run, the last.
    pub log_bytes: usize,
    /// How long one call may take.
    pub call: Duration,
    /// How long everything may take.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subjects: 10,
            events: 30,
            log_lines: 200,
            log_bytes: 64 * 1024,
            call: Duration::from_secs(5),
            total: Duration::from_secs(20),
        }
    }
}

/// Bytes read of one log before its end is cut out. More than [`Limits::log_bytes`], because the API server counts
/// from the first of the last lines, and it is the very last that matter.
const READ_BYTES: u64 = 1024 * 1024;

/// Longest line kept, in characters.
const LINE_CHARS: usize = 2_000;

/// How many objects are looked at side by side.
const AT_ONCE: usize = 4;

/// An object whose traces are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its kind: `Pod`, `Job`, `Deployment`, ….
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity: events of an earlier object of that name are not its own.
    pub uid: String,
    /// The runs of a pod's containers whose logs are wanted.
    pub runs: Vec<Run>,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The container.
    pub container: String,
    /// The run before the current one.
    pub previous: bool,
}

impl Subject {
    /// A pod with those of its containers that fail: they ended badly, were restarted, or run without being ready.
    pub fn failing_pod(namespace: &str, pod: &PodView) -> Self {
        let mut runs = Vec::new();
        for container in &pod.containers {
            let run = |previous| Run { container: container.name.to_string(), previous };
            if container.last_exit.as_ref().is_some_and(|exit| exit.code != 0) {
                runs.push(run(true));
            }
            let ended_badly = container.exit.as_ref().is_some_and(|exit| exit.code != 0);
            if ended_badly || (container.running && !container.ready) {
                runs.push(run(false));
            }
        }
        Self {
            kind: "Pod".into(),
            namespace: namespace.into(),
            name: pod.meta.name.to_string(),
            uid: pod.meta.uid.to_string(),
            runs,
        }
    }
}

/// One line of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written, where that is known.
    pub at: Option<Timestamp>,
    /// Where it comes from: `event`, `log`, or `evidence` for what is said about missing ones; then the object.
    pub source: Source,
    /// What it says: one line without control characters.
    pub text: String,
}

/// Where a line comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An event of an object: `event Pod/web-1`.
    Event {
        /// Kind and name.
        object: String,
        /// It tells about trouble.
        warning: bool,
    },
    /// A container's log: `log web-1/web`, `log web-1/web (previous run)`.
    Log {
        /// The pod.
        pod: String,
        /// The container and its run.
        run: Run,
    },
    /// This collector, about what could not be had: `evidence`.
    Collector,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { object, .. } => write!(f, "event {object}"),
            Self::Log { pod, run } => {
                write!(f, "log {pod}/{}{}", run.container, if run.previous { " (previous run)" } else { "" })
            }
            Self::Collector => f.write_str("evidence"),
        }
    }
}

/// Gathers events and logs. Takes at most [`Limits::total`] and never fails.
pub async fn collect(client: &Client, subjects: &[Subject], limits: &Limits) -> Vec<Line> {
    let end = Instant::now() + limits.total;
    // Boxed, so that callers can move the future between threads.
    let looked_at: Vec<BoxFuture<'_, Vec<Line>>> =
        subjects.iter().take(limits.subjects).map(|subject| traces(client, subject, limits, end).boxed()).collect();
    let mut lines: Vec<Line> = stream::iter(looked_at).buffered(AT_ONCE).flat_map(stream::iter).collect().await;
    if subjects.len() > limits.subjects {
        lines.push(remark(format!("{} more objects were not looked at", subjects.len() - limits.subjects)));
    }
    lines
}

fn remark(text: String) -> Line {
    Line { at: None, source: Source::Collector, text: text::clean(&text, LINE_CHARS) }
}

async fn traces(client: &Client, subject: &Subject, limits: &Limits, end: Instant) -> Vec<Line> {
    let object = format!("{}/{}", subject.kind, subject.name);
    if Instant::now() >= end {
        return vec![remark(format!("{object} was not looked at: that would have taken too long"))];
    }
    let in_time = || end.min(Instant::now() + limits.call);
    let mut lines = match timeout_at(in_time(), events(client, subject, &object, limits)).await {
        Ok(found) => found.unwrap_or_else(|err| vec![remark(format!("events of {object}: {err}"))]),
        Err(_) => vec![remark(format!("events of {object}: the API server did not answer in time"))],
    };
    for run in &subject.runs {
        if Instant::now() >= end {
            lines.push(remark(format!("more logs of {object} were not read: that would have taken too long")));
            break;
        }
        let source = Source::Log { pod: subject.name.clone(), run: run.clone() };
        match timeout_at(in_time(), log(client, subject, run, &source, limits)).await {
            Ok(Ok(found)) => lines.extend(found),
            Ok(Err(err)) => lines.push(remark(format!("{source}: {err}"))),
            Err(_) => lines.push(remark(format!("{source}: the API server did not answer in time"))),
        }
    }
    lines
}

async fn events(client: &Client, subject: &Subject, object: &str, limits: &Limits) -> Result<Vec<Line>, ApiError> {
    let api: Api<Event> = Api::namespaced(client.clone(), &subject.namespace);
    let params = ListParams::default().fields(&format!("involvedObject.uid={}", subject.uid)).limit(500);
    let list = api.list(&params).await.map_err(|err| ApiError::new(&target(subject, "list", "events"), &err))?;
    let mut lines: Vec<Line> = list.items.into_iter().map(|event| line(object, &event)).collect();
    lines.sort_by_key(|line| line.at);
    Ok(lines.split_off(lines.len().saturating_sub(limits.events)))
}

fn line(object: &str, event: &Event) -> Line {
    let series = event.series.as_ref();
    let last = series.and_then(|s| s.last_observed_time.as_ref()).map(|at| at.0);
    let at = last
        .or(event.last_timestamp.as_ref().map(|at| at.0))
        .or(event.event_time.as_ref().map(|at| at.0))
        .or(event.metadata.creation_timestamp.as_ref().map(|at| at.0));
    let times = series.and_then(|s| s.count).or(event.count).filter(|n| *n > 1);
    let times = times.map_or(String::new(), |n| format!(" ({n} times)"));
    let reason = event.reason.as_deref().unwrap_or("Unknown");
    let text = format!("{reason}{times}: {}", event.message.as_deref().unwrap_or_default());
    let warning = event.type_.as_deref() == Some("Warning");
    let source = Source::Event { object: object.to_owned(), warning };
    Line { at, source, text: text::clean(&text, LINE_CHARS) }
}

async fn log(
    client: &Client,
    subject: &Subject,
    run: &Run,
    source: &Source,
    limits: &Limits,
) -> Result<Vec<Line>, String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &subject.namespace);
    let params = LogParams {
        container: Some(run.container.clone()),
        previous: run.previous,
        tail_lines: Some(i64::try_from(limits.log_lines).unwrap_or(i64::MAX)),
        limit_bytes: Some(i64::try_from(READ_BYTES).unwrap_or(i64::MAX)),
        timestamps: true,
        ..LogParams::default()
    };
    let stream = api.log_stream(&subject.name, &params).await.map_err(|err| match &err {
        // Why there is no log is often the best evidence, and the kubelet says it in its own words.
        kube::Error::Api(status) if status.code == 400 => status.message.clone(),
        _ => ApiError::new(&target(subject, "get", "pods/log"), &err).to_string(),
    })?;
    let mut bytes = Vec::new();
    // What arrived before the stream broke is worth having.
    let broken = stream.take(READ_BYTES).read_to_end(&mut bytes).await.err();
    let tail = text::tail(&bytes, limits.log_lines, limits.log_bytes);
    let mut lines: Vec<Line> = tail
        .map(|raw| {
            let (at, text) = text::split_timestamp(&raw);
            Line { at, source: source.clone(), text: text::clean(text, LINE_CHARS) }
        })
        .collect();
    if lines.is_empty() {
        lines.push(remark(format!("{source}: the container wrote nothing")));
    }
    lines.extend(broken.map(|err| remark(format!("{source}: cut short: {err}"))));
    Ok(lines)
}

fn target(subject: &Subject, verbs: &'static str, resource: &str) -> Target {
    Target {
        verbs,
        group: String::new(),
        resource: resource.into(),
        namespace: Some(subject.namespace.clone()),
        name: subject.name.clone(),
    }
}

#[cfg(test)]
mod tests;
