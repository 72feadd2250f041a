//! From what the cluster shows to what the machine wants to know about an instance's pods. Pure.

use crate::{
    cluster::index::{ContainerView, PodPhase, PodView, StageChildren, WorkloadView},
    domain::deploy::{Problem, Workloads},
};

/// A container that was restarted this often will not mend itself while somebody waits.
const RESTARTS_OF_A_CRASH_LOOP: u32 = 3;

/// What one service of an instance should look like once applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Name of the service.
    pub service: String,
    /// Name of its workload.
    pub workload: String,
    /// Hash of the workload as rendered: readiness of any other revision says nothing.
    pub rendered: String,
    /// What its pods carry as a label: those of another revision say nothing about this one.
    pub revision: String,
    /// Number of pods.
    pub replicas: u32,
    /// Position in the order of dependencies, from 0.
    pub wave: usize,
    /// Whether all instances share it.
    pub shared: bool,
}

/// How one service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its workload does not exist, or as something else than rendered.
    Absent,
    /// It is applied, and not all its pods are ready.
    Starting,
    /// Every pod of this revision is ready.
    Ready,
}

/// How the service stands in `children`.
pub fn standing(expected: &Expected, children: &StageChildren) -> Standing {
    match workload(expected, children) {
        None => Standing::Absent,
        Some(view) if is_ready(expected, view) => Standing::Ready,
        Some(_) => Standing::Starting,
    }
}

/// Whether the service serves, as rendered now or by an earlier version of this program: an upgrade that renders the same
/// snapshot differently takes no readiness away.
pub fn serves(expected: &Expected, children: &StageChildren) -> bool {
    children
        .workload(&expected.workload)
        .is_some_and(|view| view.meta.snapshot.as_deref() == Some(&expected.revision) && is_ready(expected, view))
}

/// The first wave that is not ready, or the number of waves: services up to and including it may be applied.
pub fn frontier(expected: &[Expected], children: &StageChildren) -> usize {
    let unready = expected.iter().filter(|one| standing(one, children) != Standing::Ready).map(|one| one.wave).min();
    unready.unwrap_or_else(|| expected.iter().map(|one| one.wave + 1).max().unwrap_or_default())
}

/// Summary for the machine. `snapshot` is what the expectation was rendered from.
pub fn workloads(snapshot: &str, expected: &[Expected], children: &StageChildren) -> Workloads {
    let frontier = frontier(expected, children);
    let due: Vec<&Expected> = expected.iter().filter(|one| one.wave <= frontier).collect();
    let applied = due.iter().all(|one| standing(one, children) != Standing::Absent);
    let mut progress = Vec::new();
    let mut problem: Option<Problem> = None;
    let mut pulled = applied;
    for one in &due {
        let Some(view) = workload(one, children) else {
            continue;
        };
        if is_ready(one, view) {
            continue;
        }
        progress.push(format!("{} {}/{} ready", one.service, view.ready.min(one.replicas), one.replicas));
        let pods: Vec<&PodView> = pods(one, view, children).collect();
        let with_images = pods.iter().filter(|pod| pod.is_pulled()).count();
        if u32::try_from(with_images).unwrap_or(u32::MAX) < one.replicas {
            pulled = false;
        }
        let found = pods.iter().filter_map(|pod| pod_problem(pod));
        let found = found.reduce(|worst, other| if other.fatal && !worst.fatal { other } else { worst });
        if let Some(found) = found.or_else(|| replica_failure(view))
            && problem.as_ref().is_none_or(|problem| found.fatal && !problem.fatal)
        {
            problem = Some(found);
        }
    }
    Workloads {
        snapshot: applied.then(|| snapshot.to_owned()),
        pulled,
        ready: applied && expected.iter().all(|one| standing(one, children) == Standing::Ready),
        progress: progress.join(", "),
        problem,
    }
}

/// Everything that is wrong, pod by pod, for the evidence: `ImagePullBackOff: pod …, container …: …`.
pub fn problems<'a>(expected: &'a [Expected], children: &'a StageChildren) -> impl Iterator<Item = String> + 'a {
    let refused = expected.iter().filter_map(|one| replica_failure(workload(one, children)?));
    let pods = unwell(expected, children).flat_map(pod_problems);
    refused.chain(pods).map(|problem| format!("{}: {}", problem.reason, problem.message))
}

/// Pods that are not well, for the evidence.
pub fn unwell<'a>(expected: &'a [Expected], children: &'a StageChildren) -> impl Iterator<Item = &'a PodView> {
    expected.iter().flat_map(|one| unready(expected, &one.service, children))
}

/// Pods of one service that are not ready.
pub fn unready<'a>(
    expected: &'a [Expected],
    service: &str,
    children: &'a StageChildren,
) -> impl Iterator<Item = &'a PodView> {
    let one = expected.iter().find(|one| one.service == service);
    one.and_then(|one| Some((one, workload(one, children)?)))
        .into_iter()
        .flat_map(|(one, view)| pods(one, view, children))
        .filter(|pod| !pod.ready)
}

fn workload<'a>(expected: &Expected, children: &'a StageChildren) -> Option<&'a WorkloadView> {
    let view = children.workload(&expected.workload)?;
    (view.meta.rendered.as_deref() == Some(&expected.rendered)).then_some(view)
}

fn is_ready(expected: &Expected, view: &WorkloadView) -> bool {
    view.is_ready() && view.ready >= expected.replicas
}

/// Pods of the workload's current revision.
fn pods<'a>(
    expected: &'a Expected,
    view: &'a WorkloadView,
    children: &'a StageChildren,
) -> impl Iterator<Item = &'a PodView> {
    children.pods().filter(move |pod| {
        !pod.meta.deleting
            && pod.job.is_none()
            && pod.meta.service == view.meta.service
            && pod.meta.instance == view.meta.instance
            && pod.meta.snapshot.as_deref() == Some(&expected.revision)
    })
}

/// Pods that cannot be made: for quota or admission.
fn replica_failure(view: &WorkloadView) -> Option<Problem> {
    view.replica_failure.as_ref().map(|failure| Problem {
        reason: failure.reason.to_string(),
        message: format!("workload {}: {}", view.meta.name, failure.message),
        fatal: false,
    })
}

/// The worst thing that is wrong with a pod; of several equally bad ones the first.
fn pod_problem(pod: &PodView) -> Option<Problem> {
    pod_problems(pod).into_iter().reduce(|worst, other| if other.fatal && !worst.fatal { other } else { worst })
}

fn pod_problems(pod: &PodView) -> Vec<Problem> {
    let soft = |reason: &str, message: String| Problem { reason: reason.into(), message, fatal: false };
    if let Some(message) = &pod.unschedulable {
        return vec![soft("Unschedulable", format!("pod {}: {message}", pod.meta.name))];
    }
    if let Some(failure) = &pod.failure {
        return vec![soft(&failure.reason, format!("pod {}: {}", pod.meta.name, failure.message))];
    }
    pod.containers.iter().filter_map(|container| container_problem(pod, container)).collect()
}

fn container_problem(pod: &PodView, container: &ContainerView) -> Option<Problem> {
    let place = format!("pod {}, container {}", pod.meta.name, container.name);
    let exit = container.exit.as_ref().or(container.last_exit.as_ref());
    let exit =
        exit.map(|exit| format!("exited with code {} ({}), {} restarts", exit.code, exit.reason, container.restarts));
    let looping = container.restarts >= RESTARTS_OF_A_CRASH_LOOP && !container.ready;
    if let Some(waiting) = &container.waiting {
        let reason = &*waiting.reason;
        if matches!(reason, "ContainerCreating" | "PodInitializing" | "") {
            return None;
        }
        let detail = match exit {
            Some(exit) => exit,
            None if waiting.message.is_empty() => reason.to_owned(),
            None => waiting.message.to_string(),
        };
        let fatal =
            matches!(reason, "InvalidImageName" | "ErrImageNeverPull") || (reason == "CrashLoopBackOff" && looping);
        return Some(Problem { reason: reason.to_owned(), message: format!("{place}: {detail}"), fatal });
    }
    // One that runs again after it ended and is not ready yet tells how it ended: whoever looks between two crashes
    // learns as much as whoever looks after one.
    let again = container.running && container.last_exit.is_some();
    if (container.running && !again)
        || container.ready
        || pod.phase == PodPhase::Succeeded
        || (container.init && container.exit.as_ref().is_some_and(|exit| exit.code == 0))
    {
        return None;
    }
    let exit = exit?;
    let reason = if looping && !again { "CrashLoopBackOff" } else { "ContainerExited" };
    Some(Problem { reason: reason.into(), message: format!("{place}: {exit}"), fatal: looping && !again })
}

#[cfg(test)]
mod tests;
