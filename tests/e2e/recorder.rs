//! Everything that a namespace's pods went through, in the order in which it happened.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use stagekeeper::api::labels;

use crate::cluster::Env;

/// A pod at one instant.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Its name.
    pub name: String,
    /// The hook that it runs, as `before-start/migrate`; none for a pod of a workload.
    pub hook: Option<String>,
    /// The deploy that a hook's pod belongs to.
    pub deploy: Option<String>,
    /// The service that it is a pod of; none for a hook's pod.
    pub service: Option<String>,
    /// Its instance.
    pub instance: Option<String>,
    /// Its phase.
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Its image.
    pub image: String,
}

/// Watches the pods of a namespace from its making to its end.
pub struct Recorder {
    seen: Arc<Mutex<Vec<Sight>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Recorder {
    /// Begins.
    pub fn start(env: &Env) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        let pods = watcher(env.api::<Pod>(), watcher::Config::default()).default_backoff().applied_objects();
        let recorded = pods.try_for_each(move |pod| {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(sight(&pod));
            futures::future::ready(Ok(()))
        });
        let task = tokio::spawn(async move {
            // With a backoff the stream goes on after errors; it ends with the test.
            let _ = recorded.await;
        });
        Self { seen, task }
    }

    /// Everything so far.
    pub fn seen(&self) -> Vec<Sight> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When something was first seen, as a position.
    pub fn first(&self, what: &str, is: impl Fn(&Sight) -> bool) -> usize {
        let seen = self.seen();
        seen.iter().position(is).unwrap_or_else(|| panic!("never seen: {what}, in {seen:#?}"))
    }

    /// Names of the pods that ever ran a hook for a deploy.
    pub fn pods_of(&self, hook: &str, deploy: &str) -> BTreeSet<String> {
        let seen = self.seen().into_iter();
        seen.filter(|pod| pod.hook.as_deref() == Some(hook) && pod.deploy.as_deref() == Some(deploy))
            .map(|pod| pod.name)
            .collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn sight(pod: &Pod) -> Sight {
    let label = |key: &str| pod.labels().get(key).cloned();
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    Sight {
        name: pod.name_any(),
        hook: label(labels::HOOK).zip(label(labels::HOOK_NAME)).map(|(moment, name)| format!("{moment}/{name}")),
        deploy: label(labels::DEPLOY),
        service: label(labels::SERVICE),
        instance: label(labels::INSTANCE),
        phase: status.and_then(|status| status.phase.clone()).unwrap_or_default(),
        ready: conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True"),
        image: container.and_then(|container| container.image.clone()).unwrap_or_default(),
    }
}
