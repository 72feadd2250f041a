//! Asking for a pass over a project's pull requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{ResourceExt as _, runtime::watcher::Event};
use tokio::sync::mpsc;

use crate::{
    api::{Environment, Project},
    controllers::vault::ProjectName,
};

/// Asks for passes. Cheap to clone.
#[derive(Clone)]
pub struct Bell {
    rung: mpsc::UnboundedSender<ProjectName>,
    /// UID and generation of the projects that were seen: their status is nothing to us.
    seen: Arc<Mutex<HashMap<ProjectName, Option<(String, i64)>>>>,
}

impl Bell {
    /// A bell, and who hears it.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ProjectName>) {
        let (rung, heard) = mpsc::unbounded_channel();
        (Self { rung, seen: Arc::default() }, heard)
    }

    /// Asks for a pass over a project. Nothing happens when the term is over.
    pub fn ring(&self, project: ProjectName) {
        let _ = self.rung.send(project);
    }

    /// Hears the watch of projects.
    pub fn projects(&self, event: &Event<Project>) {
        match event {
            Event::Apply(project) | Event::InitApply(project) => self.project(project, false),
            Event::Delete(project) => self.project(project, true),
            Event::Init => {}
            Event::InitDone => self.all(),
        }
    }

    /// Hears the watch of environments: each change of one, also of its status, asks for a pass over its project.
    pub fn environments(&self, event: &Event<Environment>) {
        match event {
            Event::Apply(one) | Event::InitApply(one) | Event::Delete(one) => {
                self.ring((one.namespace().unwrap_or_default(), one.spec.project.clone()));
            }
            Event::Init => {}
            Event::InitDone => self.all(),
        }
    }

    /// Asks for a pass over every project that was seen. A new list does not say what has gone since the one before.
    fn all(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for project in seen.keys() {
            self.ring(project.clone());
        }
    }

    /// Asks for a pass if a project has another spec than before, or is gone.
    fn project(&self, project: &Project, gone: bool) {
        let name = (project.namespace().unwrap_or_default(), project.name_any());
        let is = (!gone).then(|| (project.uid().unwrap_or_default(), project.metadata.generation.unwrap_or_default()));
        let was = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), is.clone());
        if was.as_ref() != Some(&is) {
            self.ring(name);
        }
    }
}
