//! Asking for another pass.

use std::{collections::HashMap, sync::Arc};

use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use super::{
    environment::known::Lives,
    images::{PROJECT, Subscriber},
    vault::ProjectName,
};
use crate::{
    api::{Environment, Project, Stage},
    cluster::index::StageKey,
};

/// Asks for another pass of a stage or project in one set of namespaces.
#[derive(Debug, Clone)]
pub struct Trigger {
    stages: mpsc::UnboundedSender<ObjectRef<Stage>>,
    projects: mpsc::UnboundedSender<ObjectRef<Project>>,
    environments: mpsc::UnboundedSender<ObjectRef<Environment>>,
}

impl Trigger {
    /// The asking end of the queues that the controllers read. The queues are drained at once into the controllers'
    /// own, which hold each object at most once.
    pub fn new(
        stages: mpsc::UnboundedSender<ObjectRef<Stage>>,
        projects: mpsc::UnboundedSender<ObjectRef<Project>>,
        environments: mpsc::UnboundedSender<ObjectRef<Environment>>,
    ) -> Self {
        Self { stages, projects, environments }
    }
}

/// Asks for another pass of any stage, environment or project.
#[derive(Debug, Clone)]
pub struct Triggers {
    by_namespace: Arc<HashMap<String, Trigger>>,
    lives: Arc<Lives>,
}

impl Triggers {
    /// From triggers by namespace; the empty name stands for all others.
    pub fn new(by_namespace: HashMap<String, Trigger>, lives: Arc<Lives>) -> Self {
        Self { by_namespace: Arc::new(by_namespace), lives }
    }

    /// Another pass of a stage, or of the environment of that name or with objects there. Nothing happens when the term is
    /// over.
    pub fn stage(&self, key: &StageKey) {
        if let Some(home) = self.lives.at(key) {
            if let Some(trigger) = self.of(&home.namespace) {
                let _ = trigger.environments.send(ObjectRef::new(&home.name).within(&home.namespace));
            }
        } else if let Some(trigger) = self.of(&key.namespace) {
            let _ = trigger.stages.send(ObjectRef::new(&key.name).within(&key.namespace));
        }
    }

    /// Another pass of a project.
    pub fn project(&self, (namespace, name): &ProjectName) {
        if let Some(trigger) = self.of(namespace) {
            let _ = trigger.projects.send(ObjectRef::new(name).within(namespace));
        }
    }

    /// What is known of environments.
    pub fn lives(&self) -> &Arc<Lives> {
        &self.lives
    }

    /// Another pass of whoever asked a registry something.
    pub fn subscriber(&self, (namespace, name): &Subscriber) {
        match name.strip_prefix(PROJECT) {
            None => self.stage(&StageKey::new(namespace.as_str(), name.as_str())),
            Some(project) => self.project(&(namespace.clone(), project.to_owned())),
        }
    }

    fn of(&self, namespace: &str) -> Option<&Trigger> {
        self.by_namespace.get(namespace).or_else(|| self.by_namespace.get(""))
    }
}
