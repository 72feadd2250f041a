//! A cluster that is ahead of the database: a failover or a restore lost the last rows, and what they told still serves.
//! It is adopted, never redone: what runs is rendered again, and if that is exactly what serves, it is written down. If not,
//! nothing is touched, and a person decides.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::recall;
use crate::{
    api::{Project, Stage, StageStatus},
    cluster::{
        index::{StageChildren, StageKey, View as _},
        workload,
    },
    controllers::{
        context::Context,
        deploy::{
            Target,
            ledger::Ledger,
            record::{self, Moved},
            settle,
        },
        error::Error,
    },
    domain::{
        actor::Actor,
        deploy::{State, overtaken},
        release::{Release, ReleaseImage},
        secret::SecretVersions,
    },
    render::{Identity, Snapshot, names},
    store::{Adopted, Creation, NewAuditEntry, StoreError},
};

/// What the cluster tells of a deploy that the ledger does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Its id.
    pub deploy: Uuid,
    /// What serves, if that is its doing; else it never got so far, and what serves is known.
    pub serving: Option<Serving>,
}

/// An instance that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Its name.
    pub instance: String,
    /// Beginning of the hash of the snapshot that its pods run.
    pub revision: String,
}

/// Compares what the status and the workloads tell with the ledger. Ids grow with time, so one that is not later than the
/// latest known deploy is merely one that was pruned.
pub fn ahead(status: Option<&StageStatus>, ledger: &Ledger, children: &StageChildren) -> Option<Ahead> {
    let told = status.and_then(|status| status.deploy.as_ref());
    let active = || status.and_then(|status| status.active.as_deref());
    let instance = settle::serving(children).next().or_else(active);
    let workloads = || {
        let name = instance.unwrap_or_default();
        children.workloads().filter(move |view| view.meta.instance.as_deref() == Some(name) && !view.meta().deleting)
    };
    let is_lost = |id: &Uuid| !ledger.knows(*id) && ledger.latest().is_none_or(|latest| latest.id < *id);
    let latest = told.and_then(|deploy| deploy.id.parse().ok()).filter(is_lost);
    let succeeded = latest.filter(|_| told.is_some_and(|deploy| deploy.state == State::Success.camel()));
    let made = workloads().filter_map(|view| view.meta.deploy.as_deref()?.parse().ok()).filter(is_lost).max();
    let revision = workloads().find_map(|view| view.meta.snapshot.as_deref());
    let recorded =
        |revision: &str| ledger.good.as_ref().is_some_and(|good| names::revision(&good.deploy.snapshot) == revision);
    let serving = match (instance, revision) {
        (Some(instance), Some(revision)) if !recorded(revision) => {
            Some(Serving { instance: instance.to_owned(), revision: revision.to_owned() })
        }
        _ => None,
    };
    match (succeeded.max(made), serving) {
        (Some(deploy), Some(serving)) => Some(Ahead { deploy, serving: Some(serving) }),
        (deploy, _) => latest.max(deploy).map(|deploy| Ahead { deploy, serving: None }),
    }
}

/// Renders what serves again, from today's declarations and the images that its workloads run (by service). An error says
/// why that is not possible, or not the same.
pub fn rebuild(
    serving: &Serving,
    project: Option<&Project>,
    stage: &Stage,
    key: &StageKey,
    images: &BTreeMap<String, String>,
    secrets: &SecretVersions,
) -> Result<Snapshot, String> {
    let Some(project) = project else {
        return Err(format!("the Project {} does not exist", stage.spec.project));
    };
    let image = |reference: &String| {
        let (repository, digest) = reference.rsplit_once('@')?;
        Some(ReleaseImage { repository: repository.to_owned(), tag: None, digest: digest.to_owned() })
    };
    let mut release =
        Release(images.iter().filter_map(|(service, reference)| Some((service.clone(), image(reference)?))).collect());
    remember_tags(&mut release, stage.status.as_ref());
    let identity = Identity {
        namespace: key.namespace.to_string(),
        home: stage.metadata.namespace.clone().filter(|home| **home != *key.namespace),
        project: stage.spec.project.clone(),
        stage: key.name.to_string(),
    };
    let snapshot =
        Snapshot::build(identity, &project.spec, &stage.spec, release, secrets).map_err(|why| why.to_string())?;
    if names::revision(&snapshot.hash()) == serving.revision && snapshot.instance() == serving.instance {
        Ok(snapshot)
    } else {
        Err("the Project or the Stage has changed since, so that today's declarations make something else".into())
    }
}

/// Digests decide what runs, but policies compare tags; the status tells those of the release that it names.
fn remember_tags(release: &mut Release, status: Option<&StageStatus>) {
    let Some(status) = status.filter(|status| status.release.as_ref() == Some(&release.id().0)) else {
        return;
    };
    for (service, tag) in status.images.iter().flat_map(|text| text.split(", ")).filter_map(|one| one.split_once(':')) {
        if let Some(image) = release.0.get_mut(service).filter(|_| !tag.ends_with('…')) {
            image.tag = Some(tag.to_owned());
        }
    }
}

/// Brings the ledger up to what the cluster serves. Returns why that cannot be done; then nothing may be touched.
/// `insisted` is an explicit request to deploy anew whatever is there.
pub async fn adopt(
    ctx: &Context,
    stage: &Stage,
    project: Option<&Project>,
    target: &Target<'_>,
    ledger: &mut Ledger,
    insisted: bool,
) -> Result<Option<String>, Error> {
    let children = ctx.index.stage(&target.place);
    let Some(Ahead { deploy, serving }) = ahead(stage.status.as_ref(), ledger, &children) else {
        return Ok(None);
    };
    if ctx.store.deploy_get(deploy).await?.is_some() {
        return Ok(None);
    }
    let Some(serving) = serving else {
        note_gap(ctx, target, deploy, false).await?;
        return Ok(None);
    };
    let images = images(ctx, project, target, &serving).await?;
    let held = ctx.vault.of(&target.key.namespace, &stage.spec.project);
    let secrets = held.map(|held| held.versions.clone()).unwrap_or_default();
    match rebuild(&serving, project, stage, &target.place, &images, &secrets) {
        Ok(snapshot) => {
            write_down(ctx, target, ledger, deploy, &snapshot).await?;
            *ledger = recall::fresh(ctx, target.id).await?;
            Ok(None)
        }
        Err(_) if insisted => {
            note_gap(ctx, target, deploy, true).await?;
            Ok(None)
        }
        Err(why) => Ok(Some(format!(
            "instance {} serves by deploy {deploy}, which the database does not know: it was restored from an earlier state, \
             or is another one; and what serves cannot be rendered again: {why}. Nothing is changed. Give the operator the \
             right database, restore Project and Stage as they were, or deploy anew with the annotation \
             stagekeeper.dev/retry=<any new value>",
            serving.instance
        ))),
    }
}

/// What the workloads of the serving instance run, by service.
async fn images(
    ctx: &Context,
    project: Option<&Project>,
    target: &Target<'_>,
    serving: &Serving,
) -> Result<BTreeMap<String, String>, Error> {
    let mut images = BTreeMap::new();
    for service in project.iter().flat_map(|project| &project.spec.services) {
        let stage = &target.key.name;
        let name = match service.effective_scope() {
            crate::api::Scope::Instance => names::instance_service(stage, &service.name, &serving.instance),
            crate::api::Scope::Stage => names::stage_service(stage, &service.name),
        };
        let mut found = workload::images(&ctx.client, &target.place.namespace, &name).await?;
        images.extend(found.remove_entry(&service.name));
    }
    Ok(images)
}

/// Ends what is open, because it is older, and records what serves.
async fn write_down(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    deploy: Uuid,
    snapshot: &Snapshot,
) -> Result<(), Error> {
    let now = ctx.clock.now();
    while let Some(open) = ledger.open.first() {
        let (taken, close) = overtaken(&open.deploy, deploy);
        record::advance(ctx, target, ledger, 0, &taken, close, &Moved::default(), now).await?;
    }
    let found = adopted(target.id, ledger.next_sequence(), deploy, snapshot, now, ctx.term.epoch)?;
    match ctx.store.deploy_adopt(&found).await? {
        Creation::Created => {}
        Creation::Conflict => {
            return Err(StoreError::Conflict(format!("{} has a newer deploy", target.key)).into());
        }
    }
    tracing::warn!(%deploy, stage = %target.key, images = snapshot.release.summary(), "adopted what the cluster serves: the database had lost it");
    Ok(())
}

fn adopted(
    target: Uuid,
    sequence: i64,
    deploy: Uuid,
    snapshot: &Snapshot,
    now: Timestamp,
    epoch: i64,
) -> Result<Adopted, Error> {
    let hash = snapshot.hash();
    let content =
        snapshot.to_json().map_err(|error| Error::Snapshot { snapshot: hash.clone(), message: error.to_string() })?;
    Ok(Adopted {
        id: deploy,
        target,
        sequence,
        release: snapshot.release.clone(),
        snapshot_hash: hash,
        snapshot: content,
        instance: snapshot.instance(),
        hooks: snapshot.hooks.after_success.iter().map(|hook| hook.name.clone()).collect(),
        cause: format!("adopted: {} was found to serve, and the database did not know it", snapshot.release.summary()),
        now,
        epoch,
    })
}

/// A deploy that is lost for good: it is not what serves, or somebody asked to go over it.
async fn note_gap(ctx: &Context, target: &Target<'_>, deploy: Uuid, insisted: bool) -> Result<(), Error> {
    tracing::warn!(%deploy, stage = %target.key, "the cluster tells of a deploy that the database has lost");
    let entry = NewAuditEntry {
        at: ctx.clock.now(),
        actor: Actor::Controller,
        action: "deploy.lost".into(),
        subject: format!("deploy/{deploy}"),
        details: json!({"target": target.id, "stage": target.key.to_string(), "deployed_over": insisted}),
    };
    ctx.store.audit_append(&entry).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
