//! Asking for another pass.

use std::{collections::HashMap, sync::Arc};

use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use super::{
    images::{PROJECT, Subscriber},
    vault::ProjectName,
};
use crate::{
    api::{Project, Stage},
    cluster::index::StageKey,
};

/// Asks for another pass of a stage or project in one set of namespaces.
#[derive(Debug, Clone)]
pub struct Trigger {
    stages: mpsc::UnboundedSender<ObjectRef<Stage>>,
    projects: mpsc::UnboundedSender<ObjectRef<Project>>,
}

impl Trigger {
    /// The asking end of two queues that the controllers read. The queues are drained at once into the controllers'
    /// own, which hold each object at most once.
    pub fn new(
        stages: mpsc::UnboundedSender<ObjectRef<Stage>>,
        projects: mpsc::UnboundedSender<ObjectRef<Project>>,
    ) -> Self {
        Self { stages, projects }
    }
}

/// Asks for another pass of any stage or project.
#[derive(Debug, Clone)]
pub struct Triggers(Arc<HashMap<String, Trigger>>);

impl Triggers {
    /// From triggers by namespace; the empty name stands for all others.
    pub fn new(by_namespace: HashMap<String, Trigger>) -> Self {
        Self(Arc::new(by_namespace))
    }

    /// Another pass of a stage. Nothing happens when the term is over.
    pub fn stage(&self, key: &StageKey) {
        if let Some(trigger) = self.of(&key.namespace) {
            let _ = trigger.stages.send(ObjectRef::new(&key.name).within(&key.namespace));
        }
    }

    /// Another pass of a project.
    pub fn project(&self, (namespace, name): &ProjectName) {
        if let Some(trigger) = self.of(namespace) {
            let _ = trigger.projects.send(ObjectRef::new(name).within(namespace));
        }
    }

    /// Another pass of whoever asked a registry something.
    pub fn subscriber(&self, (namespace, name): &Subscriber) {
        match name.strip_prefix(PROJECT) {
            None => self.stage(&StageKey::new(namespace.as_str(), name.as_str())),
            Some(project) => self.project(&(namespace.clone(), project.to_owned())),
        }
    }

    fn of(&self, namespace: &str) -> Option<&Trigger> {
        self.0.get(namespace).or_else(|| self.0.get(""))
    }
}
