//! What a stage's declarations amounted to.

use std::sync::Arc;

use kube::ResourceExt as _;

use crate::{
    api::{Project, Stage},
    domain::{plan::Wanted, release::ReleaseId, secret::SecretVersions},
};

/// What the declarations amounted to when they were looked at last: most passes come from children and find the same
/// ones again, and then need neither check nor build anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What was looked at.
    pub of: Declared,
    /// The images that were found for it.
    pub release: ReleaseId,
    /// Hash of the snapshot that both make.
    pub hash: String,
}

/// Identity and generation of a stage's spec and its project's, and the versions of its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    stage: Option<i64>,
    project: Option<(String, i64)>,
    secrets: Arc<SecretVersions>,
}

impl Declared {
    /// Of these two.
    pub fn of(stage: &Stage, project: &Project, secrets: &Arc<SecretVersions>) -> Self {
        let project = project.uid().zip(project.metadata.generation);
        Self { stage: stage.metadata.generation, project, secrets: secrets.clone() }
    }
}

impl Checked {
    /// What follows from it, with or without an explicit request.
    pub fn wanted(&self, request: Option<String>) -> Wanted {
        Wanted { release: self.release.clone(), snapshot: self.hash.clone(), request }
    }
}
